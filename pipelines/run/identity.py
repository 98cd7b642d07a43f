"""What two runs differ in, in words: each thing by its name, with both values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SHOWN = 12  # letters of a fingerprint
_LONGEST = 60  # letters of another value
# Of the manifest's entry of the model.
_MODEL = {
    "fingerprint": "the weights",
    "architecture": "what the network computes",
    "code": "the text of its file",
    "output": "the output taken",
    "kind": "the class of the network",
    "groups": "the outputs that are merged",
}
_FINGERPRINTS = ("fingerprint", "architecture", "code")


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return what the entries of two manifests (``model``, ``data``, ``collect``) differ in, as sentences' parts.

    Examples
    --------
    >>> differences({"collect": {"norm": "l2"}}, {"collect": {"norm": "l2sq"}})
    ["norm is 'l2' there and 'l2sq' here"]
    """
    found = []
    for name, old, new in _changed(there.get("model"), here.get("model")):
        if name in _MODEL:
            shown = (old, new)
            if name in _FINGERPRINTS:
                shown = (str(old)[:_SHOWN], str(new)[:_SHOWN])
            found.append(_said(_MODEL[name], *shown))
        if name == "classes":
            found += _classes(old, new)
    for split, words in (("train", "training"), ("test", "test")):
        old_split = _object(_object(there.get("data")).get(split))
        new_split = _object(_object(here.get("data")).get(split))
        for name in ("spec", "n_images", "fingerprint"):
            if name in old_split and old_split[name] != new_split.get(name):
                found.append(_said(f"{name} of the {words} images", old_split[name], new_split.get(name)))
        if split == "train":
            prepared = _changed(old_split.get("preprocessing"), new_split.get("preprocessing"))
            found += [_said(name, old, new) for name, old, new in prepared]
    return found + [_said(name, old, new) for name, old, new in _changed(there.get("collect"), here.get("collect"))]


def _said(name: str, old: Any, new: Any) -> str:
    return f"{name} is {_short(old)} there and {_short(new)} here"


def _short(value: Any) -> str:
    text = repr(value)
    if len(text) > _LONGEST:
        return f"{text[:_LONGEST]}..."
    return text


def _classes(old: Any, new: Any) -> Iterator[str]:
    pairs = zip(list(old or ()), list(new or ()), strict=False)
    changed = [f"class {i} is {a!r} there and {b!r} here" for i, (a, b) in enumerate(pairs) if a != b]
    if len(list(old or ())) != len(list(new or ())):
        changed.append(f"there are {len(old or ())} classes there and {len(new or ())} here")
    yield from changed[:3]


def _object(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    return {}


def _changed(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """Return (name, old, new) of the entries of both that differ."""
    before = _object(old)
    after = _object(new)
    return [(name, before[name], after[name]) for name in after if name in before and before[name] != after[name]]
