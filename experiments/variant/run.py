"""V: choose the variant of the method on single-6c, then try it untouched on double-12c and on CIFAR-10.

    python -m experiments.variant.run [--quick]

Settings of select.py on E3's small networks (selection.json), the chosen one beside the paper's (confirmation.json),
and whether the petals' brightness explains its gain (reason.json), all resumed. ResNet-20 needs the shared folder.
--quick takes one network and few images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.common.flower_networks import QUICK
from experiments.common.runner import Results, command
from experiments.common.tables import Line
from experiments.sanity.subjects import resnet20
from experiments.variant.select import PAPER, Setting, Tested, asked, chosen, maps_of, measured, precision
from experiments.variant.table import CONTROLS, write_readme
from interpnet.attribution import attribute
from interpnet.evaluate import deletion, insertion, iou_auc, pointing_game

HERE = Path(__file__).parent
_STEPS = 32  # of deletion and insertion


def on_masks(setting: Setting, tested: Tested) -> Line:
    """Return the paper's and the chosen variant's scores on double-12c, for one small network."""
    line: Line = {"accuracy": tested.network.accuracy, "n_images": len(tested.images)}
    for name, one in (("paper", PAPER), ("chosen", setting)):
        maps = tested.maps(one)
        line[name] = {
            "iou": iou_auc(maps, tested.masks, constant="zero").mean,
            "precision": float(precision(maps, tested.masks).mean()),
            "pointing": pointing_game(maps, tested.masks, constant="zero").mean,
        }
    return line


def on_cifar(setting: Setting, work: Path, *, quick: bool) -> Line:
    """Return deletion and insertion on ResNet-20, image by image, for both variants and the controls."""
    subject = resnet20(0, work, n_images=4 if quick else 200, quick=quick)
    asked_of = (subject.model, subject.images, subject.labels)
    settings = {"paper": PAPER, "chosen": setting}
    every = {name: maps_of(one, *asked_of, subject.found) for name, one in settings.items()}
    every |= {name: attribute(*asked_of, name) for name in CONTROLS}
    line: Line = {"network": "ResNet-20", "n_images": len(subject.images)}
    for name, maps in every.items():
        for measure in (deletion, insertion):
            how: dict[str, Any] = {"steps": _STEPS, "controls": (), "constant": "zero"}
            scores = measure(subject.model, subject.images, maps, subject.labels, **how).values
            line.setdefault(name, {})[measure.__name__] = [round(v, 5) for v in scores.tolist()]
    return line


@command(work="E3's weights and images")
def main(
    *,
    networks: int = 5,
    images: int = 60,
    work: Path = Path("runs/localisation"),
    out: Path = HERE,
    quick: bool = False,
) -> None:
    """Measure what is missing and write the files and the README's tables."""
    words: dict[str, Any] = {"n_images": images}
    seeds = range(networks)
    if quick:
        words = {"n_images": 6, **QUICK}
        seeds = range(1)
    files = ("selection", "confirmation", "reason")
    selection, confirmation, reasons = (Results(out / f"{name}.json") for name in files)
    for line in selection.missing({"seed": seed} for seed in seeds):
        line |= measured(Tested.of("single-6c", line["seed"], work, **words))
    setting = chosen(selection.lines)
    print("chosen:", setting, flush=True)
    for line in confirmation.missing({"data": "double-12c", "seed": seed} for seed in seeds):
        line |= on_masks(setting, Tested.of("double-12c", line["seed"], work, **words))
    for line in reasons.missing({"seed": seed} for seed in seeds):
        line |= asked(setting, Tested.of("single-6c", line["seed"], work, **words))
    for line in confirmation.missing([{"data": "cifar10"}]):
        line |= on_cifar(setting, work, quick=quick)
    if not quick:
        write_readme(HERE)
