"""The sums that the mu-lasso needs of the data: ``X'X``, ``X'L`` and the sums of ``L^2``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
