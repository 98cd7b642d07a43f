"""What was audited, with what and when: the manifest in a reader's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from .load import RunData, clean
from .views import number_text

_STAGES = ("collect", "solve", "ablate", "explain", "report")
_SKIPPED_SHOWN = 50

Rows = list[tuple[str, str]]


def title(run: RunData) -> str:
    """Return the page's title: the model and the data, without their folders."""
    model = short_name(str((run.manifest.get("model") or {}).get("spec") or "a model"))
    data = short_name(str(((run.manifest.get("data") or {}).get("train") or {}).get("spec") or "its data"))
    return f"{model} on {data}"


def short_name(spec: str) -> str:
    """Return a model's or data set's specification without its folders."""
    kind, separator, rest = spec.partition(":")
    if kind == "imagefolder" and separator:
        return clean(PurePath(rest).name or rest)
    if ".py" in kind and separator:
        return clean(rest)
    return clean(PurePath(spec).name or spec)


def audited(run: RunData) -> list[tuple[str, Rows]]:
    """Return sections of (what, value) for the model, the data, the method and the machine."""
    manifest = run.manifest
    model = manifest.get("model") or {}
    data = manifest.get("data") or {}
    sections = [("Model", fact_rows(model, MODEL_FACTS))]
    sections += [
        (f"{'Training' if part == 'train' else 'Test'} images", fact_rows(data.get(part) or {}, DATA_FACTS))
        for part in ("train", "test")
        if data.get(part)
    ]
    sections.append(("Method", _method(run)))
    versions = ", ".join(f"{name} {number}" for name, number in (manifest.get("versions") or {}).items())
    machine = [
        ("InterpNet", manifest.get("interpnet")),
        ("Versions", versions),
        ("Platform", manifest.get("platform")),
        ("Device", manifest.get("device")),
        ("Seed", manifest.get("seed")),
        ("Created", str(manifest.get("created") or "").replace("T", " ")),
    ]
    sections.append(("Software", [(label, clean(value)) for label, value in machine if value not in (None, "")]))
    return [(name, rows) for name, rows in sections if rows]


MODEL_FACTS = {
    "spec": "Network", "weights": "Weights", "fingerprint": "Fingerprint", "n_parameters": "Parameters",
    "n_layers": "Layers read", "n_channels": "Channels read", "n_outputs": "Outputs", "output": "Output taken",
}  # fmt: skip
DATA_FACTS = {
    "spec": "Data", "split": "Split", "n_images": "Images", "fingerprint": "Fingerprint",
    "preprocessing": "Preparation", "empty_classes": "Classes without images",
}  # fmt: skip


def fact_rows(entry: Mapping[str, Any], labels: Mapping[str, str]) -> Rows:
    """Return (label, value) for the entries there are, as text."""
    rows = []
    for key, label in labels.items():
        value = entry.get(key)
        if value is None or value == [] or value == {}:
            continue
        rows.append((label, _value(value)))
    return rows


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return clean("; ".join(f"{key} {_value(v)}" for key, v in value.items() if v is not None))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return clean(", ".join(_value(v) for v in value[:20])) + (" …" if len(value) > 20 else "")
    return clean(value)


def _method(run: RunData) -> Rows:
    solve = (run.manifest.get("stages") or {}).get("solve") or {}
    rows = [
        ("Scores", {"l2": "L2 norm of each map", "l2sq": "squared L2 norm of each map"}.get(solve.get("norm", ""), "")),
        ("Normalised", "to sum 1 within each layer" if run.weights is not None else ""),
        ("Fitted on", clean(solve.get("fit_on") or "")),
    ]
    if run.weights is not None:
        gaps = run.weights.gaps
        sign = "weights ≥ 0" if run.weights.positive else "weights of either sign"
        rows.append(("Mu-lasso", f"‖w‖₁ ≤ {run.weights.mu:.4g}, {sign}"))
        rows.append(("Mu", _chosen(run)))
        rows.append(("Class weights", "every class alike" if solve.get("class_weight") == "balanced" else ""))
        rows.append(("Stability", "" if run.frequencies is None else f"{run.frequencies.n_subsamples} half samples"))
        rows.append(("Duality gap", f"at most {number_text(float(gaps.max()), 3)}, relative" if len(gaps) else ""))
    if run.study is not None:
        fill = "zero" if run.study.fill == "zero" else f"their {clean(run.study.fill)}"
        rows.append(("Ablation", f"maps set to {fill}; {run.study.n_images:,} test images"))
        rows.append(("Random controls", f"{run.study.repeats} draws, seed {run.study.seed}"))
    return [(label, value) for label, value in rows if value]


def _chosen(run: RunData) -> str:
    """Return who chose mu; nothing of an earlier run that did not note it."""
    if run.selection is not None:
        rule = {"one_se": "one-standard-error rule", "best": "smallest error"}.get(run.selection.rule, "")
        return clean(f"chosen on held-out images, {run.selection.n_folds} folds, {rule or run.selection.rule}")
    return "given" if run.weights is not None and run.weights.info.get("mu_rule") == "given" else ""


def stage_rows(run: RunData) -> list[Mapping[str, str]]:
    """Return a row a stage: its state, when it started, how long it took."""
    stages = run.manifest.get("stages") or {}
    rows: list[Mapping[str, str]] = []
    for name in _STAGES:
        entry = stages.get(name) or {}
        # The report is being made while it is written, so its own entry is always that of the last time.
        if name != "report" and entry:
            rows.append({
                "name": name,
                "state": clean(entry.get("state", "")),
                "started": clean(entry.get("started") or "").replace("T", " "),
                "seconds": "–" if entry.get("seconds") is None else f"{entry['seconds']:,.1f}",
                "speed": number_text(entry.get("images_per_second"), 0),
            })  # fmt: skip
    return rows


def skipped_images(run: RunData) -> list[tuple[str, str, str]]:
    """Return (split, image, reason) of what could not be read; at most fifty, and a last row saying how many more."""
    rows: list[tuple[str, str, str]] = []
    for part, split in (("train", "training"), ("test", "test")):
        entry = (run.manifest.get("data") or {}).get(part) or {}
        rows += [(split, clean(name), clean(reason)) for _, name, reason in entry.get("skipped") or ()]
    more = len(rows) - _SKIPPED_SHOWN
    return [*rows[:_SKIPPED_SHOWN], ("", f"and {more} more", "see manifest.json")] if more > 0 else rows
