"""Captum's TCAV on the same vectors, to compare ours with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.concepts import TcavResult


def disagreement(
    model: nn.Module, found: TcavResult, concept: Tensor, random: list[Tensor], images: Tensor, work: Path
) -> dict[str, float]:
    """Return the largest differences of ours from captum: of scores, of vectors, and of the effect.

    ``found``: of one concept and one layer, with the logit in place of the log-odds. Captum gives the mean derivative
    along a vector of length 1; times the spread of random images along it that is our effect.
    """
    from captum.attr import LayerGradientXActivation
    from captum.concept import TCAV, Classifier, Concept

    class Means(Classifier):  # type: ignore[misc]
        """The difference of the means, as a classifier of captum."""

        def __init__(self) -> None:
            pass

        def train_and_eval(self, dataloader: Any, **_options: Any) -> Mapping[str, Any]:
            x, y = (torch.cat(parts) for parts in zip(*dataloader, strict=True))
            self.names = torch.unique(y).tolist()
            vector = x[y == self.names[0]].double().mean(0) - x[y == self.names[1]].double().mean(0)
            self.vector = (vector / vector.norm()).float()
            return {}

        def weights(self) -> Tensor:
            return torch.stack([self.vector, -self.vector])

        def classes(self) -> list[int]:
            return list(self.names)

    (layer,) = found.layers
    peers = [Concept(i, str(i), [part]) for i, part in enumerate([concept, *random])]
    gradients = LayerGradientXActivation(model, None, multiply_by_inputs=False)
    peer = TCAV(model, [layer], layer_attr_method=gradients, classifier=Means(), save_path=str(work / "captum"))
    told = peer.interpret(images, [[peers[0], one] for one in peers[1:]], target=found.target)
    maps = [_maps(model, layer, part) for part in random]
    scores, vectors, magnitudes = [], [], []
    for j in range(len(random)):
        theirs = told[f"0-{j + 1}"][layer]
        vector = torch.as_tensor(peer.cavs[f"0-{j + 1}"][layer].stats["weights"][0]).double()
        scores.append(abs(float(theirs["sign_count"][0]) - found.scores[0, 0, j]))
        vectors.append(float(np.abs(found.cavs[0][0, j].ravel() - vector.numpy()).max()))
        spread = (torch.cat([own for i, own in enumerate(maps) if i != j]) @ vector).std(correction=0)
        magnitudes.append(float(theirs["magnitude"][0].detach() * spread))
    effect = float(np.mean(magnitudes))
    return {
        "score": max(scores),
        "vector": max(vectors),
        "effect": abs(effect - found.effect.item()),
        "effect of captum": effect,
    }


def _maps(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _a, out: kept.append(out.detach().clone()))
    with torch.no_grad():
        model(images)
    handle.remove()
    return kept[0].flatten(1).double()
