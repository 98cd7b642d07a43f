"""Measures of heatmaps: against masks, against the network's own answers, against other classes and other weights."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
