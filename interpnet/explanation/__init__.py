"""Explanations: heatmaps of channels, the channels behind one image, and the patches they respond to."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
