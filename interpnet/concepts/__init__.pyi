from ._probe import ProbeResult as ProbeResult
from ._probe import probe as probe
from ._tcav import tcav as tcav
from ._tcav_result import ConceptWarning as ConceptWarning
from ._tcav_result import TcavResult as TcavResult
