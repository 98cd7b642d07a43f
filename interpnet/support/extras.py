"""Optional packages: imported where a method or rule needs one, or an error that says how to install it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from interpnet.errors import InterpNetError

# The optional packages, by the name they are imported under.
_INSTALLED_AS = {"skimage": "scikit-image"}


def require(package: str, wanted: str, *, extra: str = "methods") -> Any:
    """Import an optional package, or raise :class:`InterpNetError` that says how to install it.

    ``wanted`` is what needs it, such as ``"method='lime'"``, and ``extra`` of which extra it is.

    Examples
    --------
    >>> require("math", "method='demo'").__name__
    'math'
    """
    try:
        return import_module(package)
    except ImportError as error:
        known = _INSTALLED_AS.get(package.partition(".")[0], package)
        raise InterpNetError(
            f"{wanted} needs {known}, which is not installed here ({error}); run: pip install 'interpnet[{extra}]'"
        ) from error
