"""A linear layer fitted again on features, drawn towards the weights that it has.

The layer gives ``W z + b``. Features are standardised to ``u = (z - mean) / scale`` and the change is fitted: the
outputs become ``W z + b + D u + d``, and ``strength / 2 * (|D|² + |d|²)`` is added to the loss. So a large strength
leaves the old layer, and features of any size count alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from interpnet.errors import DataError
from interpnet.support.checks import number, whole_number

_ITERATIONS = 200


class Layer(NamedTuple):
    """Weights (C, F) and bias (C,) of a linear layer, in float64."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return the outputs (n, C) of features (n, F)."""
        return features.double() @ self.weight.T + self.bias


def logistic_towards(
    features: Tensor,
    labels: Tensor,
    layer: Layer,
    strength: float,
    *,
    weights: Tensor | None = None,
    has_bias: bool = True,
    iterations: int = _ITERATIONS,
) -> Layer:
    """Return the multinomial logistic regression of labels on features that is drawn towards a layer.

    It minimises ``sum_i w_i CE_i / sum_i w_i + strength / 2 * (|D|² + |d|²)`` (see the module) by L-BFGS. A layer of
    one output is a sigmoid, with labels 0 and 1. Classes without an image keep their weights: nothing is known of them.

    Parameters
    ----------
    features : Tensor (n, F)
    labels : Tensor (n,) int64
    layer : Layer
        The old one.
    strength : float
        Above 0.
    weights : Tensor (n,), optional
        Of the images in the loss, 0 or above.
    has_bias : bool
        Whether the layer has a bias; else its bias stays, and features are scaled and not centred.
    iterations : int
        The most steps.

    Raises
    ------
    DataError
        Shapes that do not fit, or features that are not finite.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    >>> old = Layer(torch.zeros(2, 2).double(), torch.zeros(2).double())
    >>> new = logistic_towards(z, torch.tensor([1, 0, 1, 0]), old, 0.01)
    >>> new(z).argmax(1).tolist()
    [1, 0, 1, 0]
    >>> float(logistic_towards(z, torch.tensor([1, 0, 1, 0]), old, 1e9).weight.abs().max()) < 1e-8
    True
    """
    standard = _Standard(features, layer, strength, weights, has_bias)
    n, c = len(features), len(layer.weight)
    if labels.shape != (n,) or labels.is_floating_point() or int(labels.min()) < 0 or int(labels.max()) >= max(c, 2):
        raise DataError(f"labels: shape {tuple(labels.shape)} came; expected {n} class numbers, 0 to {max(c, 2) - 1}")
    whole_number(iterations, "iterations", least=1)
    offset = layer(features)
    share = standard.share
    if c == 1:
        known = torch.ones(1, dtype=torch.bool)
        target = labels.double()[:, None]
    else:
        known = torch.bincount(labels[share > 0], minlength=c) > 0
        target = torch.nn.functional.one_hot(labels, c).double()

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        change = torch.from_numpy(flat).view(c, -1)
        logits = offset + standard.rows @ change.T
        if c == 1:
            each = torch.nn.functional.softplus(logits) - target * logits
            error = torch.sigmoid(logits) - target
        else:
            each = logits.logsumexp(1, keepdim=True) - (target * logits).sum(1, keepdim=True)
            error = torch.softmax(logits, 1) - target
        error *= share[:, None]
        error[:, ~known] = 0
        gradient = error.T @ standard.rows + strength * change
        value = float(share @ each[:, 0] + 0.5 * strength * change.square().sum())
        return value, gradient.flatten().numpy()

    start = np.zeros(c * standard.rows.shape[1])
    options = {"maxiter": iterations, "ftol": 1e-12, "gtol": 1e-8, "maxfun": 2 * iterations}
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return standard.back(torch.from_numpy(found.x).view(c, -1))


def ridge_towards(
    features: Tensor,
    targets: Tensor,
    layer: Layer,
    strength: float,
    *,
    weights: Tensor | None = None,
    has_bias: bool = True,
) -> Layer:
    """Return the least-squares fit of outputs ``targets`` (n, C) on features (n, F) that is drawn towards a layer.

    In closed form: with r_i what the old layer lacks of its target, ``D = (U'SU + strength I)^-1 U'S r``, where U has a
    column of ones for the bias and S holds the images' weights, which sum to 1. Arguments as in
    :func:`logistic_towards`.

    Examples
    --------
    >>> z = torch.tensor([[1.0], [-1.0]])
    >>> old = Layer(torch.zeros(1, 1).double(), torch.zeros(1).double())
    >>> round(float(ridge_towards(z, torch.tensor([[2.0], [-2.0]]), old, 1.0).weight), 9)
    1.0
    """
    standard = _Standard(features, layer, strength, weights, has_bias)
    if targets.shape != (len(features), len(layer.weight)) or not bool(torch.isfinite(targets).all()):
        raise DataError(
            f"targets: shape {tuple(targets.shape)} came; expected finite numbers of shape "
            f"({len(features)}, {len(layer.weight)})"
        )
    lacking = targets.double() - layer(features)
    weighted = standard.rows * standard.share[:, None]
    gram = weighted.T @ standard.rows
    gram.diagonal().add_(strength)
    change = torch.cholesky_solve(weighted.T @ lacking, torch.linalg.cholesky(gram))
    return standard.back(change.T)


class _Standard:
    """Features that are centred and scaled, with a column of ones, and the way back to a layer."""

    def __init__(self, features: Tensor, layer: Layer, strength: float, weights: Tensor | None, has_bias: bool) -> None:
        n = len(features)
        if features.dim() != 2 or not n or features.shape[1] != layer.weight.shape[1]:
            raise DataError(
                f"features: shape {tuple(features.shape)} came; expected (images, {layer.weight.shape[1]}), at least "
                "one image"
            )
        z = features.double()
        if not bool(torch.isfinite(z).all()):
            raise DataError("features hold NaN or infinite values; expected finite ones: look at images and weights")
        number(strength, "strength", least=1e-12)
        share = torch.ones(n, dtype=torch.float64) if weights is None else weights.double()
        if share.shape != (n,) or not bool((share >= 0).all()) or not float(share.sum()) > 0:
            raise DataError(f"weights: shape {tuple(share.shape)} came; expected {n} numbers from 0, not all 0")
        self.share = share / share.sum()
        self._old = layer
        self._has_bias = has_bias
        mean = self.share @ z
        spread = (self.share @ (z - mean).square()).sqrt()
        if not has_bias:
            mean = torch.zeros_like(mean)
            spread = (self.share @ z.square()).sqrt()
        self._mean = mean
        # A constant feature stays as it is.
        self._scale = torch.where(spread > 1e-6 * spread.max().clamp(min=1e-30), spread, torch.ones_like(spread))
        rows = (z - mean) / self._scale
        if has_bias:
            rows = torch.cat([rows, torch.ones(n, 1, dtype=torch.float64)], 1)
        self.rows = rows

    def back(self, change: Tensor) -> Layer:
        """Return the layer with a change (C, F + 1), or (C, F) where it has no bias, of standardised features."""
        n_features = len(self._mean)
        by_feature = change[:, :n_features] / self._scale
        bias = self._old.bias
        if self._has_bias:
            bias = bias + change[:, n_features] - by_feature @ self._mean
        return Layer(self._old.weight + by_feature, bias)
