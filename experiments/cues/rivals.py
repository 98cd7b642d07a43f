"""What the literature would suspect: a number for each class from network, images and labels, without masks or groups.

A larger number is more suspicious; a network's is that of its most suspicious class. Where a method ends with a person
who looks at pictures, what stands in for the person is said at the function. Forward passes see at most 1,000 images,
heatmaps at most 400, the same number of each class.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import NMF, PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from experiments.common.maps import quietly
from experiments.common.suspicion import area_of, bimodality, outside_middle, separations, shares_of, standardised
from interpnet.engine import all_log_odds
from interpnet.models import LastLayer, last_layer
from interpnet.scores import collect_scores
from interpnet.support.types import Float64, Int64

_MOST = 1000  # images of a forward pass
_MAPS = 400  # images with a heatmap
_BATCH = 100
_TOP = 5  # features of a class, as Singla and Feizi show
_SLICES = 5  # of a class
_DIMENSIONS = 8  # of the embedding that slices are made in
_CONFIDENCE = 10.0  # weight of the confidence against the embedding, as Domino's default
_FEWEST = 5  # images of a slice that count
_CONCEPTS = 10  # of a class, as the authors of the gradient trail take; so are side and step
_PATCHES = 48  # of a class
_PATCH = 50 / 224  # of the image's side
_STEP = 20_000 / 128  # 20,000 times the gradient of a mean over a batch


@dataclass(frozen=True, eq=False)
class Seen:
    """A network's images with what it makes of them: what every statistic is computed from."""

    model: nn.Module
    images: Tensor  # (N, 3, H, W)
    labels: Int64  # (N,)
    logits: Tensor  # (N, C) float64
    features: Float64  # (N, d): what the last layer reads
    layer: LastLayer
    mapped: Int64  # rows of the images that have a heatmap
    maps: Tensor  # (M, H, W): their heatmaps for the class that the network says
    seed: int

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return self.logits.shape[1]

    @property
    def weights(self) -> Float64:
        """The last layer's weights (C, d)."""
        return self.layer.weight.numpy()

    @property
    def predicted(self) -> Int64:
        """The class (N,) that the network says."""
        return self.logits.argmax(1).numpy()

    @property
    def own_log_odds(self) -> Float64:
        """The log-odds (N,) of each image's own class."""
        every = all_log_odds(self.logits)
        return every[torch.arange(len(every)), torch.from_numpy(self.labels)].numpy()

    def by_class(self, number: Callable[[int, Int64], float]) -> Float64:
        """Return ``number(class, its rows)`` of every class, 0 of a class without images."""
        rows = [np.flatnonzero(self.labels == c) for c in range(self.n_classes)]
        return np.array([number(c, own) if len(own) else 0.0 for c, own in enumerate(rows)])


def seen(model: nn.Module, images: Tensor, labels: Tensor, *, seed: int = 0) -> Seen:
    """Run a network over images (N, C, H, W) with labels (N,); of many, some are drawn."""
    rows = evenly(labels.numpy(), _MOST, seed)
    images = images[rows]
    own = labels[rows].numpy()
    layer = last_layer(model, images[:2])
    features, logits = read(layer, images)
    mapped = evenly(own, _MAPS, seed + 1)
    parts = zip(torch.split(images[mapped], _BATCH), torch.split(logits.argmax(1)[mapped], _BATCH), strict=True)
    maps = torch.cat([quietly(model, some, target, "lrp_epsilon_plus_flat") for some, target in parts]).abs()
    return Seen(model, images, own, logits, features, layer, mapped, maps, seed)


def evenly(labels: Int64, most: int, seed: int) -> Int64:
    """Return at most ``most`` rows in order, as many of each class as there are, drawn at random.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 1, 1, 2])
    >>> labels[evenly(labels, 4, 0)].tolist()
    [0, 0, 1, 2]
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.zeros(len(labels), dtype=np.int64)  # how many of an image's class come before it
    for c in np.unique(labels):
        own = order[labels[order] == c]
        turn[own] = np.arange(len(own))
    return np.sort(np.lexsort((labels, turn))[:most])


def read(layer: LastLayer, images: Tensor) -> tuple[Float64, Tensor]:
    """Return what the last layer gets of images (N, d), and the logits (N, C), in float64."""
    parts = [layer.features(part) for part in torch.split(images, _BATCH)]
    features, logits = (torch.cat(part).double() for part in zip(*parts, strict=True))
    return features.numpy(), logits


def spray(s: Seen) -> Float64:
    """Return how well the maps of images taken for a class fall into two clusters: SpRAy (Lapuschkin et al. 2019).

    A person would look at the clusters; here their silhouette stands for that.
    """
    return separations(s.maps, s.predicted[s.mapped], s.n_classes)


def class_activation(s: Seen) -> Float64:
    """Return the largest difference of a channel's mean score to the other classes', in standard deviations."""
    batches = list(zip(torch.split(s.images, _BATCH), torch.split(torch.from_numpy(s.labels), _BATCH), strict=True))
    table = collect_scores(s.model, batches, progress=False)
    difference = standardised(np.asarray(table.X, dtype=np.float64), s.labels)
    return np.pad(np.abs(difference).max(1), (0, s.n_classes - len(difference)))


def spurious_accuracy(s: Seen) -> Float64:
    """Return the gap of accuracy of Spuriosity Rankings (Singla and Feizi 2022; Moayeri et al. 2023).

    A class's five features of the last layer with the largest mean contribution, feature times weight; the class's
    images in the order of each; accuracy in the top quarter minus that in the bottom one, the largest of the five. The
    authors have people say from pictures which feature is spurious, and take the gap of that one: here nobody says so,
    and every feature counts as spurious.
    """
    return _gaps(s, (s.predicted == s.labels).astype(np.float64))


def spurious_log_odds(s: Seen) -> Float64:
    """Return :func:`spurious_accuracy` with log-odds for accuracy: they differ where every image is right."""
    return _gaps(s, s.own_log_odds)


def _gaps(s: Seen, values: Float64) -> Float64:
    def gap(c: int, own: Int64) -> float:
        quarter = len(own) // 4
        if not quarter:
            return 0.0
        top = np.argsort(-s.features[own].mean(0) * s.weights[c], kind="stable")[:_TOP]
        orders = [own[np.argsort(s.features[own, j], kind="stable")] for j in top]
        return float(max(values[o[-quarter:]].mean() - values[o[:quarter]].mean() for o in orders))

    return s.by_class(gap)


def gradient_trail(s: Seen) -> Float64:
    """Return the Gradient Trail (Vitry et al. 2026, arXiv 2605.28780): concepts that correcting mistakes moves.

    Ten concepts of a class: patches of images that are taken for it, enlarged, through the network, and their features
    factorised without negative numbers. The features of misclassified images take a long step down the gradient of the
    loss, negative values are set to 0, and both are written as concepts. A concept's number is the mean of two
    frequencies, each at least 0: how much more often it is present after the step in missed images of the class, and
    how much less often in images wrongly taken for it. The class has its largest. As the authors' code does it, but 48
    patches drawn of each class; a class without such images is 0.
    """
    rng = np.random.default_rng(s.seed)
    predicted = s.predicted
    wrong = predicted != s.labels
    gradient = (s.logits.softmax(1) - F.one_hot(torch.from_numpy(s.labels), s.n_classes)).numpy() @ s.weights
    before = s.features.clip(min=0.0)
    after = (s.features - _STEP * gradient).clip(min=0.0)
    found = np.zeros(s.n_classes)
    for c in range(s.n_classes):
        missed, taken = wrong & (s.labels == c), wrong & (predicted == c)
        here = np.flatnonzero(predicted == c)
        if not len(here) or not (missed.any() or taken.any()):
            continue
        patches = read(s.layer, _patches(s.images[rng.choice(here, _PATCHES)], rng))[0].clip(min=0.0)
        factors = NMF(min(_CONCEPTS, patches.shape[1]), random_state=0, init="nndsvda")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            factors.fit(patches)
            base, moved = (factors.transform(x[missed | taken]) > 0 for x in (before, after))
        more = (moved.astype(float) - base) if len(base) else base
        of_missed, of_taken = missed[missed | taken], taken[missed | taken]
        score = np.zeros(base.shape[1])
        if of_missed.any():
            score += more[of_missed].mean(0).clip(min=0.0) / 2
        if of_taken.any():
            score += (-more[of_taken]).mean(0).clip(min=0.0) / 2
        found[c] = score.max()
    return found


def _patches(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Return one patch of each image (B, C, H, W) at a random place, enlarged to the image's size."""
    height, width = images.shape[2:]
    side = min(height, width, max(8, math.ceil(_PATCH * height)))
    corners = rng.integers(0, [height - side + 1, width - side + 1], size=(len(images), 2))
    cut = [image[:, y : y + side, x : x + side] for image, (y, x) in zip(images, corners, strict=True)]
    return F.interpolate(torch.stack(cut), (height, width), mode="bilinear", align_corners=False)


def worst_slice(s: Seen) -> Float64:
    """Return the error of a class's worst slice beyond that of the class, after Domino (Eyuboglu et al. 2022).

    A class's slices are the parts of a Gaussian mixture of the features (eight principal components, the first of
    variance 1) and ten times the confidence in the class. A slice of fewer than five images does not count.
    """
    error = (s.predicted != s.labels).astype(np.float64)
    confidence = s.logits.softmax(1).numpy()[np.arange(len(s.labels)), s.labels]

    def worst(_: int, own: Int64) -> float:
        if len(own) < 2 * _FEWEST:
            return 0.0
        x = s.features[own] - s.features[own].mean(0)
        z = PCA(min(_DIMENSIONS, *x.shape), random_state=0).fit_transform(x) if x.any() else x[:, :1]
        scale = float(z[:, 0].std()) or 1.0
        z = np.column_stack([z / scale, _CONFIDENCE * confidence[own]])
        mixture = GaussianMixture(min(_SLICES, len(own) // _FEWEST), covariance_type="diag", random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            part = mixture.fit_predict(z)
        gaps = [error[own[part == k]].mean() for k in np.unique(part) if (part == k).sum() >= _FEWEST]
        return float(max(gaps, default=0.0) - error[own].mean()) if gaps else 0.0

    return s.by_class(worst)


def heat_outside(s: Seen) -> Float64:
    """Which part of the heatmaps of images taken for the class lies outside the middle of the image, their mean."""
    return _mean_of_maps(s, outside_middle)


def heat_area(s: Seen) -> Float64:
    """Which part of the image the heatmaps of images taken for the class cover, their mean."""
    return _mean_of_maps(s, area_of)


def _mean_of_maps(s: Seen, measure: Callable[[Float64], Float64]) -> Float64:
    maps = s.maps.double().numpy()
    values = measure(shares_of(maps))
    groups = s.predicted[s.mapped][maps.sum((1, 2)) > 0]
    return np.array([values[groups == c].mean() if (groups == c).any() else 0.0 for c in range(s.n_classes)])


def two_answers(s: Seen) -> Float64:
    """Return whether the log-odds of a class's own images fall into two groups, by Sarle's bimodality coefficient."""
    values = s.own_log_odds
    return s.by_class(lambda _, own: bimodality(values[own]) or 0.0)


def error(s: Seen) -> Float64:
    """Return how often the network is wrong on the class's images."""
    wrong = s.predicted != s.labels
    return s.by_class(lambda _, own: float(wrong[own].mean()))


def at_random(s: Seen) -> Float64:
    """Return a number that knows nothing."""
    return np.random.default_rng([s.seed, 17]).random(s.n_classes)


#: Every statistic by its name.
STATISTICS: dict[str, Callable[[Seen], Float64]] = {
    "SpRAy-like clusters": spray,
    "class-activation difference": class_activation,
    "Spuriosity Rankings, gap of accuracy": spurious_accuracy,
    "Spuriosity Rankings, gap of log-odds": spurious_log_odds,
    "Gradient Trail": gradient_trail,
    "Domino-like worst slice": worst_slice,
    "heatmap outside the middle": heat_outside,
    "heatmap area": heat_area,
    "log-odds in two groups": two_answers,
    "validation error": error,
    "random": at_random,
}


def suspicions(model: nn.Module, images: Tensor, labels: Tensor, *, seed: int = 0) -> dict[str, Float64]:
    """Return every statistic's number for each class (C,), from images (N, C, H, W) and labels (N,).

    Images that the network was not fitted to are best: several statistics look at its mistakes.
    """
    s = seen(model, images, labels, seed=seed)
    return {name: statistic(s) for name, statistic in STATISTICS.items()}
