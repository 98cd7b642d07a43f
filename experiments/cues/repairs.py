"""What the literature repairs with: DFR and AFR on the last layer, JTT from the beginning.

- DFR (Kirichenko, Izmailov & Wilson, "Last layer re-training is sufficient for robustness to spurious correlations",
  ICLR 2023) needs a group label of each image: which class, and which cue.
- AFR (Qiu et al., "Simple and fast group robustness by automatic feature reweighting", ICML 2023) and JTT (Liu et al.,
  "Just train twice", ICML 2021) need groups only to choose their settings; without them the worst class stands in.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from experiments.common.batches import Batches
from interpnet.engine import evaluating
from interpnet.errors import DataError
from interpnet.models import LastLayer, Layer, last_layer, logistic_towards, train
from interpnet.support.types import Float64, Int64

_AT_ONCE = 200  # images of a forward pass
#: DFR: inverse strengths of its penalties, and group-balanced subsets whose fits are averaged.
_STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)
_SUBSETS = 10
#: AFR: how steeply an image's weight falls with the probability of its label, and the pull to the old weights.
_GAMMAS = (2.0, 4.0, 8.0, 16.0)
_PULLS = (0.1, 0.01, 0.001)


class Images(NamedTuple):
    """Images (N, C, H, W) with what they show (N,), and the group of each (N,): class and cue together, say."""

    images: Tensor
    labels: Tensor
    groups: Tensor


def worst_group(predicted: Int64, labels: Int64, groups: Int64) -> float:
    """Return the lowest accuracy of a group.

    Examples
    --------
    >>> worst_group(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([7, 7, 8]))
    0.5
    """
    right = predicted == labels
    return min(float(right[groups == g].mean()) for g in np.unique(groups))


def dfr(model: nn.Module, held: Images, *, seed: int = 0) -> nn.Module:
    """Return a copy with the last layer fitted to group-balanced images that the network was not trained on.

    Half of them choose the penalty (L1 or L2) and its strength by the worst group of the other half; then the weights
    are the mean of fits on ten balanced subsets of all. Features are standardised.
    """
    layer = last_layer(model, held.images[:2])
    features = _features(layer, held.images)
    labels, groups = held.labels.numpy(), held.groups.numpy()
    if len(np.unique(groups)) < 2:
        raise DataError("the images are all of one group; expected the groups that a repair must not sacrifice")
    mean, spread = features.mean(0), features.std(0)
    z = (features - mean) / np.where(spread > 0, spread, 1.0)
    rng = np.random.default_rng(seed)
    half = rng.permutation(len(z))
    fit_on, choose_on = half[: len(z) // 2], half[len(z) // 2 :]
    scores = {}
    for l1 in (1.0, 0.0):
        for strength in _STRENGTHS:
            own = _balanced(fit_on, groups, rng)
            fitted = _regression(z[own], labels[own], strength, l1)
            scores[l1, strength] = worst_group(fitted.predict(z[choose_on]), labels[choose_on], groups[choose_on])
    l1, strength = max(scores, key=lambda setting: scores[setting])
    n_classes = len(layer.weight)
    total_weight, total_bias = np.zeros((n_classes, z.shape[1])), np.zeros(n_classes)
    for _ in range(_SUBSETS):
        own = _balanced(np.arange(len(z)), groups, rng)
        weight, bias = _of_classes(_regression(z[own], labels[own], strength, l1), n_classes)
        total_weight += weight / _SUBSETS
        total_bias += bias / _SUBSETS
    by_feature = total_weight / np.where(spread > 0, spread, 1.0)
    return layer.replaced(Layer(torch.from_numpy(by_feature), torch.from_numpy(total_bias - by_feature @ mean))).eval()


def afr(model: nn.Module, held: Images, choose: Images) -> nn.Module:
    """Return a copy with the last layer fitted to images weighted by how little the network believes their label.

    An image weighs ``exp(-gamma p) / n_y`` with p the probability of its label y and n_y the images of that class; the
    fit is drawn to the old weights. ``gamma`` and the pull are those with the best worst group of ``choose``.
    """
    layer = last_layer(model, held.images[:2])
    features = torch.from_numpy(_features(layer, held.images))
    others = torch.from_numpy(_features(layer, choose.images))
    labels = held.labels
    probability = torch.softmax(layer.layer(features), 1).gather(1, labels[:, None])[:, 0]
    of_class = torch.bincount(labels, minlength=len(layer.weight))[labels]
    best, score = layer.layer, -1.0
    for gamma in _GAMMAS:
        weights = torch.exp(-gamma * probability) / of_class
        for pull in _PULLS:
            fitted = logistic_towards(features, labels, layer.layer, pull, weights=weights)
            predicted = fitted(others).argmax(1).numpy()
            found = worst_group(predicted, choose.labels.numpy(), choose.groups.numpy())
            if found > score:
                best, score = fitted, found
    return layer.replaced(best).eval()


def jtt(
    fresh: Callable[[], nn.Module],
    images: Tensor,
    labels: Tensor,
    choose: Images,
    *,
    first: int,
    epochs: int,
    lr: float,
    max_shift: int = 0,
    upweights: tuple[int, ...] = (5, 20),
    seed: int = 0,
) -> nn.Module:
    """Return a network trained from the beginning on images of which those an early one gets wrong come more often.

    The first is trained for ``first`` epochs; its mistakes come ``upweights`` times in each epoch of the second. Which
    of these is chosen by the worst group of ``choose``. ``fresh`` makes an untrained network.
    """
    early = fresh()
    train(early, Batches(images, labels, seed), epochs=first, lr=lr, max_shift=max_shift, seed=seed, progress=False)
    wrong = np.flatnonzero(_predicted(early, images) != labels.numpy())
    best, score = early, -1.0
    for upweight in upweights:
        rows = torch.from_numpy(np.concatenate([np.arange(len(labels)), np.repeat(wrong, upweight - 1)]))
        # As many steps as without the repeated images.
        turns = max(1, round(epochs * len(labels) / len(rows)))
        other = fresh()
        batches = Batches(images[rows], labels[rows], seed)
        train(other, batches, epochs=turns, lr=lr, max_shift=max_shift, seed=seed, progress=False)
        found = worst_group(_predicted(other, choose.images), choose.labels.numpy(), choose.groups.numpy())
        if found > score:
            best, score = other, found
    return best


def _features(layer: LastLayer, images: Tensor) -> Float64:
    if layer.why:
        raise DataError(f"the last layer cannot be fitted again: {layer.why}")
    parts = [layer.features(part)[0] for part in torch.split(images, _AT_ONCE)]
    return torch.cat(parts).double().numpy()


def _predicted(model: nn.Module, images: Tensor) -> Int64:
    with torch.no_grad(), evaluating(model):
        return torch.cat([model(part).argmax(1) for part in torch.split(images, _AT_ONCE)]).numpy()


def _balanced(rows: Int64, groups: Int64, rng: np.random.Generator) -> Int64:
    """Return as many of the rows of each group as the smallest has."""
    present, counts = np.unique(groups[rows], return_counts=True)
    few = int(counts.min())
    return np.concatenate([rng.permutation(rows[groups[rows] == g])[:few] for g in present])


def _regression(z: Float64, labels: Int64, strength: float, l1: float) -> LogisticRegression:
    solver = "saga" if l1 else "lbfgs"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, l1_ratio=l1, solver=solver, max_iter=300).fit(z, labels)


def _of_classes(fitted: LogisticRegression, n_classes: int) -> tuple[Float64, Float64]:
    """Return weights (C, F) and bias (C,) of a fit: of two classes it has one row; a class not seen is never said."""
    rows, bias = fitted.coef_, fitted.intercept_
    if len(rows) == 1:
        rows, bias = np.concatenate([-rows / 2, rows / 2]), np.concatenate([-bias / 2, bias / 2])
    weight, offset = np.zeros((n_classes, rows.shape[1])), np.full(n_classes, -1e3)
    weight[fitted.classes_], offset[fitted.classes_] = rows, bias
    return weight, offset
