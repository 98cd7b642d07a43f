"""C2's page: named channels by layer, trained and with random weights, and the detectors of each concept."""

from __future__ import annotations

from pathlib import Path

from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, commits, markdown, proportion, sections
from experiments.dissection.data import STREET
from interpnet.plotting.style import BLUE, VERMILLION

COMMAND = "experiments.dissection.run"
TITLES = {"trained": "trained", "random weights": "random weights"}


def share(line: Line, field: str = "named") -> Interval:
    """Return the share of channels with a name, with Wilson's interval."""
    return proportion(*(sum(one[name] for one in line["layers"]) for name in (field, "channels")))


def percent(value: Interval) -> str:
    """Return ``12.3 (11.8 to 12.8)``."""
    return f"{100 * value.mean:.1f} ({100 * value.low:.1f} to {100 * value.high:.1f})"


def text(lines: list[Line]) -> str:
    """Return the page's tables."""
    by_name = {line["network"]: line for line in lines}
    facts = f"{_facts(lines)} Measured at {commits(lines)}."
    parts = {
        "Channels with a name, %": _controls(by_name),
        "By layer": _layers(by_name),
        "Detectors of each concept": _detectors(by_name),
    }
    return sections(parts, facts)


def _facts(lines: list[Line]) -> str:
    return " ".join(
        f"{line['network'].capitalize()}{' with its copy' if line['network'] == 'trained' else ''}: {_images(line)}, "
        f"{line['processor minutes']:.0f} minutes of a processor ({line['minutes']:.0f} by the clock, "
        f"{line['threads']} thread{'s' * (line['threads'] > 1)}), peak memory {line['peak MiB'] / 1024:.1f} GiB."
        for line in lines
    )


def _images(line: Line) -> str:
    return " and ".join(f"{n} images of {name}" for name, n in line["images"].items())


def _controls(by_name: dict[str, Line]) -> str:
    rows = []
    fields = {
        "IoU above 0.04, the paper's rule": "above 0.04",
        "and beyond other images' masks": "beyond other masks",
        "and beyond random weights: a name": "named",
    }
    for title, field in fields.items():
        rows.append([title, *(percent(share(line, field)) for line in by_name.values())])
    return markdown(["rule", *by_name], rows)


def _layers(by_name: dict[str, Line]) -> str:
    rows = []
    for i, one in enumerate(by_name["trained"]["layers"]):
        other = by_name["random weights"]["layers"][i]
        kinds = ", ".join(f"{name} {n}" for name, n in one["categories"].items())
        shares = [f"{100 * line['named'] / line['channels']:.1f}" for line in (one, other)]
        floors = ", ".join(f"{name} {floor:.3f}" for name, floor in one["floors"].items())
        rows.append([one["layer"], one["channels"], *shares, one["concepts"], kinds, floors])
    head = [
        "layer",
        "channels",
        "named, trained, %",
        "named, random weights, %",
        "concepts",
        "categories",
        "floor, IoU",
    ]
    return markdown(head, rows)


def _detectors(by_name: dict[str, Line]) -> str:
    trained, random = by_name["trained"], by_name["random weights"]
    rows = []
    for concept, found in sorted(trained["detectors"].items(), key=lambda one: -trained["counts"][one[0]]):
        best = "none"
        if found:
            layer, channel, iou, low, high, *_ = found[0]
            best = f"{layer} [{channel}], IoU {iou:.2f} ({low:.2f} to {high:.2f})"
        kind = "street" if concept in STREET else "texture"
        rows.append([concept, kind, trained["counts"][concept], random["counts"][concept], best])
    return markdown(["concept", "category", "channels, trained", "channels, random weights", "the best one"], rows)


def draw(lines: list[Line], path: Path) -> None:
    """Draw the share of named channels by layer."""
    by_name = {line["network"]: line for line in lines}
    with figure_file(path, 7.2, 3.0) as drawn:
        axes = drawn.subplots()
        for (name, line), colour, style in zip(by_name.items(), (BLUE, VERMILLION), ("o-", "s--"), strict=True):
            values = [100 * one["named"] / one["channels"] for one in line["layers"]]
            axes.plot(range(1, len(values) + 1), values, style, color=colour, label=name, markersize=4)
        axes.set_xlabel("layer, from the image to the output")
        axes.set_ylabel("channels with a name, %")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)


PAGE = Page(COMMAND, text, {"layers.png": draw})
