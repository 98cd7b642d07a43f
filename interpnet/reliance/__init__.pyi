from ._collect import collect_contributions as collect_contributions
from ._contributions import Contributions as Contributions
from ._measure import measure_reliance as measure_reliance
from ._reader import ContributionReader as ContributionReader
from ._relied import ENDS as ENDS
from ._relied import Reliance as Reliance
from ._relied import clear_order as clear_order
from ._sums import ContributionSums as ContributionSums
