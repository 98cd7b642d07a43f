"""Attribution methods of the literature, to set beside the channel heatmaps."""

from __future__ import annotations

from interpnet.baselines._attribute import Method as Method
from interpnet.baselines._attribute import attribute as attribute
from interpnet.baselines._attribute import methods as methods
