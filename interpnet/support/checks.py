"""Checks of arguments that many functions share; each names the argument, what came and what was expected."""

from __future__ import annotations

import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Concatenate, ParamSpec, TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError, did_you_mean
from interpnet.support.loops import refuse_batches

T = TypeVar("T")
P = ParamSpec("P")
_LARGEST_COUNT = 2**63 - 1


def is_whole(value: object) -> TypeGuard[int | np.integer[Any]]:
    """Whether ``value`` is a whole number, of Python's or numpy's kind; ``True`` and ``False`` are none.

    Examples
    --------
    >>> is_whole(3), is_whole(np.int64(3)), is_whole(True), is_whole(3.0)
    (True, True, False, False)
    """
    # To Python True is an int.
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether ``value`` is a real number (NaN and infinity are); ``True`` and ``False`` are none.

    Examples
    --------
    >>> is_number(0.5), is_number(np.float32(2)), is_number(True), is_number("2")
    (True, True, False, False)
    """
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def whole_number(
    value: Any,
    name: str,
    *,
    least: int | None = None,
    most: int | None = None,
    error: type[InterpNetError] = InterpNetError,
) -> int:
    """Return ``value`` as an int, or raise ``error`` where it is no whole number within the bounds.

    A count (``least`` of 1 or more) is at most the largest int64, for it ends as the size of an array.

    Examples
    --------
    >>> whole_number(np.int64(3), "steps", least=1)
    3
    """
    if most is None and least is not None and least >= 1 and is_whole(value) and value > _LARGEST_COUNT:
        most = _LARGEST_COUNT
    if is_whole(value) and (least is None or value >= least) and (most is None or value <= most):
        return int(value)
    bounds = "" if least is None else f" of at least {least}"
    if most is not None:
        bounds = f" of at most {most}" if least is None else f" from {least} to {most}"
    raise error(f"{name} is {value!r}; expected a whole number{bounds}")


def positive_number(value: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> float:
    """Return ``value`` as a float, or raise ``error`` where it is not a finite number above 0.

    Examples
    --------
    >>> positive_number(2, "mu")
    2.0
    """
    # NaN is not below infinity either.
    if is_number(value) and 0 < value < math.inf:
        return float(value)
    raise error(f"{name} is {value!r}; expected a number above 0")


def one_of(value: Any, name: str, known: Collection[str], *, error: type[InterpNetError] = InterpNetError) -> str:
    """Return ``value``, or raise ``error`` where it is none of the ``known`` names; close matches are named.

    Examples
    --------
    >>> one_of("l2", "norm", ("l2", "l2sq"))
    'l2'
    """
    if isinstance(value, str) and value in known:
        return value
    hint = did_you_mean(str(value), known)
    raise error(f"{name} is {value!r}; expected {' or '.join(map(repr, known))}{hint}")


def true_or_false(value: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> bool:
    """Return ``value`` as a bool, or raise ``error`` where it is neither ``True`` nor ``False``.

    Examples
    --------
    >>> true_or_false(np.True_, "positive")
    True
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise error(f"{name} is {value!r}; expected True or False")


def number(
    value: Any,
    name: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    error: type[InterpNetError] = InterpNetError,
) -> float:
    """Return ``value`` as a float, or raise ``error`` where it is not a finite number within the bounds.

    Examples
    --------
    >>> number(np.float32(0.5), "share", least=0, most=1)
    0.5
    """
    if is_number(value) and math.isfinite(value) and least <= value <= most:
        return float(value)
    bounds = "a number"
    if least > -math.inf and most < math.inf:
        bounds = f"a number from {least:g} to {most:g}"
    elif least > -math.inf:
        bounds = f"a number of at least {least:g}"
    raise error(f"{name} is {shown(value)}; expected {bounds}")


def text(value: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> str:
    """Return ``value``, or raise ``error`` where it is no string.

    Examples
    --------
    >>> text("scores", "key")
    'scores'
    """
    return instance_of(value, name, str, error=error)


def instance_of(
    value: Any, name: str, kind: type[T] | tuple[type[T], ...], *, error: type[InterpNetError] = InterpNetError
) -> T:
    """Return ``value``, or raise ``error`` where it is not of a ``kind``, or of one of several.

    Examples
    --------
    >>> instance_of("a", "name", (str, bytes))
    'a'
    """
    if isinstance(value, kind):
        return value
    kinds = kind if isinstance(kind, tuple) else (kind,)
    expected = " or ".join(one.__name__ for one in kinds)
    raise error(f"{name} is {shown(value)}, of type {type(value).__name__}; expected {expected}")


def optional(
    check: Callable[Concatenate[Any, str, P], T], value: Any, name: str, *args: P.args, **options: P.kwargs
) -> T | None:
    """Return ``None`` for ``None``, and what ``check(value, name, ...)`` returns for all else.

    Examples
    --------
    >>> optional(whole_number, None, "total", least=0), optional(whole_number, 3, "total", least=0)
    (None, 3)
    """
    return None if value is None else check(value, name, *args, **options)


def listed(values: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> list[Any]:
    """Return the entries of ``values``, or raise ``error`` where it is no list of several things (a string is one).

    Examples
    --------
    >>> listed((1, 2), "numbers")
    [1, 2]
    """
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
        return list(values)
    raise error(f"{name} is {shown(values)}; expected a list")


def distinct_names(values: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> tuple[str, ...]:
    """Return names as a tuple, or raise ``error`` where one is no string or stands twice.

    Examples
    --------
    >>> distinct_names(["cat", "dog"], "classes")
    ('cat', 'dog')
    """
    names = listed(values, name, error=error)
    for one in names:
        text(one, f"a name in {name}", error=error)
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise error(f"{name} has {twice!r} {names.count(twice)} times; every name must be its own")
    return tuple(names)


def shown(value: object, most: int = 80) -> str:
    """Return what came, as words that fit into a message.

    Examples
    --------
    >>> shown("yes"), shown(np.zeros((2, 3)))
    ("'yes'", 'an ndarray (2, 3) of float64')
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape and not isinstance(value, type):
        return f"an {type(value).__name__} {tuple(shape)} of {getattr(value, 'dtype', 'unknown type')}"
    words = repr(value)
    if len(words) <= most:
        return words
    return f"{words[:most]}..."


def real_array(value: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> npt.NDArray[Any]:
    """Return an array, list or tensor as a numpy array, or raise ``error`` where it holds no real numbers.

    Examples
    --------
    >>> real_array([[1, 2]], "points")
    array([[1, 2]])
    """
    refuse_masked(value, name, error=error)
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
        # numpy has no bfloat16.
        if str(getattr(value, "dtype", "")) == "torch.bfloat16":
            value = value.float()
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as failure:
        what = str(failure).splitlines()[0]
        raise error(f"{name} cannot be read as an array ({what}); expected a dense one of real numbers") from failure
    if array.dtype.kind not in "fiub":
        raise error(f"{name} is {shown(value)}, of type {array.dtype}; expected real numbers")
    return array


def refuse_masked(value: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> None:
    """Raise ``error`` where ``value`` is a numpy array with masked entries: what lies below the mask is no value.

    Examples
    --------
    >>> refuse_masked(np.ma.array([1, 2]), "X")
    """
    if not isinstance(value, np.ma.MaskedArray):
        return
    masked = int(np.ma.getmaskarray(value).sum())
    if masked:
        raise error(f"{name} has {masked} masked values; give it values, as X.filled(0) does")


def whole_numbers(value: Any, name: str, *, error: type[InterpNetError] = InterpNetError) -> npt.NDArray[np.int64]:
    """Return numbers of images or classes as an int64 array, or raise ``error`` where some are not whole.

    Examples
    --------
    >>> whole_numbers([0, 2], "rows")
    array([0, 2])
    """
    array = real_array(value, name, error=error)
    if array.size and array.dtype.kind not in "iu":
        raise error(f"{name} is {shown(value)}, of type {array.dtype}; expected whole numbers")
    return array.astype(np.int64)


# Their own checks know more: of the model's parts, of layouts and types of images, of what devices there are.
_CHECKED_ELSEWHERE = frozenset(
    {"self", "cls", "model", "images", "maps", "heatmaps", "masks", "gram", "device", "loader", "return"}
)


def check_kinds(owner: Any, values: Mapping[str, Any], *, but: Collection[str] = ()) -> None:
    """Refuse arguments of another kind than the annotations of ``owner``, a function or a dataclass, say.

    A public function calls it first, ``check_kinds(function, locals())``, so that text given for a flag, a fraction for
    a whole number, True for a number or NaN is one clear line. Annotations that name no kind (``Any``) accept all, and
    the arguments ``but`` have checks of their own.

    Examples
    --------
    >>> def cut(k: int, *, progress: bool = True) -> None:
    ...     check_kinds(cut, locals())
    >>> cut(2)
    >>> cut(2, progress="no")
    Traceback (most recent call last):
    ...
    interpnet.errors.InterpNetError: progress is 'no'; expected True or False
    """
    if "images" in values and inspect.isfunction(owner):
        annotation = str(owner.__annotations__.get("images"))
        if annotation.startswith("Tensor"):
            refuse_batches(owner, values["images"])
    for name, kinds in _kinds(owner).items():
        if name in values and name not in but and not any(_is_of(values[name], kind) for kind in kinds):
            expected = " or ".join(dict.fromkeys(map(_words, kinds)))
            raise InterpNetError(f"{name} is {shown(values[name])}; expected {expected}")


@cache
def _kinds(owner: Any) -> dict[str, tuple[Any, ...]]:
    """Return the kinds that each parameter takes, for those whose annotation says it."""
    function = inspect.unwrap(owner)
    names = getattr(function, "__globals__", None) or vars(sys.modules[function.__module__])
    found = {}
    for name, annotation in function.__annotations__.items():
        if name in _CHECKED_ELSEWHERE:
            continue
        one = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hint = typing.get_type_hints(one, names)[name]
        except NameError:
            # Imported for type checkers only: loading it here could bring torch along.
            continue
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) or _origin(hint) is typing.Union else (hint,)
        # numpy's ArrayLike is a union of protocols that isinstance cannot tell.
        if all(isinstance(_origin(kind) or kind, type) and kind not in {Any, object} for kind in kinds) and not any(
            (_origin(kind) or kind).__module__.startswith("numpy._typing") for kind in kinds
        ):
            found[name] = kinds
    return found


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind)


_LISTS = frozenset({Sequence, Iterable, list})
_SIMPLE: dict[Any, Callable[[Any], bool]] = {
    bool: lambda v: isinstance(v, bool | np.bool_),
    int: is_whole,
    # NaN is no number that anybody means.
    float: lambda v: is_number(v) and not math.isnan(v),
}
_KIND_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    type(None): "None",
    Callable: "a function",
}


def _is_of(value: Any, kind: Any) -> bool:
    if kind in _SIMPLE:
        return _SIMPLE[kind](value)
    origin = _origin(kind) or kind
    if origin not in _LISTS:
        return isinstance(value, origin)
    # Arrays and tensors are no Sequence to Python, and serve as well.
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        return False
    entry = (*typing.get_args(kind), None)[0]
    if isinstance(value, list | tuple) and isinstance(entry, type) and entry not in {Any, object}:
        return all(_is_of(one, entry) for one in value)
    return True


def _words(kind: Any) -> str:
    """Return a kind as words."""
    origin = _origin(kind) or kind
    if origin in _LISTS:
        entry = (*typing.get_args(kind), None)[0]
        return f"a list of {entry.__name__}" if isinstance(entry, type) and entry is not Any else "a list"
    return _KIND_WORDS.get(origin, str(origin.__name__))
