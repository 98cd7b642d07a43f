"""Reliance: what every channel contributes to the log-odds of each class, and which channels a class relies on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
