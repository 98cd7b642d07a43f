"""Scores: the norm of every channel's map on every image, and the table that holds them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
