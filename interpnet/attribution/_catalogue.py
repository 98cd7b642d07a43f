"""All methods: importing this module enters every one of them into the registry, in the order of ``methods()``."""

from __future__ import annotations

# isort: off
from interpnet.attribution import _gradients  # noqa: F401
from interpnet.attribution import _paths  # noqa: F401
from interpnet.attribution import _perturbation  # noqa: F401
from interpnet.attribution import _relevance  # noqa: F401
from interpnet.attribution._deeplift import methods as _deeplift_methods  # noqa: F401
from interpnet.attribution import _cam  # noqa: F401
from interpnet.attribution import _controls  # noqa: F401
# isort: on

from interpnet.attribution._registry import METHODS, Method, find_method

__all__ = ["METHODS", "Method", "find_method"]
