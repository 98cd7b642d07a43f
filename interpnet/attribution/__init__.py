"""Attribution methods of the literature, to set beside the channel heatmaps."""

from __future__ import annotations

# Each of these enters its methods into the registry; methods() lists them in this order.
from interpnet.attribution import _gradients as _gradients  # isort: skip
from interpnet.attribution import _paths as _paths  # isort: skip
from interpnet.attribution import _perturbation as _perturbation  # isort: skip
from interpnet.attribution import _lrp as _lrp  # isort: skip
from interpnet.attribution import _deeplift as _deeplift  # isort: skip
from interpnet.attribution import _cam as _cam  # isort: skip
from interpnet.attribution import _controls as _controls  # isort: skip
from interpnet.attribution import AttributionCall as AttributionCall
from interpnet.attribution._attribute import AttributionWarning as AttributionWarning
from interpnet.attribution._attribute import attribute as attribute
from interpnet.attribution._attribute import attribute_full as attribute_full
from interpnet.attribution._attribute import methods as methods
from interpnet.attribution._call import Attribution as Attribution
from interpnet.attribution._registry import Method as Method
from interpnet.attribution._registry import find_method as find_method
