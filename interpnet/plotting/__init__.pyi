from ._images import Picture as Picture
from ._images import enlarge as enlarge
from ._images import is_blank as is_blank
from ._images import outline as outline
from ._images import render as render
from ._images import save_png as save_png
from ._images import shared_scale as shared_scale
from ._images import tile as tile
