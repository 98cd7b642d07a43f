"""All methods: importing this module enters every one of them into the registry, in the order of ``methods()``."""

from __future__ import annotations

from interpnet.attribution import _gradients as _gradients  # isort: skip
from interpnet.attribution import _paths as _paths  # isort: skip
from interpnet.attribution import _perturbation as _perturbation  # isort: skip
from interpnet.attribution._lrp import methods as _lrp_methods  # isort: skip # noqa: F401
from interpnet.attribution._deeplift import methods as _deeplift_methods  # isort: skip # noqa: F401
from interpnet.attribution import _cam as _cam  # isort: skip
from interpnet.attribution import _controls as _controls  # isort: skip
from interpnet.attribution._registry import METHODS as METHODS
from interpnet.attribution._registry import Method as Method
from interpnet.attribution._registry import find_method as find_method
