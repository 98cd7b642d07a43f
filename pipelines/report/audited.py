"""What was audited: the manifest's facts in a reader's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ..run.config import PYTHON
from .load import RunData, clean

Rows = list[tuple[str, str]]

_SKIPPED_SHOWN = 50  # images left out; manifest.json holds all
_LISTED = 20  # items of a list
MODEL_FACTS = {
    "spec": "Network",
    "weights": "Weights",
    "fingerprint": "Fingerprint",
    "n_parameters": "Parameters",
    "n_layers": "Layers read",
    "n_channels": "Channels read",
    "n_outputs": "Outputs",
    "output": "Output taken",
    "groups": "Outputs merged",
    "outputs": "Kind of outputs",
}
DATA_FACTS = {
    "spec": "Data",
    "split": "Split",
    "n_images": "Images",
    "labels_per_image": "Labels per image",
    "without_label": "Images without a label",
    "fingerprint": "Fingerprint",
    "preprocessing": "Preparation",
    "first_look": "First look",
    "empty_classes": "Classes without images",
}
FIELD_FACTS = {"spec": "Folder", "n_images": "Images looked at", "key": "Fingerprint"}
_SOFTWARE = {"interpnet": "InterpNet"} | {
    name: name.capitalize() for name in ("versions", "platform", "device", "seed", "created")
}


def title(run: RunData) -> str:
    """Return the page's title: the model and the data, without their folders."""
    model = run.entry("model").get("spec") or "a model"
    data = run.entry("data", "train").get("spec") or "its data"
    return f"{short_name(str(model))} on {short_name(str(data))}"


def short_name(spec: str) -> str:
    """Return a model's or data set's specification without its folders."""
    kind, separator, rest = spec.partition(":")
    if kind in {"imagefolder", "csv", "webdataset", "hf", "python"} and separator:
        spec = rest
    elif ".py" in kind and separator:
        return clean(rest)
    return clean(PurePath(spec).name or spec)


def audited(run: RunData) -> dict[str, Rows]:
    """Return (what, value) for the model, the data and the machine; sections of which nothing is known are left out."""
    versions = [f"{name} {number}" for name, number in run.entry("versions").items()]
    software = {
        **run.manifest,
        "versions": ", ".join(versions),
        "seed": str(run.manifest.get("seed", "")),
        "created": str(run.manifest.get("created") or "").replace("T", " "),
    }
    train = dict(run.entry("data", "train"))
    train["first_look"] = run.entry("stages", "collect", "first_look").get("words")
    test = dict(run.entry("data", "test"))
    if test and test.get("fingerprint") == train.get("fingerprint"):
        test["split"] = "the training images, for there is no test split"
    model = dict(run.entry("model"))
    if model.get("weights") is None:
        model["weights"] = _unnamed_weights(str(model.get("spec", "")))
    model["groups"] = [f"{name}: {_value(members)}" for name, members in run.entry("model", "groups").items()]
    field = dict(run.entry("stages", "shortcuts", "field"))
    if field:
        field["n_images"] = f"{field['n_images']} of {field['of']}"
    sections = {
        "Model": fact_rows(model, MODEL_FACTS),
        "Training images": fact_rows(train, DATA_FACTS),
        "Test images": fact_rows(test, DATA_FACTS),
        "Images from the field": fact_rows(field, FIELD_FACTS),
        "Software": fact_rows(software, _SOFTWARE),
    }
    return {name: rows for name, rows in sections.items() if rows}


def _unnamed_weights(spec: str) -> str:
    """Return in words which weights a network has that was given none by name; empty for the published default."""
    if spec.startswith(PYTHON):
        return "those of the program that called audit()"
    if ".py:" in spec:
        return "those that the function of the file makes or loads (no --weights)"
    return ""


def fact_rows(entry: Mapping[str, Any], labels: Mapping[str, str]) -> Rows:
    """Return (label, value) for the entries there are, as text."""
    return [(label, _value(entry[key])) for key, label in labels.items() if entry.get(key) not in (None, "", [], {})]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return clean("; ".join(f"{key} {_value(v)}" for key, v in value.items() if v is not None))
    if isinstance(value, Sequence) and not isinstance(value, str):
        listed = clean(", ".join(_value(v) for v in value[:_LISTED]))
        return f"{listed} …" if len(value) > _LISTED else listed
    return clean(value)


def skipped_images(run: RunData) -> list[tuple[str, str, str]]:
    """Return (split, image, reason) of what could not be read; at most fifty, and a last row saying how many more."""
    rows = [
        (words, clean(name), clean(reason))
        for split, words in (("train", "training"), ("test", "test"))
        for _, name, reason in run.entry("data", split).get("skipped") or ()
    ]
    field = run.entry("stages", "shortcuts", "field").get("skipped") or ()
    rows += [("field", clean(name), clean(reason)) for _, name, reason in field]
    more = len(rows) - _SKIPPED_SHOWN
    if more > 0:
        rows[_SKIPPED_SHOWN:] = [("", f"and {more} more", "see manifest.json")]
    return rows
