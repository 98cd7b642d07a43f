"""S5: whether networks trained on ImageNet go by shape or by texture, for each class and in each channel.

    pip install -e '.[photos]'
    OMP_NUM_THREADS=2 python -m experiments.cue_conflict.run [--networks efficientnet squeezenet] [--quick]

Resumes from results.json, a line per network; what is read off a network stays in the working folder. --quick takes
six images of each class.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from scipy import stats
from torch import float32, from_numpy
from torchvision.transforms import v2

from experiments.common.pages import figure_file
from experiments.common.runner import Results, rounded, study
from experiments.common.tables import Interval, Line
from experiments.cue_conflict.effects import (
    Effects,
    Followed,
    both_resampled,
    class_effects,
    decisions,
    drawn_alike,
    interval_of,
    mean_of,
    own_effects,
    products,
    shape_share,
)
from experiments.cue_conflict.images import CLASSES, NUMBERS, conflicts, halves, members
from experiments.cue_conflict.measure import Arrays, measured
from experiments.cue_conflict.table import PAGE, TITLES
from interpnet.engine import all_log_odds
from interpnet.support.types import Float64, Int64

HERE = Path(__file__).parent
NETWORKS = ("efficientnet", "squeezenet")
_NAMED = 10  # channels of a class
_DRAWS = 20  # of as many random ones
_SHOWN = 112  # pixels of an example
_FEWEST = 8  # channels of a group in a layer that can be compared


def behaviour(a: Arrays) -> Line:
    """Return the answers, and what shape and texture add to the log-odds, in all and by class."""
    shape, texture = a["shape"], a["texture"]
    said = decisions(a["probabilities"], members())
    by_shape, by_texture = said == shape, said == texture
    z = all_log_odds(from_numpy(a["logits"])).numpy()

    def numbers(weights: Float64) -> Float64:
        effects = own_effects(z, shape, texture, weights)
        hits, others = weights[by_shape].sum(), weights[by_texture].sum()
        total = np.array([np.nanmean(part) for part in effects])
        return np.concatenate([[hits / (hits + others), total[0] / total.sum()], shape_share(effects)])

    low, high = both_resampled(numbers, a["shape_picture"], a["texture_picture"], NUMBERS)
    found = numbers(np.ones(len(shape)))
    effects = own_effects(z, shape, texture)
    classes = []
    for c, name in enumerate(CLASSES):
        mine = shape == c
        counts = {"shape": by_shape[mine].sum(), "texture": by_texture[mine].sum(), "images": mine.sum()}
        added = {"shape adds": effects.shape[c], "texture adds": effects.texture[c]}
        share = {"share": [found[c + 2], low[c + 2], high[c + 2]]}
        classes.append({"class": name, **{k: int(v) for k, v in counts.items()}, **added, **share})
    return {
        "images": len(shape),
        "shape": int(by_shape.sum()),
        "texture": int(by_texture.sum()),
        "share of decisions": [found[0], low[0], high[0]],
        "share of log-odds": [found[1], low[1], high[1]],
        "shape adds": float(np.nanmean(effects.shape)),
        "texture adds": float(np.nanmean(effects.texture)),
        "classes": classes,
    }


def channels(a: Arrays) -> Line:
    """Return which channels follow shape and texture, by depth; groups chosen on one half of the classes."""
    x = a["scores"].astype(np.float64)
    squares = products(x, a["shape_picture"], a["texture_picture"], len(CLASSES), NUMBERS)
    spread, layer = x.std(0), a["layer"]
    every = Followed.of(squares, spread)
    # Every second class chooses, the others report.
    first, second = (Followed.of(squares, spread, np.arange(part, len(CLASSES), 2)) for part in (0, 1))
    groups = _groups(first.texture_share, first.both, layer)
    known = np.isfinite(first.texture_share) & np.isfinite(second.texture_share)
    line: Line = {"channels": len(layer), "layers": len(a["layers"]), "thirds": [], "groups": {}}
    for i in range(3):
        here = 3 * layer // len(a["layers"]) == i
        parts = {"shape": float(every.shape[here].mean()), "texture": float(every.texture[here].mean())}
        line["thirds"].append({"channels": int(here.sum()), **parts})
    line["same on other classes"] = float(stats.spearmanr(first.texture_share[known], second.texture_share[known])[0])
    for name, rows in groups.items():
        means = [float(part[rows].mean()) for part in second]
        apart = float(a["apart"][rows].mean())
        line["groups"][name] = {"channels": len(rows), "shape": means[0], "texture": means[1], "apart": apart}
    line["apart within layers"] = list(_within_layers(a["apart"], groups, layer))
    for cue, part in zip(("shape", "texture"), every, strict=True):
        line[f"apart goes with {cue}"] = list(_goes_with(part, a["apart"], layer))
    return line


def _goes_with(part: Float64, apart: Float64, layer: Int64) -> Interval:
    """Return the rank correlation within layers of what follows a cue and telling textures apart, over the layers."""
    ranks = [stats.spearmanr(part[layer == i], apart[layer == i])[0] for i in np.unique(layer)]
    return mean_of(np.array([r for r in ranks if np.isfinite(r)]))


def _groups(share: Float64, both: Float64, layer: Int64) -> dict[str, Int64]:
    """Return the channels of each layer that follow textures and those that follow shapes.

    Of a layer's channels that follow either more than its median channel, the quarter with the largest share of
    texture, and that with the smallest.
    """
    found: dict[str, list[Int64]] = {"texture": [], "shape": []}
    for i in np.unique(layer):
        own = np.flatnonzero((layer == i) & np.isfinite(share))
        own = own[both[own] > np.median(both[layer == i])]
        own = own[np.argsort(share[own], kind="stable")]
        quarter = len(own) // 4
        if quarter >= _FEWEST:
            found["shape"].append(own[:quarter])
            found["texture"].append(own[-quarter:])
    return {name: np.concatenate(rows) for name, rows in found.items()}


def _within_layers(apart: Float64, groups: dict[str, Int64], layer: Int64) -> Interval:
    """Return how much better texture's channels tell textures apart than shape's of their layer, over the layers."""
    layers = np.unique(layer[groups["texture"]])
    means = [[apart[rows[layer[rows] == i]].mean() for i in layers] for rows in groups.values()]
    return mean_of(np.array(means[0]) - np.array(means[1]))


def named(a: Arrays) -> Line:
    """Return what shapes and textures do to the channels that a class relies on, in the score's standard deviations."""
    x = a["scores"].astype(np.float64)
    spread = np.where(x.std(0) > 0, x.std(0), np.inf)
    half = halves(a["shape_picture"])
    everything = class_effects(x, a["shape"], a["texture"], len(CLASSES))
    lines = {"photographs": _named(a["natural"], a["natural_counts"], everything, spread, a)}
    parts = []
    for part in (0, 1):
        # Those relied on in one half of the images, looked at in the other.
        rows = half != part
        effects = class_effects(x[rows], a["shape"][rows], a["texture"][rows], len(CLASSES))
        parts.append(_by_class(a[f"used{part}"], a[f"used{part}_counts"], effects, spread, a["layer"]))
    lines["conflicts"] = _told({name: _mean_known([part[name] for part in parts]) for name in parts[0]}, a)
    return lines


def _mean_known(rows: list[Float64]) -> Float64:
    """Return the means (C,) of those that are known, NaN where none is."""
    known = np.isfinite(rows)
    total, count = np.where(known, rows, 0.0).sum(0), known.sum(0)
    means: Float64 = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return means


def _named(contribution: Float64, counts: Int64, effects: Effects, spread: Float64, a: Arrays) -> Line:
    return _told(_by_class(contribution, counts, effects, spread, a["layer"]), a)


def _by_class(
    contribution: Float64, counts: Int64, effects: Effects, spread: Float64, layer: Int64
) -> dict[str, Float64]:
    """Return the mean effects (C,) of a class's shape and texture on its named channels, and on random ones."""
    rng = np.random.default_rng(0)
    names = ("shape", "texture", "shape, random", "texture, random")
    found = {name: np.full(len(counts), np.nan) for name in names}
    for c in np.flatnonzero(counts):
        top = np.argsort(-contribution[c], kind="stable")[:_NAMED]
        random = np.concatenate([drawn_alike(top, layer, rng) for _ in range(_DRAWS)])
        for name, effect in zip(("shape", "texture"), effects, strict=True):
            found[name][c] = (effect[c, top] / spread[top]).mean()
            found[f"{name}, random"][c] = (effect[c, random] / spread[random]).mean()
    return found


def _told(by_class: dict[str, Float64], a: Arrays) -> Line:
    """Return the means over classes, the texture's share, and whether it goes with the class's log-odds."""
    known = np.flatnonzero(np.isfinite(by_class["shape"]))
    shape, texture = by_class["shape"][known], by_class["texture"][known]
    line: Line = {"classes": len(known)}
    for name, values in by_class.items():
        line[name] = list(mean_of(values[known]))
    line["texture's share"] = list(
        interval_of(lambda rows: texture[rows].mean() / (texture[rows].mean() + shape[rows].mean()), len(known))
    )
    z = all_log_odds(from_numpy(a["logits"])).numpy()
    effects = own_effects(z, a["shape"], a["texture"])
    # Differences, which have no small number below the line.
    behaves = effects.texture[known] - effects.shape[known]
    line["goes with the class's log-odds"] = float(stats.spearmanr(texture - shape, behaves)[0])
    return line


def examples(networks: dict[str, Arrays], path: Path) -> None:
    """Draw the first image of every second class, with its cues and the networks' answers."""
    prepare = v2.Compose([v2.ToImage(), v2.Resize((_SHOWN, _SHOWN), antialias=True), v2.ToDtype(float32, scale=True)])
    found = conflicts(prepare)
    rows = [int(np.flatnonzero(found.shape == c)[0]) for c in range(0, len(CLASSES), 2)]
    said = {name: decisions(a["probabilities"], members()) for name, a in networks.items()}
    with figure_file(path, 9.6, 4.6, 100) as drawn:
        for panel, i in zip(drawn.subplots(2, len(rows) // 2).flat, rows, strict=True):
            panel.imshow(found.images[i].permute(1, 2, 0).numpy())
            panel.set_axis_off()
            cues = f"{CLASSES[found.shape[i]]} of {CLASSES[found.texture[i]]}"
            panel.set_title(cues, fontsize=9.5)
            answers = "\n".join(f"{name}: {CLASSES[own[i]]}" for name, own in said.items())
            panel.text(0.0, -0.04, answers, transform=panel.transAxes, va="top", fontsize=8)


@study(PAGE, "runs/cue_conflict", networks=NETWORKS)
def main(results: Results, work: Path, *, quick: bool, networks: tuple[str, ...] = NETWORKS) -> None:
    """Measure what is missing and write results.json, the README's tables and the figure."""
    for line in results.missing({"network": name} for name in networks):
        began = time.perf_counter()
        arrays = measured(line["network"], work, 6 if quick else None)
        line |= rounded({"behaviour": behaviour(arrays), "channels": channels(arrays), "named": named(arrays)})
        # With those of the passes, which may have been made earlier.
        line["seconds"] = round(max(time.perf_counter() - began, float(arrays["seconds"])), 1)
    if not quick and all((work / f"{name}.npz").exists() for name in NETWORKS):
        examples({TITLES[name]: measured(name, work) for name in NETWORKS}, HERE / "examples.png")
