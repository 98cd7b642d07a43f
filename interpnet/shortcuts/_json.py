"""Findings in JSON: what a search found without its pictures, for a run folder and whoever reads it; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from interpnet.engine import Channel
from interpnet.errors import RunFolderError
from interpnet.shortcuts._example import Example
from interpnet.shortcuts._findings import (
    CarryingChannel,
    ClassFinding,
    DrawingChannel,
    Drawn,
    Findings,
    Group,
    GroupChannel,
    Grouped,
)
from interpnet.shortcuts._pasted import Moved, Pasted
from interpnet.support.checks import check_kinds
from interpnet.support.types import Float64

FORMAT = "interpnet-shortcuts-1"
_DIGITS = 6
# What an example keeps to itself: a picture is a file of its own.
_PICTURES = ("pictures", "places")
_MOVES = ("raised", "fell")
_SHOWN = ("pasted", "removed")


def findings_json(found: Findings) -> dict[str, Any]:
    """Return findings as dictionaries, lists and numbers; ``None`` stands for NaN, and pictures are left out.

    Parameters
    ----------
    found : Findings
        What :func:`interpnet.shortcuts.find` returned.

    Returns
    -------
    dict
        Its ``format`` is ``"interpnet-shortcuts-1"``; ``classes`` has an entry for each class, the most suspicious
        first, whose ``part`` is the name of its most suspicious part.

    Examples
    --------
    >>> import numpy as np
    >>> one = ClassFinding(0, "cat", "top left", "corner", 0.8, 0.7, 0.9, 0.1, 0.3, 0.6, 0.1, True, 50, (), ())
    >>> found = Findings((one,), ("top left",), np.array([[0.8]]), np.array([[0.7]]), np.array([[0.9]]), 6.0, 100)
    >>> findings_json(found)["classes"][0]["part"]
    'top left'
    >>> read_findings(findings_json(found)).of(0) == one
    True
    """
    check_kinds(findings_json, locals())
    return {
        "format": FORMAT,
        **{name: _plain(value) for name, value in _values(found).items() if name != "exchanger"},
        "classes": [_class_json(one) for one in found.classes],
        "grouped": [_grouped_json(one) for one in found.grouped],
        "drawn": [_drawn_json(one) for one in found.drawn],
        "inside": [_pasted_json(one) for one in found.inside],
    }


def read_findings(value: Any) -> Findings:
    """Read what :func:`findings_json` gave; an example's pictures are ``None``.

    Parameters
    ----------
    value : dict
        Or what ``json.loads`` made of its text.

    Returns
    -------
    Findings

    Raises
    ------
    RunFolderError
        Something else, or findings of a format that this version does not know.

    Examples
    --------
    >>> nothing = {"format": "interpnet-shortcuts-1", "classes": [], "parts": [], "passes": 6, "n": 0, "notes": []}
    >>> read_findings(nothing | {"shares": [], "low": [], "high": []}).suspicious
    ()
    """
    form = value.get("format") if isinstance(value, Mapping) else None
    if form != FORMAT:
        raise RunFolderError(
            f"findings of the format {form!r} came; expected {FORMAT!r}: search again (interpnet shortcuts RUN), or "
            "read them with the version that wrote them"
        )
    try:
        tables: dict[str, Any] = {name: _table(value[name]) for name in ("shares", "low", "high")}
        return Findings(
            classes=tuple(_class(entry) for entry in value["classes"]),
            parts=tuple(map(str, value["parts"])),
            passes=_number(value["passes"]),
            n=int(value["n"]),
            notes=tuple(map(str, value["notes"])),
            # Files of before these were looked for do not have them.
            drawn=tuple(_drawn(entry) for entry in value.get("drawn", ())),
            grouped=tuple(_grouped(entry) for entry in value.get("grouped", ())),
            inside=tuple(_pasted(entry) for entry in value.get("inside", ())),
            **tables,
        )
    except KeyError as error:
        raise RunFolderError(f"the findings lack {error}; search again (interpnet shortcuts RUN)") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"the findings cannot be read ({error}); search again (interpnet shortcuts RUN)"
        ) from error


def _values(one: Any) -> dict[str, Any]:
    return {entry.name: getattr(one, entry.name) for entry in fields(one)}


def _class_json(one: ClassFinding) -> dict[str, Any]:
    entry = _values(one) | {"channels": _channels_json(one.channels), "examples": _examples_json(one.examples)}
    return {name: _plain(value) for name, value in entry.items()}


def _grouped_json(one: Grouped) -> dict[str, Any]:
    groups = [_values(group) | {"channels": _channels_json(group.channels)} for group in one.groups]
    return {name: _plain(value) for name, value in (_values(one) | {"groups": groups}).items()}


def _drawn_json(one: Drawn) -> dict[str, Any]:
    entry = _values(one) | {"channels": _channels_json(one.channels)}
    return {name: _plain(value) for name, value in entry.items() if name != "common"}


def _pasted_json(one: Pasted) -> dict[str, Any]:
    moves = {name: _values(getattr(one, name)) for name in _MOVES}
    shown = {name: _examples_json(getattr(one, name)) for name in _SHOWN}
    entry = _values(one) | moves | shown | {"channel": [one.channel.layer, one.channel.index]}
    return {name: _plain(value) for name, value in entry.items()}


def _examples_json(examples: Sequence[Example]) -> list[dict[str, Any]]:
    return [{name: value for name, value in _values(e).items() if name not in _PICTURES} for e in examples]


def _channels_json(channels: Sequence[Any]) -> list[dict[str, Any]]:
    return [{**_values(c), "channel": [c.channel.layer, c.channel.index]} for c in channels]


def _class(entry: Mapping[str, Any]) -> ClassFinding:
    channels = _channels(CarryingChannel, entry)
    known = _read(ClassFinding, entry, but=("channels", "examples"))
    return ClassFinding(**known, channels=channels, examples=_examples(entry["examples"]))


def _pasted(entry: Mapping[str, Any]) -> Pasted:
    known = _read(Pasted, entry, but=("channel", *_MOVES, *_SHOWN))
    moves: dict[str, Any] = {name: Moved(**_read(Moved, entry[name], but=())) for name in _MOVES}
    shown: dict[str, Any] = {name: _examples(entry[name]) for name in _SHOWN}
    return Pasted(**known, **moves, **shown, channel=_channel(entry))


def _examples(entries: Sequence[Any]) -> tuple[Example, ...]:
    return tuple(Example(**_read(Example, e, but=_PICTURES), pictures=None, places=None) for e in entries)


def _drawn(entry: Mapping[str, Any]) -> Drawn:
    known = _read(Drawn, entry, but=("channels", "images", "places", "common"))
    places = tuple((int(row), int(column)) for row, column in entry["places"])
    images = tuple(int(number) for number in entry["images"])
    return Drawn(**known, channels=_channels(DrawingChannel, entry), images=images, places=places)


def _grouped(entry: Mapping[str, Any]) -> Grouped:
    first, second = (_group(group) for group in entry["groups"])
    return Grouped(**_read(Grouped, entry, but=("groups",)), groups=(first, second))


def _group(entry: Mapping[str, Any]) -> Group:
    channels = tuple(
        GroupChannel(**_read(GroupChannel, c, but=("channel",)), channel=_channel(c)) for c in entry["channels"]
    )
    return Group(int(entry["n"]), tuple(int(number) for number in entry["images"]), channels)


def _channel(entry: Mapping[str, Any]) -> Channel:
    return Channel(str(entry["channel"][0]), int(entry["channel"][1]))


def _channels(kind: type, entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the channels of an entry, as one of the two kinds that have channel and top classes."""
    return tuple(
        kind(
            **_read(kind, c, but=("channel", "top_classes")),
            channel=_channel(c),
            top_classes=_counts(c["top_classes"]),
        )
        for c in entry["channels"]
    )


def _counts(entries: Sequence[Any]) -> tuple[tuple[int, int], ...]:
    return tuple((int(k), int(count)) for k, count in entries)


_KINDS = {"int": int, "str": str, "bool": bool}


def _read(kind: type, entry: Mapping[str, Any], *, but: tuple[str, ...]) -> dict[str, Any]:
    """Return the plain fields of a class from JSON."""
    wanted: Any = [field for field in fields(kind) if field.name not in but]
    return {field.name: _KINDS.get(field.type, _number)(entry[field.name]) for field in wanted}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
    return value


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _table(rows: Any) -> Float64:
    return np.array([[_number(value) for value in row] for row in rows], dtype=np.float64)
