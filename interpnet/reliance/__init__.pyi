from ._collect import collect_contributions as collect_contributions
from ._contributions import Contributions as Contributions
from ._reader import ContributionReader as ContributionReader
from ._sums import ContributionSums as ContributionSums
