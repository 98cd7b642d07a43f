"""Attribution methods of the literature, to set beside the channel heatmaps."""

from __future__ import annotations

# Each of these enters its methods into the registry; methods() lists them in this order.
from interpnet.baselines import _gradients as _gradients  # isort: skip
from interpnet.baselines import _paths as _paths  # isort: skip
from interpnet.baselines import _perturbation as _perturbation  # isort: skip
from interpnet.baselines import _lrp as _lrp  # isort: skip
from interpnet.baselines import _deeplift as _deeplift  # isort: skip
from interpnet.baselines import _cam as _cam  # isort: skip
from interpnet.baselines import _controls as _controls  # isort: skip
from interpnet.baselines._attribute import AttributionWarning as AttributionWarning
from interpnet.baselines._attribute import attribute as attribute
from interpnet.baselines._attribute import attribute_full as attribute_full
from interpnet.baselines._attribute import methods as methods
from interpnet.baselines._call import Attribution as Attribution
from interpnet.baselines._call import AttributionCall as AttributionCall
from interpnet.baselines._registry import Method as Method
from interpnet.baselines._registry import find_method as find_method
