from ._fit import interpret as interpret
from ._result import Interpretation as Interpretation
