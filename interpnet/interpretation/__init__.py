"""Which channels are relevant to each class: the mu-lasso's weights with their channels and classes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
