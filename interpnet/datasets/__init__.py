"""Images with labels: by name, from folders, from any torch Dataset, or generated with masks.

Names are loaded when first used: the processes that draw an8Flower need no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
