"""Pictures of a network as a whole: filters, activation maps, embeddings, and what its units answer to most.

They say what a network computes, not why it decided; :mod:`interpnet.explanation` has the patches that a channel
answers to most, :mod:`interpnet.explanation` and :mod:`interpnet.attribution` explain single images.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
