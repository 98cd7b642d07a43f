"""The ways to repair: the last layer fitted again, the cue's direction projected out, or training on.

Sources: Kirichenko et al., "Last layer re-training is sufficient for robustness to spurious correlations", ICLR 2023
(with group labels; here exchanged images stand in for them); Anders et al., "Finding and removing Clever Hans", 2022
(ClArC: projection along a concept's direction); Bareeva et al., "Reactive model correction", CVPR workshops 2024 (only
where the concept is found); Pahde et al., "Navigating neural space", 2022 (directions from differences of means).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.errors import InterpNetError
from interpnet.models import LastLayer, Layer, copied, logistic_towards, ridge_towards
from interpnet.shortcuts._repair_bench import Bench, Made
from interpnet.shortcuts._repair_images import EXCHANGED, PLAIN
from interpnet.shortcuts._repair_training import trained_on

#: What is tried of each way: strengths of the pull to the old weights, numbers of directions, highest learning rates.
STRENGTHS: dict[str, tuple[float, ...]] = {
    "ridge": (1.0, 0.1, 0.01, 0.001, 0.0001),
    "logistic": (0.1, 0.01, 0.001, 0.0001),
    "projection": (1, 2, 3),
    "reactive": (1, 2, 3),
    "training": (0.0003, 0.001, 0.003),
    "exchanged": (0.001, 0.003),
}
#: Those that train the whole network on: on images as they are and exchanged, on exchanged ones alone.
TRAINING = ("training", "exchanged")
# Images x features x classes of a logistic fit: past that a step takes a second and more.
_MOST_PRODUCTS = 2e10


def unfit(how: str, bench: Bench) -> str:
    """Return why a way cannot be gone with a network, with what is left; empty where it can."""
    network = bench.network
    left = "; how='training' is left"
    if how in TRAINING:
        if any(p.requires_grad for p in network.model.parameters()):
            return ""
        return (
            "every parameter of the model is frozen (requires_grad=False); let some take a gradient, or use "
            "how='ridge', 'logistic' or 'projection', which need none"
        )
    if network.layer is None:
        return network.why + left
    if how in {"ridge", "logistic", "reactive"} and network.layer.why:
        return f"{network.layer.why}{left}, and 'projection'"
    return ""


def too_large(how: str, bench: Bench) -> str:
    """Return why a way is left out where nobody asked for it by name; empty where it is tried."""
    rows = bench.features[PLAIN][0]
    if how == "logistic" and (1 + len(bench.features[EXCHANGED])) * rows.numel() * bench.network.n_outputs > (
        _MOST_PRODUCTS
    ):
        return "not tried: so many images, features and classes take a second a step; ask for it with how='logistic'"
    return ""


def fit(
    how: str, strength: float, bench: Bench, wanted: Any, kind: str, *, epochs: int, seed: int, progress: bool
) -> Made:
    """Return what a way makes of a network with the images ``wanted`` (N,), exchanged as ``kind`` says."""
    if how in TRAINING:
        alone = how == "exchanged"
        return trained_on(bench, wanted, kind, alone=alone, lr=strength, epochs=epochs, seed=seed, progress=progress)
    layer = bench.network.layer
    if layer is None:
        raise InterpNetError(f"how={how!r} needs a last layer: {bench.network.why}")
    mask = torch.from_numpy(wanted)
    plain = bench.features[PLAIN][0][mask]
    others = [features[mask] for features in bench.features[kind]]
    labels = bench.labels[mask]
    has_bias = layer.bias_name is not None
    if how in {"projection", "reactive"}:
        found, centre = directions(plain, others, labels, int(strength))
        if not has_bias:
            centre = torch.zeros_like(centre)
        if how == "projection":
            return projected(layer.layer, found, centre)
        return _reactive(layer, found, centre, plain.double(), labels)
    # As they are, and exchanged: each half of the loss.
    rows = torch.cat([plain, *others])
    share = torch.cat([torch.ones(len(plain)), torch.full((len(rows) - len(plain),), 1 / len(others))])
    if how == "logistic":
        return logistic_towards(
            rows, labels.repeat(1 + len(others)), layer.layer, strength, weights=share, has_bias=has_bias
        )
    # What the network says of an image it should say of it with another's part too, where it is right.
    right = bench.logits[PLAIN][0][mask].argmax(1) == labels
    if not bool(right.any()):
        return layer.layer
    keep = right.repeat(1 + len(others))
    targets = layer.layer(plain).repeat(1 + len(others), 1)
    return ridge_towards(rows[keep], targets[keep], layer.layer, strength, weights=share[keep], has_bias=has_bias)


def directions(plain: Tensor, exchanged: Sequence[Tensor], labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the directions (F, k) in which a class's own part moves its features, and the centre (F,) without it.

    For each class the mean of its features (n, F) as they are, less the mean with exchanged parts; of these
    differences, weighted by the square root of the class's images, the k first right singular vectors. The centre is
    the mean with exchanged parts. Fewer than k where the differences span less.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 5.0], [1.0, 7.0], [0.0, 5.0], [0.0, 7.0]])
    >>> without = torch.tensor([[0.0, 5.0], [0.0, 7.0], [0.0, 5.0], [0.0, 7.0]])
    >>> v, centre = directions(z, [without], torch.tensor([0, 0, 1, 1]), 2)
    >>> v.abs().tolist(), centre.tolist()
    ([[1.0], [0.0]], [0.0, 6.0])
    """
    z = plain.double()
    without = torch.stack([one.double() for one in exchanged]).mean(0)
    differences = []
    for label in torch.unique(labels).tolist():
        own = labels == label
        differences.append(own.double().sum().sqrt() * (z[own] - without[own]).mean(0))
    _, sizes, vectors = torch.linalg.svd(torch.stack(differences), full_matrices=False)
    kept = min(k, int((sizes > 1e-9 * sizes.max().clamp(min=1e-30)).sum()))
    return vectors[:kept].T.contiguous(), without.mean(0)


def projected(layer: Layer, found: Tensor, centre: Tensor) -> Layer:
    """Return the layer that sees its features f as ``f - V V' (f - centre)``, with the directions V (F, k).

    It is the layer with ``W - W V V'`` and ``b + W V V' centre``: the projection is in its weights.

    Examples
    --------
    >>> old = Layer(torch.tensor([[2.0, 1.0]]).double(), torch.zeros(1).double())
    >>> new = projected(old, torch.tensor([[1.0], [0.0]]).double(), torch.tensor([3.0, 0.0]).double())
    >>> new.weight.tolist(), new.bias.tolist()
    ([[0.0, 1.0]], [6.0])
    """
    along = layer.weight @ found @ found.T
    return Layer(layer.weight - along, layer.bias + along @ centre)


class ReactiveLinear(nn.Module):
    """A linear layer that projects a direction out of its features only where they lie far along it.

    A feature vector f lies at ``V' (f - centre)`` along the directions V; each that is further than its threshold from
    the centre, on the side of the cue, is set to the centre.
    """

    directions: Tensor
    centre: Tensor
    thresholds: Tensor

    def __init__(self, linear: nn.Module, found: Tensor, centre: Tensor, thresholds: Tensor) -> None:
        super().__init__()
        self.linear = linear
        self.register_buffer("directions", found)
        self.register_buffer("centre", centre)
        self.register_buffer("thresholds", thresholds)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, F) to outputs (B, C)."""
        along = (features - self.centre) @ self.directions
        far = along > self.thresholds
        result: Tensor = self.linear(features - (along * far) @ self.directions.T)
        return result


def _reactive(layer: LastLayer, found: Tensor, centre: Tensor, plain: Tensor, labels: Tensor) -> nn.Module:
    """Return a copy of the network with a :class:`ReactiveLinear` in the place of its last layer."""
    model = copied(layer.model)
    owner = layer.weight_name.rpartition(".")[0]
    linear = model.get_submodule(owner)
    if not isinstance(linear, nn.Linear):
        raise InterpNetError(
            f"how='reactive' puts a layer into the place of a torch.nn.Linear, and the last layer's weights are those "
            f"of {owner or 'the model itself'!r}, a {type(linear).__name__}; use how='projection'"
        )
    # Each direction points to the class that lies furthest along it; half way there the cue counts as found.
    along = (plain - centre) @ found
    means = torch.stack([along[labels == label].mean(0) for label in torch.unique(labels).tolist()])
    ends = means.gather(0, means.abs().argmax(0, keepdim=True))[0]
    signs = torch.where(ends < 0, -1.0, 1.0)
    parts = [found * signs, centre, 0.5 * ends.abs()]
    reactive = ReactiveLinear(linear, *(part.to(linear.weight) for part in parts))
    if not owner:
        return reactive
    parent, _, name = owner.rpartition(".")
    setattr(model.get_submodule(parent), name, reactive)
    return model.eval()
