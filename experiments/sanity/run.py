"""E4: class sensitivity, parameter randomisation, deletion and insertion for every method, on trained networks.

    python -m experiments.sanity.run [--subjects resnet20 single-6c double-12c] [--quick]

Resumes from results.json, a line per method and network: the shared ResNet-20 (see experiments/README.md), and E3's
(trained where its working folder, --work, lacks them). --quick takes few images and three methods.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.common.maps import RULES, quietly
from experiments.common.runner import Results, study
from experiments.common.tables import Line
from experiments.sanity.subjects import SUBJECTS, Subject
from experiments.sanity.table import PAGE
from interpnet.attribution import methods
from interpnet.errors import ModelError
from interpnet.evaluate import class_sensitivity, deletion, insertion, parameter_randomisation
from interpnet.explanation import explain

STEPS = 16  # of deletion and insertion

Maps = Callable[[nn.Module, Tensor, Tensor], Tensor]


def names(*, quick: bool) -> list[str]:
    """Return every map's name: the registry's methods, the channels under each rule, logits under resampled rules."""
    if quick:
        return ["gradient", "channels guided resampled", "edge"]
    channels = [f"channels {rule} {how}" for rule in RULES for how in ("plain", "resampled")]
    channels += [f"channels guided {how}, absolute" for how in ("plain", "resampled")]
    return [*(m.name for m in methods()), *channels, "logit deconvnet resampled", "logit guided resampled"]


def made(name: str, subject: Subject) -> Maps:
    """Return the map of that name as a function of model, images and classes; signed maps keep their sign.

    The channels are those identified in the trained network, also where the model's weights are random.
    """
    start_at, *words = name.removesuffix(", absolute").split()
    if start_at == "channels":
        reduction = ("positive", "abs")[name.endswith(", absolute")]
        how: dict[str, Any] = {"rectifier": words[0], "resample": words[1] == "resampled", "reduction": reduction}
        return lambda model, images, target: (
            explain(model, images, subject.found, classes=target, **how, variant="paper").combined
        )
    if start_at == "logit":
        return lambda model, images, target: quietly(model, images, target, words[0], resample=True)
    return lambda model, images, target: quietly(model, images, target, name, **subject.options.get(name, {}))


def examine(explained: Maps, subject: Subject) -> Line:
    """Return one method's scores, each the mean over the images."""
    model = subject.model
    images = subject.images
    with torch.no_grad():
        target = model(images).argmax(1)
    maps = explained(model, images, target)
    removed = deletion(model, images, maps, target, steps=STEPS, controls=(), constant="zero")
    put_in = insertion(model, images, maps, target, steps=STEPS, controls=(), constant="zero")
    by_class = class_sensitivity(explained, model, images, subject.classes, constant="zero")
    cascade = parameter_randomisation(
        model, images, lambda m, x: explained(m, x, target[: len(x)]), stages=subject.stages, constant="zero"
    )
    if cascade.spearman.curve is None or removed.flagged is None:
        raise RuntimeError("a cascade has a curve, and deletion flags constant maps; this is a fault of the library")
    scores = {
        "deletion": removed.mean,
        "insertion": put_in.mean,
        "class_rank": by_class.spearman.mean,
        "class_structure": by_class.ssim.mean,
        "weights_rank": cascade.spearman.mean,
        "weights_rank_absolute": cascade.spearman_abs.mean,
        "weights_structure": cascade.ssim.mean,
        "weights_rank_after_the_top": float(cascade.spearman.curve[:, 0].mean()),
    }
    rounded = {name: round(value, 5) for name, value in scores.items()}
    return {**rounded, "blank": int(removed.flagged.sum()), "images": len(images)}


@study(
    PAGE,
    "runs/localisation",
    subjects=SUBJECTS,
    images="of each network; by default 32 (CIFAR-10) and 12",
    networks="of each data set of flowers; by default 2 and 1",
    work="weights and images of E3",
)
def main(
    results: Results,
    work: Path,
    *,
    quick: bool,
    subjects: tuple[str, ...] = tuple(SUBJECTS),
    images: int | None = None,
    networks: int | None = None,
) -> None:
    """Examine what is missing and write results.json and the README's tables."""
    for name in subjects:
        make, usual, n_images = SUBJECTS[name]
        if name != "resnet20":  # of which there is one
            usual = networks or usual
        n_images = images or n_images
        if quick:
            usual = 1
            n_images = 4
        for seed in range(usual):
            wanted = [{"subject": name, "seed": seed, "method": m} for m in names(quick=quick)]
            if not results.todo(wanted):
                continue
            subject = make(seed, work, n_images=n_images, quick=quick)
            for line in results.missing(wanted):
                try:
                    line |= examine(made(line["method"], subject), subject)
                except ModelError as error:  # CAM where the network does not average
                    print(f"{name} {seed} {line['method']}: {error}", flush=True)
