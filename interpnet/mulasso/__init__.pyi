from ._breakpoints import BreakPoints as BreakPoints
from ._breakpoints import mulasso_breakpoints as mulasso_breakpoints
from ._cross_validation import MuLassoCV as MuLassoCV
from ._estimator import MuLasso as MuLasso
from ._path import mulasso_path as mulasso_path
from ._selection_curve import SelectionCurve as SelectionCurve
from ._stability import Stability as Stability
from ._stability import stability_selection as stability_selection
