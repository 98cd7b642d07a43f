"""Shortcuts: what moves a network towards a class though a person would say that it must not."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
