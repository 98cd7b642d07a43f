"""The report's figures: drawn once, written as PNG and put into the page as SVG in the page's own colours."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

from interpnet import plot
from interpnet.ablation import find_condition
from interpnet.plotting.style import GRID, INK, MUTED, any_letters
from interpnet.support.io import atomic_path

from ..run.config import MU_LASSO, RELIANCE
from .conditions import WAYS
from .load import RunData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from interpnet.ablation import AblationResult

# Figures are drawn for paper; on the page their ink follows the page, also in the dark.
_PAGE_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)"}
# A style inside an SVG would hold for the whole page; the page has its own.
_OURS_TO_DROP = re.compile(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", re.DOTALL)
#: What the names of files begin with for each way to name channels.
PREFIXES = {MU_LASSO: "", RELIANCE: "reliance_"}
#: What the share of a layer is a share of.
SHARES = {MU_LASSO: "|weight|", RELIANCE: "reliance"}
_OF_EACH = ("layers", "ablation", "ablation_log_odds", "ablation_curve", "class_recall")
FIGURE_FILES = ("mu_curve.png", *(f"{prefix}{name}.png" for prefix in PREFIXES.values() for name in _OF_EACH))


@dataclass(frozen=True)
class Chart:
    """A figure on the page."""

    svg: Markup
    file: str  # a PNG beside the page
    alt: str  # words for those who do not see it
    caption: str = ""  # says what is drawn, and nothing that is not


def make_charts(run: RunData, folder: Path) -> dict[str, Chart]:
    """Draw every figure the run has numbers for and write each as PNG to ``folder``."""
    words = captions(run)
    return {name: make_chart(figure, name, alt, folder, words[name]) for name, figure, alt in draw_figures(run)}


def make_chart(figure: Figure, name: str, alt: str, folder: Path, caption: str = "") -> Chart:
    """Write a figure as ``folder/NAME.png`` and return it as a chart of the page."""
    with any_letters():
        with atomic_path(folder / f"{name}.png") as tmp:
            figure.savefig(tmp, dpi=150, facecolor="white", format="png")
        return Chart(_svg(figure, name, alt), f"{name}.png", alt, caption)


def draw_figures(run: RunData) -> Iterator[tuple[str, Figure, str]]:
    """Draw, one after the other: (name, figure, words for those who do not see it)."""
    if run.selection is not None:
        found = run.selection
        what = "Held-out error, accuracy" if found.accuracy_mean is not None else "Held-out error"
        alt = (
            f"{what} and number of relevant channels against mu from {found.mus[0]:.3g} to {found.mus[-1]:.3g}: the "
            f"error is smallest at {found.best:.3g}, chosen is {found.chosen:.3g}; the numbers are in mu_curve.csv"
        )
        yield "mu_curve", plot.mu_curve(found), alt
    for way, named in run.named.items():
        sizes = np.array([size for _, size in named.channels.sizes], np.float64)
        shares = named.layer_relevance()[list(run.shown)]
        classes = [run.classes[c] for c in run.shown]
        figure = plot.layer_relevance(shares, named.channels.layers, classes, expected=sizes / sizes.sum(), by=way)
        alt = f"Share of {SHARES[way]} for each layer, and for each layer and class"
        yield f"{PREFIXES[way]}layers", figure, alt
    for way, study in run.studies.items():
        if study.conditions:
            for name, figure, alt in _removals(study):
                yield f"{PREFIXES[way]}{name}", figure, alt


def _removals(study: AblationResult) -> Iterator[tuple[str, Figure, str]]:
    yield "ablation", plot.ablation(study), "Mean recall after each removal; the numbers are in the table"
    if study.log_odds is not None:
        alt = "Change of the mean log-odds after each removal; the numbers are in the table"
        yield "ablation_log_odds", plot.ablation(study, measure="log_odds"), alt
    if study.curve is not None and study.curve.k.size:
        alt = "Own recall against the number of channels removed; the numbers are in ablation_curve.csv"
        yield "ablation_curve", plot.ablation_curve(study), alt
    if any(c.name == "relevant" for c in study.conditions):
        alt = "Recall of each class intact and without its channels; the numbers are in the table of classes"
        yield "class_recall", plot.class_recall(study), alt


def captions(run: RunData) -> dict[str, str]:
    """Return the caption of every figure, made from what the figure draws."""
    words = {}
    if run.selection is not None:
        found = run.selection
        words["mu_curve"] = (
            f"Means over {found.n_folds} folds of the training images, each held out once; bands are one standard "
            "error."
        )
        if found.accuracy_mean is not None and found.accuracy_se is not None:
            words["mu_curve"] += " “Accuracy” is that of the regression on the channels' scores, not of the network."
    for way in run.named:
        words[f"{PREFIXES[way]}layers"] = (
            "First layer on top. Right: the same share for each class; a darker field carries more."
        )
    for way, study in run.studies.items():
        words |= {f"{PREFIXES[way]}{name}": text for name, text in _captions_of_removals(study, way).items()}
    return words


def _captions_of_removals(study: AblationResult, way: str) -> dict[str, str]:
    scopes = {condition.layers for condition in study.conditions}
    marks = {
        frozenset({"all"}): "Channels of all layers were removed.",
        frozenset({"conv"}): "Channels of convolutional layers only were removed.",
    }
    ends = "over test images"
    if any(condition.name.startswith("random") for condition in study.conditions):
        ends += " and over draws of random controls"
    # Format 1 kept no pairs of images.
    if study.log_odds is None:
        ends = "over repeated draws; a removal without draws has none"
    drawn = marks.get(
        frozenset(scopes), "Filled: channels of all layers. Hollow: channels of convolutional layers only."
    )
    against = ", against k random ones" if study.curve is not None and len(study.curve.random) else ""
    which = "" if find_condition(study, "relevant") else ", of convolutional layers only"
    return {
        "ablation": f"{drawn} Whiskers: 95 % intervals {ends}; a narrow one is hidden by its marker.",
        "ablation_log_odds": "The same in log-odds: what the removals change in each image's class.",
        "ablation_curve": f"The first k channels of each class removed{against}.",
        "class_recall": (
            f"A class's own recall, intact and without the {WAYS[way]}{which}, and what the removal does to the other "
            "classes."
        ),
    }


def _svg(figure: Figure, name: str, alt: str) -> Markup:
    """Return the figure as inline SVG: text as text, ids that are this figure's own, colours of the page."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = _OURS_TO_DROP.sub("", buffer.getvalue())
    # Only inside tags: what stands between them may be a class name that looks like any of this.
    text = re.sub(r"<[^>]*>", lambda tag: _page_tag(tag.group(), name), text[text.index("<svg") :])
    head = f'<svg role="img" aria-label="{escape(alt)}" '
    # The text is matplotlib's own, which escapes labels as XML; tests put markup into class names.
    return Markup(head + text[len("<svg ") :])  # noqa: S704


def _page_tag(tag: str, name: str) -> str:
    tag = re.sub(r'\b(id="|href="#|url\(#)', rf"\1{name}-", tag)
    tag = re.sub(r"font-family: [^;\"]*", "font-family: inherit", tag)
    for colour, variable in _PAGE_COLOURS.items():
        tag = tag.replace(colour, variable)
    return tag
