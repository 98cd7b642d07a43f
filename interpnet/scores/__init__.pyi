from ._collect import Loader as Loader
from ._collect import ScoreReader as ScoreReader
from ._collect import collect_scores as collect_scores
from ._collect import unpack as unpack
from ._table import ScoreTable as ScoreTable
