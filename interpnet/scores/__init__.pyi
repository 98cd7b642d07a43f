from ._batches import Loader as Loader
from ._batches import unpack as unpack
from ._collect import collect_scores as collect_scores
from ._reader import ScoreReader as ScoreReader
from ._reader import sites_of as sites_of
from ._table import ScoreTable as ScoreTable
