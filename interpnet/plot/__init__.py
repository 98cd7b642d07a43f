"""Figures of results: a function for each, one look, with the numbers that they show.

Each function takes a result of this library and returns a matplotlib ``Figure`` that belongs to no window.
:func:`draw` finds the function for a result. :func:`save` writes a figure as PNG and SVG with its numbers as CSV,
:func:`data` returns these. Colours can be told apart with every common colour blindness. Nothing here touches pyplot,
so they work without a display and leave the caller's figures and settings alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
