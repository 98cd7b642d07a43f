"""InterpNet: the channels a trained image classifier relies on for each class, tested and shown.

The public names are in ``__init__.pyi``, which is read when this module is imported: torch is loaded when a name
that needs it is first used. Every folder here is public in the same way; files with a leading underscore may change
at any time.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
