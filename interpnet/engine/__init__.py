"""The engine: it runs a network and lets others read, edit or redirect every operator call.

Nothing else registers hooks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
