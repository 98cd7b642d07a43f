from ._find import find as find
from ._findings import CarryingChannel as CarryingChannel
from ._findings import ClassFinding as ClassFinding
from ._findings import Example as Example
from ._findings import Findings as Findings
from ._overlay import OverlayProbe as OverlayProbe
from ._overlay import overlaid as overlaid
from ._overlay import overlay_probe as overlay_probe
