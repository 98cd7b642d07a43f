"""The application on top of the library: an audit as a whole, from Python and from the command line."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
