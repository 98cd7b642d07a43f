"""Settings that describe themselves: each field says what it is for, and help, checks and files follow from that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal, Self

from interpnet.errors import InterpNetError, did_you_mean

MU_EXPECTED = "a number above 0, or auto"
#: The parts of ``run.toml`` in order, each with the panel of ``--help`` that shows its options.
SECTIONS = {
    "model": "Model",
    "data": "Data",
    "collect": "Method and study",
    "solve": "Method and study",
    "ablate": "Method and study",
    "explain": "Pictures",
    "shortcuts": "Method and study",
    "concepts": "Pictures",
    "check": "Limits",
    "run": "Machine",
}
FOLDER = "Run folder"
#: The panels of ``--help`` in order; options without a panel come first.
PANELS = ("", FOLDER, *dict.fromkeys(SECTIONS.values()))


@dataclass(frozen=True)
class About:
    """What is known of a setting beside its type and default."""

    section: str  # its part of run.toml; empty for what is no setting of a run
    help: str  # what --help says; an empty one keeps it off the command line
    panel: str  # where --help shows it
    shown: str | None = None  # the default in words, where the value does not say it
    metavar: str = ""  # what stands for its value, where the type does not say it
    choices: tuple[str, ...] = ()  # all values there are; empty for any
    least: float | None = None  # the smallest number there is
    below: float = math.inf  # numbers stay below it
    expected: str = ""  # what an error about the range says; by default that of whole numbers
    names: str = ""  # as the command line calls it: "--positive/--signed"; a word without dashes is an argument
    required: bool = False  # whether the command line must give it


def setting(default: Any, help: str = "", *, section: str = "", panel: str | None = None, **about: Any) -> Any:  # noqa: A002
    """Return a field of a :class:`Settings` class; see :class:`About`."""
    if panel is None:
        panel = SECTIONS.get(section, "")
    return field(default=default, metadata={"about": About(section, help, panel, **about)})


def about(entry: Field[Any]) -> About:
    """Return what :func:`setting` noted about a field."""
    noted: About = entry.metadata["about"]
    return noted


def option(name: str) -> str:
    """Return how the command line calls a setting: ``--max-images`` for ``max_images``."""
    return "--" + name.replace("_", "-")


def radius(text: str, option: str = "--mu") -> float | Literal["auto"]:
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
        raise InterpNetError(f"{option} is {text!r}; expected {MU_EXPECTED}{did_you_mean(text, ['auto'])}") from error


def numbers(text: str, option: str, *, whole: bool = False) -> tuple[float, ...]:
    """Parse ``"0.5,0.5,0.4"``, or whole numbers such as ``"32"`` and ``"32x48"``.

    Examples
    --------
    >>> numbers("0.5,1", "--mean"), numbers("32x48", "--image-size", whole=True)
    ((0.5, 1.0), (32, 48))
    """
    try:
        if whole:
            return tuple(map(int, text.split("x")))
        return tuple(map(float, text.split(",")))
    except ValueError as error:
        example = {True: "224 or 224x320", False: "0.5 or 0.485,0.456,0.406"}[whole]
        raise InterpNetError(f"{option} is {text!r}; expected numbers such as {example}") from error


def _names(texts: Sequence[str], _option: str) -> tuple[str, ...]:
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


@dataclass(frozen=True)
class Kind:
    """What the values of one type are."""

    expected: str  # in words, for errors
    fits: Callable[[Any], bool]  # whether a value is one
    make: Callable[[Any], Any]  # TOML has lists and integers where the settings have tuples and floats
    metavar: str | None = None
    word: Any = str  # what the command line takes
    read: Callable[[Any, str], Any] = lambda word, _option: word  # a value of that word and the option's name


# As interpnet.support.checks has them, which would bring numpy along; --help must not wait for that.
def _is_whole(value: object) -> bool:
    # Numbers of 64 bits: libraries take no larger ones.
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _all(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return whether every item of a list fits; a text is no list."""
    return lambda value: isinstance(value, Sequence) and not isinstance(value, str) and all(map(fits, value))


_NAMES = Kind("a list of text", _all(lambda v: isinstance(v, str)), tuple, None, list[str], _names)
_KINDS = {
    "str": Kind("text", lambda v: isinstance(v, str), str),
    "bool": Kind("true or false", lambda v: isinstance(v, bool), bool, word=bool),
    "int": Kind("a whole number", _is_whole, int, "N", int),
    "float": Kind("a number", _is_number, float, "X", float),
    "float | Literal['auto']": Kind(
        MU_EXPECTED,
        lambda v: v == "auto" or (_is_number(v) and 0 < v < math.inf),
        lambda v: v if v == "auto" else float(v),
        "X|auto",
        read=radius,
    ),
    "tuple[int, ...]": Kind("whole numbers", _all(_is_whole), tuple, "N|HxW", read=partial(numbers, whole=True)),
    "tuple[float, ...]": Kind("numbers", _all(_is_number), lambda v: tuple(map(float, v)), "X[,X,X]", read=numbers),
    "tuple[str, ...]": _NAMES,
    "Sequence[str]": replace(_NAMES, read=lambda texts, _option: tuple(texts)),  # file names may hold commas
}


def kind(entry: Field[Any]) -> Kind:
    """Return the kind of a field's values, by its annotation."""
    return _KINDS[str(entry.type).removesuffix(" | None")]


def wrapped(entry: Field[Any], value: Any) -> Any:
    """Return a value as a program gives it in the form of a setting.

    One name or number stands for a list of one, a number for a name, and a dictionary for groups: ``{"dogs": ["beagle",
    "collie"]}`` is ``("dogs=beagle,collie",)``.
    """
    kinds = str(entry.type)
    if value is None or not kinds.startswith(("tuple", "Sequence")):
        return value
    if isinstance(value, Mapping) and kinds.startswith("Sequence"):
        return tuple(f"{name}={','.join(map(str, members))}" for name, members in value.items())
    if isinstance(value, str) or _is_number(value):
        value = [value]
    if isinstance(value, list | tuple) and "str" in kinds:
        return tuple(str(item) if _is_whole(item) else item for item in value)
    return tuple(value) if isinstance(value, list) else value


def _checked(entry: Field[Any], value: Any) -> Any:
    """Return a field's value as its annotation wants it, or say what was expected."""
    if value is None and str(entry.type).endswith("| None"):
        return None
    known = about(entry)
    name = option(entry.name)
    kind_of = kind(entry)
    if not kind_of.fits(value):
        raise InterpNetError(f"{name} is {value!r}; expected {kind_of.expected}")
    # A zero byte would end a path early in some calls and be an error in others.
    if "\0" in str(value):
        raise InterpNetError(f"{name} is {value!r}; no name or path holds a zero byte")
    if known.choices and value not in known.choices:
        hint = did_you_mean(value, known.choices)
        if known.names and not known.names.startswith("-"):  # an argument, which has a place and no dashes
            name = known.names
        raise InterpNetError(f"{name} is {value!r}; expected {' or '.join(known.choices)}{hint}")
    # Written so that NaN is refused, too.
    if known.least is not None and not known.least <= value < known.below:
        expected = known.expected or f"a whole number of at least {known.least}"
        if not known.expected and known.below < math.inf:
            expected = f"a whole number from {known.least} to {known.below - 1:.0f}"
        raise InterpNetError(f"{name} is {value}; expected {expected}")
    return kind_of.make(value)


@dataclass(frozen=True)
class Settings:
    """Fields made by :func:`setting`; ``InterpNetError`` for a value of the wrong type, out of range, or no choice."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            object.__setattr__(self, entry.name, _checked(entry, getattr(self, entry.name)))

    def override(self, given: Mapping[str, Any]) -> Self:
        """Return a copy with the values of ``given`` that are not ``None``."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Given:
    """The settings that somebody gave on the command line, by name; what was not given is missing."""

    values: Mapping[str, Any]

    @classmethod
    def read(cls, entries: Sequence[Field[Any]], words: Mapping[str, Any]) -> Given:
        """Parse the words of the command line for some fields; ``None`` and an empty list mean not given."""
        said = [entry for entry in entries if words.get(entry.name) not in (None, [])]
        for entry in said:
            if words[entry.name] == "":
                name = about(entry).names or option(entry.name)
                raise InterpNetError(f"{name} is empty; give it a value, or leave it out")
        return cls({entry.name: kind(entry).read(words[entry.name], option(entry.name)) for entry in said})
