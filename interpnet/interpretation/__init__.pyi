from ._fit import interpret as interpret
from ._result import CHOICES as CHOICES
from ._result import IDENTIFICATIONS as IDENTIFICATIONS
from ._result import Interpretation as Interpretation
