from ._overlay import OverlayProbe as OverlayProbe
from ._overlay import overlaid as overlaid
from ._overlay import overlay_probe as overlay_probe
