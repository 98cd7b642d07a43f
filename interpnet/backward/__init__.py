"""Backward rules: how a signal is sent from a channel or an output back to the image."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
