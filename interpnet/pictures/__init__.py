"""Pictures of a network as a whole: filters, activation maps, embeddings, and what its units answer to most.

They say what a network computes, not why it decided; :mod:`interpnet.explanation` has the patches that a channel
answers to most, :mod:`interpnet.explanation` and :mod:`interpnet.attribution` explain single images.
"""

from interpnet.pictures._embedding import Embedding as Embedding
from interpnet.pictures._embedding import embed as embed
from interpnet.pictures._filters import Filters as Filters
from interpnet.pictures._filters import filter_tiles as filter_tiles
from interpnet.pictures._filters import filters as filters
from interpnet.pictures._maps import activation_maps as activation_maps
from interpnet.pictures._maximise import Maximised as Maximised
from interpnet.pictures._maximise import maximise as maximise
from interpnet.pictures._neighbours import nearest_images as nearest_images
from interpnet.pictures._neighbours import tsne as tsne
from interpnet.pictures._sheets import filter_sheet as filter_sheet
from interpnet.pictures._sheets import map_sheet as map_sheet
from interpnet.pictures._sheets import picture_plane as picture_plane

__all__ = [
    "Embedding",
    "Filters",
    "Maximised",
    "activation_maps",
    "embed",
    "filter_sheet",
    "filter_tiles",
    "filters",
    "map_sheet",
    "maximise",
    "nearest_images",
    "picture_plane",
    "tsne",
]
