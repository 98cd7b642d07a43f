from ._result import Interpretation as Interpretation
from ._result import interpret as interpret
