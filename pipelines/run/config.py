"""Everything that defines a run, in one value: from the command line, to ``run.toml`` and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from interpnet.errors import InterpNetError, RunFolderError, did_you_mean
from interpnet.support.io import write_text

from .toml_text import Table, read_toml, to_toml

_SECTIONS = ("model", "data", "collect", "solve", "ablate", "explain", "run")
MU_EXPECTED = "a number above 0, or auto"
#: Methods that need no network, shown beside every other: a map like theirs says nothing of it.
CONTROLS = ("edge", "random", "center")
_COMMENT = "Replay this run with: interpnet audit --config THIS_FILE --out runs/ANOTHER_NAME"
_CHOICES = {
    "on_bad_image": ("fail", "skip"),
    "norm": ("l2", "l2sq"),
    "fit_on": ("auto", "labels", "predictions"),
    "class_weight": ("none", "balanced"),
    "fill": ("zero", "mean"),
    "rectifier": ("guided", "deconvnet", "gradient"),
    "reduction": ("abs", "positive", "max"),
}
_LEAST = {
    "num_classes": 1, "max_images": 1, "stability": 0, "repeats": 1, "max_ablation_images": 1, "examples": 0,
    "misclassified": 0, "k": 1, "max_channels": 1, "top": 1, "seed": 0, "batch_size": 1, "workers": 0,
}  # fmt: skip


def _in(section: str, default: Any) -> Any:
    return field(default=default, metadata={"section": section})


@dataclass(frozen=True)
class RunConfig:
    """The settings of a run; ``interpnet audit --help`` explains each.

    Raises
    ------
    InterpNetError
        A value of the wrong type, out of range, or not among the choices.

    Examples
    --------
    >>> RunConfig(model="smallcnn", data="digits", mu=5.0).override({"mu": 20.0, "k": None}).mu
    20.0
    """

    model: str = _in("model", "")
    weights: str | None = _in("model", None)
    num_classes: int | None = _in("model", None)
    output: str | None = _in("model", None)
    data: str = _in("data", "")
    data_root: str | None = _in("data", None)
    classes: str | None = _in("data", None)
    image_size: tuple[int, ...] | None = _in("data", None)
    crop: tuple[int, ...] | None = _in("data", None)
    mean: tuple[float, ...] | None = _in("data", None)
    std: tuple[float, ...] | None = _in("data", None)
    channels: int | None = _in("data", None)
    on_bad_image: str = _in("data", "fail")
    layers: tuple[str, ...] = _in("collect", ("default",))
    norm: str = _in("collect", "l2")
    max_images: int | None = _in("collect", None)
    mu: float | Literal["auto"] = _in("solve", 10.0)
    positive: bool = _in("solve", False)
    fit_on: str = _in("solve", "auto")
    class_weight: str = _in("solve", "none")
    stability: int = _in("solve", 0)
    repeats: int = _in("ablate", 10)
    fill: str = _in("ablate", "zero")
    max_ablation_images: int | None = _in("ablate", None)
    k: int = _in("explain", 3)
    examples: int = _in("explain", 2)
    misclassified: int = _in("explain", 10)
    max_channels: int = _in("explain", 12)
    top: int = _in("explain", 100)
    rectifier: str = _in("explain", "guided")
    resample: bool = _in("explain", True)
    reduction: str = _in("explain", "abs")
    methods: tuple[str, ...] = _in("explain", ("gradient", "guided", "gradcam++"))
    seed: int = _in("run", 0)
    device: str = _in("run", "auto")
    batch_size: int = _in("run", 64)
    workers: int = _in("run", 0)
    directory: str | None = _in("run", None)

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None or "None" not in str(entry.type):
                object.__setattr__(self, entry.name, _coerced(entry.name, value, str(entry.type)))
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise InterpNetError(
                    f"{_option(name)} is {value!r}; expected {' or '.join(known)}{did_you_mean(value, known)}"
                )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise InterpNetError(f"{_option(name)} is {value}; expected a whole number of at least {least}")
        if not self.layers:
            raise InterpNetError("--layers is empty; expected default, conv, all, or names of layers")

    def override(self, given: Mapping[str, Any]) -> RunConfig:
        """Return a copy with the values of ``given`` that are not ``None``."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def section(self, name: str) -> dict[str, Any]:
        """Return the settings of one section, for a key; JSON-able, ``None`` included."""
        return {
            entry.name: list(value) if isinstance(value := getattr(self, entry.name), tuple) else value
            for entry in fields(self)
            if entry.metadata["section"] == name
        }

    def path(self, written: str) -> str:
        """Return a path of the configuration as it can be opened from here.

        A relative path is tried from the current folder, then from the one the run was started in.
        """
        if Path(written).exists() or self.directory is None:
            return written
        there = Path(self.directory) / written
        return str(there) if there.exists() else written

    def save(self, path: Path) -> None:
        """Write the settings as TOML; what is not set is left out."""
        tables: dict[str, Table] = {
            name: {key: value for key, value in self.section(name).items() if value is not None} for name in _SECTIONS
        }
        write_text(path, to_toml(tables, _COMMENT))

    @classmethod
    def load(cls, path: Path) -> RunConfig:
        """Read what :meth:`save` wrote, or a file written by hand.

        Raises
        ------
        RunFolderError
            Unreadable, or a section or setting that does not exist (close matches are named).
        InterpNetError
            A value that cannot be.
        """
        known = {entry.name: entry.metadata["section"] for entry in fields(cls)}
        given: dict[str, Any] = {}
        for section, table in read_toml(path).items():
            if section not in _SECTIONS:
                raise RunFolderError(
                    f"configuration {str(path)!r}: unknown section [{section}]{did_you_mean(section, _SECTIONS)}"
                )
            for name, value in table.items():
                if known.get(name) != section:
                    here = [key for key, where in known.items() if where == section]
                    raise RunFolderError(
                        f"configuration {str(path)!r}: section [{section}] has no setting {name!r}"
                        f"{did_you_mean(name, here)}; it has {', '.join(here)}"
                    )
                given[name] = value
        return cls(**given)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _coerced(name: str, value: Any, annotation: str) -> Any:
    """Check ``value`` against a field's annotation; TOML's lists become tuples and its integers floats."""
    kind = annotation.removesuffix(" | None")
    checks: dict[str, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
        "str": ("text", lambda v: isinstance(v, str), str),
        "bool": ("true or false", lambda v: isinstance(v, bool), bool),
        "int": ("a whole number", _is_int, int),
        "float | Literal['auto']": (MU_EXPECTED, _is_mu, lambda v: v if v == "auto" else float(v)),
        "tuple[int, ...]": ("whole numbers", lambda v: _is_list(v) and all(map(_is_int, v)), tuple),
        "tuple[float, ...]": (
            "numbers",
            lambda v: _is_list(v) and all(map(_is_number, v)),
            lambda v: tuple(map(float, v)),
        ),
        "tuple[str, ...]": (
            "a list of text",
            lambda v: _is_list(v) and all(isinstance(item, str) for item in v),
            tuple,
        ),
    }
    expected, fits, make = checks[kind.replace('"', "'")]
    if not fits(value):
        raise InterpNetError(f"{_option(name)} is {value!r}; expected {expected}")
    return make(value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_mu(value: object) -> bool:
    return value == "auto" or (isinstance(value, int | float) and _is_number(value) and 0 < value < math.inf)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def radius(text: str) -> float | Literal["auto"]:
    """Parse the text of ``--mu``: a number above 0, or ``auto``.

    Examples
    --------
    >>> radius("5"), radius("auto")
    (5.0, 'auto')
    """
    if text == "auto":
        return "auto"
    try:
        return float(text)  # its range is checked with all other settings
    except ValueError as error:
        raise InterpNetError(f"--mu is {text!r}; expected {MU_EXPECTED}{did_you_mean(text, ['auto'])}") from error


def numbers(text: str, option: str, *, whole: bool = False, separator: str = ",") -> tuple[float, ...]:
    """Parse ``"0.5,0.5,0.4"``, or whole numbers such as ``"32"`` and ``"32x48"``.

    Examples
    --------
    >>> numbers("32x48", "--image-size", whole=True, separator="x")
    (32, 48)
    """
    try:
        return tuple(int(part) if whole else float(part) for part in text.split(separator))
    except ValueError as error:
        example = "224 or 224x320" if separator == "x" else "0.5 or 0.485,0.456,0.406"
        raise InterpNetError(f"{option} is {text!r}; expected numbers such as {example}") from error
