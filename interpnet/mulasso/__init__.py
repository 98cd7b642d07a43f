"""The mu-lasso: least squares under a bound on the L1 norm, its solver, and how its bound is chosen."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
