"""C3: whether stripes raise zebra-like classes, and water boats, beyond random sets and beyond other concepts.

    pip install -e '.[photos]'
    OMP_NUM_THREADS=2 python -m experiments.tcav.run [--device cuda] [--quick]

Resumes from results.json, a line per way of reading. --quick takes few images, and writes no page.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from experiments.common.imagenet import efficientnet
from experiments.common.runner import Results, rounded, study
from experiments.common.tables import Line
from experiments.tcav.images import CLASSES, STRIPES, Sets, sets
from experiments.tcav.peer import disagreement
from experiments.tcav.table import AGAIN, CAPTUM, PAGE, POOLED, RANDOM, WAYS
from interpnet import concepts
from interpnet.concepts import TcavResult
from interpnet.evaluate import randomised

LAYERS = ("blocks.3.2.bn2.act", "blocks.4.2.bn2.act", "blocks.5.3.bn2.act")  # the last of three stages
_PEERS = 5  # random sets of captum's
_EACH = 25  # images of a concept
_RANDOM = 80  # sets
_ASKED = 30  # images of a class
_FOR_NORMS = 64  # images on which batch norms of random weights settle


def kept(found: TcavResult) -> Line:
    """Return what a results file keeps of one class."""
    return {
        "effect": found.effect.tolist(),
        "effect_interval": found.effect_interval.tolist(),
        "effect_p_value": found.effect_p_value.tolist(),
        "score": found.score.tolist(),
        "p_value": found.p_value.tolist(),
        # Of random sets: the effect that 1 in 20 is beyond, and between which scores 19 in 20 are.
        "random_effect": np.quantile(np.abs(found.random_effect), 0.95, axis=1).tolist(),
        "random_score": np.quantile(found.random_score, [0.025, 0.975], axis=1).T.tolist(),
        "by_image": found.by_image.mean(1).tolist(),  # mean over layers
    }


def read(
    model: nn.Module, given: Sets, *, pool: bool, layers: tuple[str, ...] = LAYERS, device: str, max_batch: int
) -> Line:
    """Return what all classes do along all concepts."""
    targets = [output for output, _ in CLASSES.values()]
    with warnings.catch_warnings():
        # What a concept does not separate stands in the results.
        warnings.simplefilter("ignore", concepts.ConceptWarning)
        found = concepts.tcav(
            model, concept=given.concepts, random=given.random, images=list(given.classes.values()), target=targets,
            layer=list(layers), pool=pool, sets=_RANDOM, device=device, max_batch=max_batch, progress=False,
        )  # fmt: skip
    first = found[0]
    return {
        "layers": list(first.layers),
        "concepts": list(first.concepts),
        "sets": first.random_effect.shape[1],
        "accuracy": first.accuracy.tolist(),
        "separates": first.separates.tolist(),
        "random_accuracy": first.random_accuracy.tolist(),
        "classes": {name: kept(one) for name, one in zip(CLASSES, found, strict=True)},
    }


def compared(model: nn.Module, given: Sets, work: Path) -> Line:
    """Return how far ours is from captum, on a few random sets, at the last of the layers."""
    concept = given.concepts[STRIPES].inputs()
    n = len(concept)
    random = list(torch.split(given.random.inputs(_PEERS * n), n))
    images = given.classes["zebra"].inputs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few random sets; and captum's own
        found = concepts.tcav(
            model, concept=concept, random=random, images=images, target=CLASSES["zebra"][0], layer=LAYERS[-1],
            outputs="independent", max_batch=n, progress=False,
        )  # fmt: skip
        apart = disagreement(model, found, concept, random, images, work)
    return {"layer": LAYERS[-1], "vectors": len(random), **apart}


@study(PAGE, "runs/tcav", device="where the network runs")
def main(
    results: Results, work: Path, *, quick: bool, device: str = "cpu", max_batch: int = 50, ways: tuple[str, ...] = WAYS
) -> None:
    """Measure what is missing and write results.json, the README's tables and the figure."""
    wanted = [{"way": way} for way in ways]
    if not results.todo(wanted):
        return
    size = {"each": 6, "random": 20, "asked": 4} if quick else {"each": _EACH, "random": _RANDOM, "asked": _ASKED}
    given = sets(**size)
    trained = efficientnet().to(memory_format=torch.channels_last)
    for line in results.missing(wanted):
        way = line["way"].removeprefix(RANDOM)
        here = sets(part=1, **size) if way == AGAIN else given
        model = trained
        if way != line["way"]:
            model = randomised(trained, given.random.inputs(_FOR_NORMS))
        if way == CAPTUM:
            line.update(compared(model, here, work))
        else:
            layers = LAYERS[-1:] if way == AGAIN else LAYERS
            line.update(
                rounded(read(model, here, pool=way == POOLED, layers=layers, device=device, max_batch=max_batch))
            )
        line["device"] = device
