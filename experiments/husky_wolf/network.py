"""EfficientNet-Lite0 with a head for huskies and wolves, and what its own outputs say of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from experiments.common.imagenet import efficientnet
from experiments.husky_wolf.photographs import CLASSES, Photographs
from interpnet.support.types import Float64, Int64

#: ImageNet's classes: Eskimo dog, malamute and Siberian husky; timber, white and red wolf.
OWN = ((248, 249, 250), (269, 270, 271))
_FOLDS = 5
_STRENGTHS = np.logspace(-6, 1, 15)  # of the fit against the L2 penalty


class Head(NamedTuple):
    """A linear head of two classes: the log-odds of the wolf are ``features @ weight + bias``."""

    weight: Float64  # (1280,)
    bias: float
    strength: float  # the chosen C

    def log_odds(self, features: Float64) -> Float64:
        """Return the log-odds (N,) of the wolf."""
        return features @ self.weight + self.bias


class Backbone:
    """EfficientNet-Lite0, whose pooled features and own answers are looked at."""

    def __init__(self) -> None:
        model: Any = efficientnet().to(memory_format=torch.channels_last)
        self.model = model
        last: nn.Linear = model.classifier
        self._weight = last.weight.detach().double().numpy()
        self._bias = last.bias.detach().double().numpy()

    def features(self, images: Tensor, batch: int = 32) -> Float64:
        """Return the pooled features (N, 1280) of pictures of values 0 to 1."""
        found = []
        with torch.inference_mode():
            for part in torch.split(images, batch):
                x = as_input(part).contiguous(memory_format=torch.channels_last)
                found.append(self.model.forward_head(self.model.forward_features(x), pre_logits=True))
        return torch.cat(found).double().numpy()

    def own_log_odds(self, features: Float64) -> Float64:
        """Return how far the wolves' outputs stand above the huskies' (...), logsumexp of three each.

        ``features`` (..., 1280) are pooled.
        """
        logits = features @ self._weight.T + self._bias
        dogs, wolves = (np.logaddexp.reduce(logits[..., list(group)], -1) for group in OWN)
        difference: Float64 = wolves - dogs
        return difference

    def with_head(self, head: Head) -> nn.Module:
        """Return the whole network (a copy) that tells the two classes apart; images as :func:`as_input` makes them."""
        model: Any = efficientnet()
        model.classifier = nn.Linear(len(head.weight), len(CLASSES))
        with torch.no_grad():
            half = torch.from_numpy(head.weight / 2).float()
            model.classifier.weight.copy_(torch.stack([-half, half]))
            model.classifier.bias.copy_(torch.tensor([-head.bias / 2, head.bias / 2]))
        whole: nn.Module = model.eval()
        return whole


def as_input(images: Tensor) -> Tensor:
    """Return pictures of values 0 to 1 as EfficientNet-Lite0 wants them."""
    return 2 * images - 1


def fitted(features: Float64, labels: Int64, *, seed: int = 0) -> Head:
    """Return logistic regression on standardised features.

    Its L2 penalty is the strongest whose loss in five folds is within one standard error of the least: classes that a
    line separates have no best one, the log-odds only grow.
    """
    centre, spread = features.mean(0), features.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    x = (features - centre) / spread
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    losses = np.array(
        [
            [log_loss(labels[out], _fit(x[own], labels[own], c).predict_proba(x[out])) for c in _STRENGTHS]
            for own, out in folds.split(x, labels)
        ]
    )
    mean, error = losses.mean(0), losses.std(0, ddof=1) / np.sqrt(_FOLDS)
    best = int(mean.argmin())
    strength = float(_STRENGTHS[np.flatnonzero(mean <= mean[best] + error[best])[0]])
    found = _fit(x, labels, strength)
    weight = found.coef_[0] / spread
    return Head(weight, float(found.intercept_[0] - centre @ weight), strength)


def _fit(x: Float64, labels: Int64, strength: float) -> Any:
    return LogisticRegression(C=strength, max_iter=5000).fit(x, labels)


def head_of(backbone: Backbone, given: Photographs) -> Head:
    """Return the head fitted on the training photographs."""
    rows = np.flatnonzero(~given.test)
    return fitted(backbone.features(given.images[rows]), given.labels[rows])
