"""S4: whether a head that tells huskies from wolves looks at the snow.

    pip install -e '.[photos]'
    OMP_NUM_THREADS=2 python -m experiments.husky_wolf.run [--quick]

Pooled features are kept in the working folder, so that every head is asked about the same pictures. --quick takes
two materials.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from experiments.common.arrays import kept
from experiments.common.runner import Results, study
from experiments.common.tables import Interval, Line, proportion
from experiments.husky_wolf.audit import RADIUS, WAYS, repaired, searched
from experiments.husky_wolf.effects import difference, larger_share, swap_effects
from experiments.husky_wolf.network import Backbone, Head, fitted
from experiments.husky_wolf.photographs import (
    CLASSES,
    HUSKY,
    IN_SNOW,
    WOLF,
    Photographs,
    disc,
    dogs,
    labelled,
    photographs,
    snow_by_rule,
)
from experiments.husky_wolf.pictures import (
    DISCS,
    MATERIALS,
    NOTHING,
    OUTLINE,
    every_pair,
    exchanged,
    inside,
    laid_around,
    materials,
)
from experiments.husky_wolf.sheet import SHOWN, Shown, chosen, draw
from experiments.husky_wolf.table import PAGE
from interpnet.support.types import Bools, Float64

#: Around what the materials are laid.
AROUND = (NOTHING, OUTLINE, "disc 0.3", "disc 0.4")
_TOP = 10  # channels
_PARTNERS = 4  # of each training photograph, where the head is fitted again
Odds = Callable[[Float64], Float64]


class Asked:
    """The photographs with the features of whatever is made of them, and two answers: the head's and the network's."""

    def __init__(self, work: Path) -> None:
        self.given = photographs()
        self.work = work
        self.backbone = Backbone()
        self.plain = kept(work / "photographs.npy", lambda: self.backbone.features(self.given.images))
        own = ~self.given.test
        self.head: Head = fitted(self.plain[own], self.given.labels[own])
        self.answers: dict[str, Odds] = {"head": self.head.log_odds, "own outputs": self.backbone.own_log_odds}

    def swapped(self, shape: str) -> Float64:
        """Return the features of every pair of test photographs."""
        return self._kept(f"swapped {shape}", lambda: self.backbone.features(exchanged(self.given, shape)))

    def around(self, material: str, shape: str) -> Float64:
        """Return the features (pieces, photographs, 1280) of test photographs with a material around them."""

        def measure() -> Float64:
            laid = [laid_around(self.given, one, shape) for one in materials(self.given)[material]]
            if shape == NOTHING:  # every photograph is the material
                laid = [pictures[:1] for pictures in laid]
            return self.backbone.features(torch.cat(laid)).reshape(len(laid), len(laid[0]), -1)

        return self._kept(f"{material} {shape}", measure)

    def _kept(self, name: str, measure: Callable[[], Float64]) -> Float64:
        return kept(self.work / f"{name.replace(',', '').replace(' ', '-')}.npy", measure)


def photographs_line(asked: Asked) -> Line:
    """Return accuracies, the snow by class, and how well the rule finds what the eye found."""
    given, snow = asked.given, labelled(asked.given.names)
    rule = snow_by_rule(given.images)
    line: Line = {"strength": asked.head.strength, "groups": {}, "accuracy": {}, "gap": {}}
    for part, rows in (("train", ~given.test), ("test", given.test)):
        for c, name in enumerate(CLASSES):
            for level in range(3):
                chosen = rows & (given.labels == c) & (snow == level)
                right = {who: _right(ask(asked.plain), given, chosen) for who, ask in asked.answers.items()}
                line["groups"][f"{part}, {name}, snow {level}"] = {"n": int(chosen.sum()), "right": right}
        line["accuracy"][part] = {
            who: proportion(_right(ask(asked.plain), given, rows), int(rows.sum()))
            for who, ask in asked.answers.items()
        }
        line[f"rule, {part}"] = float(roc_auc_score(snow[rows] > 0, rule[rows]))
    for who, ask in asked.answers.items():
        odds = ask(asked.plain)[given.test]
        is_wolf = given.labels[given.test] == WOLF
        line["gap"][who] = float(odds[is_wolf].mean() - odds[~is_wolf].mean())
    return line


def _right(odds: Float64, given: Photographs, rows: Bools) -> int:
    return int(((odds > 0) == (given.labels == WOLF))[rows].sum())


def swaps_line(asked: Asked, shape: str) -> Line:
    """Return what exchanged surroundings do."""
    x = asked.swapped(shape)
    pairs = every_pair(asked.given)
    found = {who: swap_effects(ask(x), pairs, asked.given.labels) for who, ask in asked.answers.items()}
    uncovered = 1 - float(inside(asked.given, shape).double().mean())
    head, own = (ask(x) for ask in asked.answers.values())
    return {"uncovered": uncovered, "answers": found, "more": larger_share(head, own, pairs, asked.given.labels)}


def material_line(asked: Asked, material: str, shape: str) -> Line:
    """Return the wolf's log-odds with a material around, and what it does beyond grass, by class."""
    given = asked.given
    own = given.labels[given.test]
    line: Line = {}
    for who, ask in asked.answers.items():
        odds = {name: ask(asked.around(name, shape)).T for name in {material, "grass"}}
        line[who] = {"mean": float(odds[material].mean()), "taken for a wolf": float((odds[material] > 0).mean())}
        if shape == NOTHING:
            beyond = (odds[material] - odds["grass"])[0]
            line[who]["beyond grass"] = _student(beyond) if material != "grass" else None
            continue
        before = ask(asked.plain[given.test])[:, None]
        for c, name in enumerate(CLASSES):
            rows = own == c
            line[who][name] = {
                "change": difference(odds[material][rows], before[rows] + 0 * odds[material][rows], own[rows]),
                "beyond grass": difference(odds[material][rows], odds["grass"][rows], own[rows]),
                "taken for a wolf": float((odds[material][rows] > 0).mean()),
            }
    return line


def _student(values: Float64) -> Interval:
    mean, error = float(values.mean()), float(stats.sem(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)


def channels_line(asked: Asked, shape: str) -> Line:
    """Return which of the last layer's channels carry the snow.

    The head is linear, so that the rise from grass to snow is the sum over channels of weight times change. Beside it:
    what the channels contribute to telling the training photographs' classes apart.
    """
    given, weight = asked.given, asked.head.weight
    huskies = given.labels[given.test] == HUSKY
    snow, grass = (asked.around(name, shape)[:, huskies] for name in ("snow", "grass"))
    rise = weight * (snow - grass).mean((0, 1))
    wolf, husky = (asked.plain[~given.test & (given.labels == c)].mean(0) for c in (WOLF, HUSKY))
    apart = weight * (wolf - husky)
    by_rise, by_apart = (np.argsort(-values) for values in (rise, apart))
    reached = np.cumsum(np.sort(rise)[::-1])
    return {
        "rise": float(rise.sum()),
        "channels for half of it": int(np.argmax(reached >= rise.sum() / 2) + 1),
        "top": [[int(k), float(rise[k]), float(apart[k])] for k in by_rise[:_TOP]],
        "both in top": len(set(by_rise[:_TOP].tolist()) & set(by_apart[:_TOP].tolist())),
        "rank correlation": float(stats.spearmanr(rise, apart).statistic),
        "share of the top in telling apart": float(apart[by_rise[:_TOP]].sum() / apart.sum()),
    }


def dogs_line(asked: Asked) -> Line:
    """Return what dogs of other breeds are taken for, in snow and without."""
    images, numbers = dogs()
    x = kept(asked.work / "dogs.npy", lambda: asked.backbone.features(images))
    snowy = np.isin(numbers, IN_SNOW)
    line: Line = {"in snow": list(IN_SNOW), "rule": float(roc_auc_score(snowy, snow_by_rule(images)))}
    for who, ask in asked.answers.items():
        odds = ask(x)
        test = stats.mannwhitneyu(odds[snowy], odds[~snowy], alternative="greater")
        line[who] = {
            "taken, snow": proportion(int((odds > 0)[snowy].sum()), int(snowy.sum())),
            "taken, none": proportion(int((odds > 0)[~snowy].sum()), int((~snowy).sum())),
            "log-odds, snow": float(odds[snowy].mean()),
            "log-odds, none": float(odds[~snowy].mean()),
            "each in snow": dict(zip(map(str, np.array(numbers)[snowy]), odds[snowy].tolist(), strict=True)),
            "p": float(test.pvalue),
        }
    return line


def refit_line(asked: Asked, *, same_class: bool) -> Line:
    """Return what the head does after it was fitted on exchanged surroundings too; of the same class as a control."""
    given = asked.given
    rows = np.flatnonzero(~given.test)
    labels = given.labels[rows]
    rng = np.random.default_rng(2)
    partners = [rng.permutation(rows) for _ in range(_PARTNERS)]
    if same_class:
        for c in range(len(CLASSES)):
            for one in partners:
                one[labels == c] = rng.permutation(rows[labels == c])
    kept_inside = disc(RADIUS)

    def measure() -> Float64:
        made = [torch.where(kept_inside, given.images[rows], given.images[one]) for one in partners]
        return asked.backbone.features(torch.cat(made))

    x = kept(asked.work / f"refit-{'same' if same_class else 'any'}.npy", measure)
    head = fitted(np.concatenate([asked.plain[rows], x]), np.tile(labels, 1 + _PARTNERS))
    return {"tests": tests(asked, head), "strength": head.strength}


def repair_line(asked: Asked, how: str) -> Line:
    """Return what a repaired head does where the old one answered to snow."""
    head, line = repaired(asked.backbone.with_head(asked.head), asked.given, how)
    line["tests"] = {"before": tests(asked, asked.head)}
    if head is not None:
        line["tests"]["after"] = tests(asked, head)
    return line


def tests(asked: Asked, head: Head) -> Line:
    """Return a head's figures on the test photographs, as they are, swapped, and with snow or grass around."""
    given = asked.given
    own = given.labels[given.test]
    odds = head.log_odds(asked.plain[given.test])
    snow, grass = (head.log_odds(asked.around(name, OUTLINE)).T for name in ("snow", "grass"))
    dog = head.log_odds(kept(asked.work / "dogs.npy", lambda: asked.backbone.features(dogs()[0])))
    return {
        "accuracy": float(((odds > 0) == (own == WOLF)).mean()),
        "gap": float(odds[own == WOLF].mean() - odds[own == HUSKY].mean()),
        "swaps": swap_effects(head.log_odds(asked.swapped(OUTLINE)), every_pair(given), given.labels),
        "snow beyond grass": {
            name: difference(snow[own == c], grass[own == c], own[own == c]) for c, name in enumerate(CLASSES)
        },
        "huskies on snow taken for wolves": float((snow[own == HUSKY] > 0).mean()),
        "wolves on grass taken for huskies": float((grass[own == WOLF] <= 0).mean()),
        "dogs in snow taken for wolves": int((dog > 0)[np.isin(dogs()[1], IN_SNOW)].sum()),
        "other dogs taken for wolves": int((dog > 0)[~np.isin(dogs()[1], IN_SNOW)].sum()),
    }


def picture(asked: Asked) -> None:
    """Draw some animals with snow and grass around, and the dogs in snow."""
    given = asked.given
    own = given.labels[given.test]
    snow, grass = (asked.head.log_odds(asked.around(name, OUTLINE)) for name in ("snow", "grass"))
    rows = chosen((snow - grass).mean(0), own)
    every = materials(given)
    columns = {"as it is": (given.images[given.test][rows], asked.plain[given.test][rows])}
    for name in SHOWN:
        laid = laid_around(given, every[name][0], OUTLINE)[rows]
        columns[name] = (laid, asked.around(name, OUTLINE)[0][rows])
    images, numbers = dogs()
    snowy = np.flatnonzero(np.isin(numbers, IN_SNOW))
    found = kept(asked.work / "dogs.npy", lambda: asked.backbone.features(images))
    dog = Shown(images[snowy], asked.head.log_odds(found[snowy]), asked.backbone.own_log_odds(found[snowy]))
    shown = {
        title: Shown(pictures, asked.head.log_odds(x), asked.backbone.own_log_odds(x))
        for title, (pictures, x) in columns.items()
    }
    draw(Path(__file__).with_name("examples.jpg"), shown, dog)


@study(PAGE, "runs/husky_wolf")
def main(results: Results, *, work: Path, quick: bool = False) -> None:
    """Measure what is missing."""
    asked = Asked(work)
    shapes: tuple[str, ...] = (OUTLINE, *DISCS)
    around: tuple[str, ...] = AROUND
    laid: tuple[str, ...] = MATERIALS
    if quick:
        shapes, around, laid = shapes[:1], AROUND[:2], MATERIALS[:2]
    keys: list[Line] = [{"what": "photographs"}, {"what": "dogs"}]
    keys += [{"what": "swaps", "shape": shape} for shape in shapes]
    keys += [{"what": "material", "material": name, "shape": shape} for shape in around for name in laid]
    keys += [{"what": "channels", "shape": shape} for shape in around if shape != NOTHING]
    keys += [{"what": "refit", "partners": partners} for partners in ("of any class", "of the same class")]
    keys += [{"what": "search"}, *({"what": "repair", "how": how} for how in WAYS)]
    for line in results.missing(keys):
        if line["what"] == "photographs":
            line |= photographs_line(asked)
        elif line["what"] == "dogs":
            line |= dogs_line(asked)
        elif line["what"] == "search":
            line |= searched(asked.backbone.with_head(asked.head), asked.given)
        elif line["what"] == "refit":
            line |= refit_line(asked, same_class=line["partners"] == "of the same class")
        elif line["what"] == "repair":
            line |= repair_line(asked, line["how"])
        elif line["what"] == "swaps":
            line |= swaps_line(asked, line["shape"])
        elif line["what"] == "material":
            line |= material_line(asked, line["material"], line["shape"])
        else:
            line |= channels_line(asked, line["shape"])
    if not quick:
        picture(asked)
