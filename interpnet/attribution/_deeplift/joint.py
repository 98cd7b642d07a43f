"""The multipliers of DeepLIFT at operators that join many values: norms, softmax and products of two tensors.

Neither the paper nor its code goes through attention. These rules are this library's extension: each operator is
written as a chain of steps that have a rule, so that the contributions are complete by construction.

**Norms** that compute their statistics (layer, group, instance, RMS norm): with ``c = x - mean x`` (RMS: ``c = x``)
and ``q = (mean c^2 + eps)^(1/2)``, the output is ``y = c / q`` times weights. Centring and averaging are linear, square
and root are under rescale, and the quotient has the rule of the product ``c = y q`` solved for y. With signal s::

    m_c = 2 / (q + q0) * (s - (c + c0) / (q + q0) * mean(s (y + y0)) / 2)
    m_x = m_c - mean(m_c)

No difference is divided by, so nothing is lost where image and baseline meet; there it is the gradient. As a product
of c and ``1 / q`` the norm has complete multipliers too, but where the baseline hardly varies they are as large as
``eps^(-1/2)`` and cancel: in a ConvNeXt of random weights, to parts 10^13 times the change that they explain.

**Softmax** ``p_i = exp(u_i)``, ``u_i = z_i - L``, ``L = log sum_j exp z_j``: every step is linear or under rescale.
With the logarithmic mean ``M(a, b) = (a - b) / (log a - log b)`` of two positive numbers::

    m_u_i = s_i M(p_i, p0_i)
    m_z_i = m_u_i - M(exp z_i, exp z0_i) / M(exp L, exp L0) * sum_j m_u_j

The means are taken in logarithms, so that no exponential overflows or vanishes, whatever the size of z.

**Products** of two tensors that both depend on the image (``q k^T``, ``p v``): a factor's multiplier is the gradient
with the other factor at the mean of image and baseline, which is its Shapley value.

Sources: Shrikumar, Greenside & Kundaje, ICML 2017 (rescale); Lundberg & Lee, NIPS 2017 (Shapley values of products,
and shap's ``DeepExplainer``, which also takes softmax apart). Captum's ``DeepLift`` rescales each of softmax's values
and subtracts the mean: its maps are not complete there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from interpnet.attribution._deeplift.rules import Multiplied
from interpnet.engine import OPERATORS, Call

#: Operators that multiply two tensors, and may add a third: with weights of the network they are linear maps.
PRODUCTS = frozenset(name for name, row in OPERATORS.items() if row.kind_if == "linear")
#: Norms of statistics that they compute from each image by itself.
_NORMS = frozenset(name for name, row in OPERATORS.items() if row.kind == "norm")
NORMS = _NORMS - {"batch_norm", "local_response_norm"}


def standardise(call: Call, x: Tensor, x0: Tensor) -> Tensor:
    """Return the output of one of ``NORMS`` whose backward is the rule of norms.

    Examples
    --------
    From (0, 0) to (2, 0), with an epsilon of 3: half the difference goes from 0 to 1, the first value from 0 to 1/2.

    >>> x, x0 = torch.tensor([[2.0, 0.0]], requires_grad=True), torch.zeros(1, 2)
    >>> y = standardise(Call(torch.layer_norm, (x, (2,)), {"eps": 3.0}, "layer_norm", "norm", "norm", ""), x, x0)
    >>> round(float(torch.autograd.grad(y[0, 0], x)[0][0, 0]), 3)
    0.25
    """
    weight = _weight(call, x)
    with torch.no_grad():
        y: Tensor = call.on(x.detach()).run()
        c, q = _divided(call, x.detach())
        c0, q0 = _divided(call, x0)
        both = q + q0
        # What the signal's mean with the second comes back with.
        for_root = (c + c0) / both
        half = (c / q + c0 / q0) / 2

    def send_back(signal: Tensor) -> tuple[Tensor]:
        if weight is not None:
            signal = signal * weight
        s = _rows(call, signal)
        m = 2 / both * (s - for_root * (s * half).mean(-1, keepdim=True))
        return (_centred(call, m).reshape(signal.shape),)

    return Multiplied.of(lambda: y, send_back, x)


def _divided(call: Call, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a norm divides, as rows, and the number that each row is divided by."""
    c = _centred(call, _rows(call, x))
    eps = _named(call).get("eps")
    if eps is None:  # torch's own defaults
        eps = torch.finfo(x.dtype).eps if call.op == "rms_norm" else 1e-5
    return c, (c.square().mean(-1, keepdim=True) + eps).sqrt()


def _centred(call: Call, rows: Tensor) -> Tensor:
    if call.op == "rms_norm":
        return rows
    return rows - rows.mean(-1, keepdim=True)


def _rows(call: Call, x: Tensor) -> Tensor:
    """Return (..., N): the values under one norm in the last axis."""
    if call.op in {"layer_norm", "rms_norm"}:
        return x.flatten(-len(_named(call)["normalized_shape"]))
    groups = x.shape[1]
    if call.op == "group_norm":
        groups = int(_named(call)["num_groups"])
    return x.reshape(x.shape[0], groups, -1)


def _weight(call: Call, x: Tensor) -> Tensor | None:
    """Return the factors that a norm multiplies its result by, in a shape that goes with ``x``."""
    weight: Tensor | None = _named(call).get("weight")
    if weight is None or call.op in {"layer_norm", "rms_norm"}:
        return weight
    return weight.view(-1, *[1] * (x.dim() - 2))


def _named(call: Call) -> dict[str, Any]:
    order = "input normalized_shape weight bias eps"
    if call.op == "rms_norm":
        order = "input normalized_shape weight eps"
    elif call.op == "group_norm":
        order = "input num_groups weight bias eps"
    elif call.op == "instance_norm":
        order = "input running_mean running_var weight bias use_input_stats momentum eps"
    # What torch.nn.functional.instance_norm calls takes its arguments in another order.
    if call.func is torch.instance_norm:
        order = "input weight bias running_mean running_var use_input_stats momentum eps"
    return {**dict(zip(order.split(), call.args, strict=False)), **call.kwargs}


def own_statistics(call: Call) -> bool:
    """Whether a norm computes the statistics of each image by itself."""
    return call.op in NORMS and bool(_named(call).get("use_input_stats", True))


def softmax(call: Call, x: Tensor, x0: Tensor) -> Tensor:
    """Return a softmax, or its logarithm, whose backward is the rule of softmax.

    Examples
    --------
    One of two values rises from 0 to log 3, its share from 1/2 to 3/4: what it gains, the other one loses.

    >>> x, x0 = torch.tensor([[3.0, 1.0]]).log().requires_grad_(), torch.zeros(1, 2)
    >>> y = softmax(Call(torch.softmax, (x, 1), {}, "softmax", "softmax", "softmax", ""), x, x0)
    >>> m = torch.autograd.grad(y[0, 0], x)[0]
    >>> round(float((m * (x - x0).detach()).sum()), 3)
    0.25
    """
    dim = call.argument(1, "dim")
    with torch.no_grad():
        y: Tensor = call.on(x.detach()).run()
        z = x.detach().to(y.dtype)
        z0 = x0.to(y.dtype)
        total = z.logsumexp(dim, keepdim=True)
        total0 = z0.logsumexp(dim, keepdim=True)
        share = (log_of_mean(z, z0) - log_of_mean(total, total0)).exp()
        own = None
        if call.op == "softmax":
            own = log_of_mean(z - total, z0 - total0).exp()

    def send_back(signal: Tensor) -> tuple[Tensor]:
        if own is not None:
            signal = signal * own
        return ((signal - share * signal.sum(dim, keepdim=True)).to(x.dtype),)

    return Multiplied.of(lambda: y, send_back, x)


def log_of_mean(a: Tensor, b: Tensor) -> Tensor:
    """Return the logarithm of the logarithmic mean of ``exp a`` and ``exp b``: of ``(exp a - exp b) / (a - b)``."""
    high = torch.maximum(a, b)
    # Equal values may be infinite: what a mask takes out.
    d = torch.where(a == b, 0, (a - b).abs())
    # (1 - exp(-d)) / d, which is 1 at 0.
    falls = torch.where(d > 0, -torch.expm1(-d) / torch.where(d > 0, d, 1), 1)
    return high + falls.log()


def multiply(call: Call, inputs: Sequence[Tensor], bases: Sequence[Tensor]) -> Tensor:
    """Return one of ``PRODUCTS`` of two tensors that depend on the image, under the product rule.

    ``inputs`` and ``bases`` are all tensors that the call is given, in its order, on image and baseline.

    Examples
    --------
    >>> a, b = (torch.tensor([[v]], requires_grad=True) for v in (3.0, 5.0))
    >>> ones = [torch.ones(1, 1), torch.ones(1, 1)]
    >>> y = multiply(Call(torch.mm, (a, b), {}, "mm", None, "", ""), [a, b], ones)
    >>> torch.autograd.grad(y, (a, b))
    (tensor([[3.]]), tensor([[2.]]))
    """
    free = [i for i, t in enumerate(inputs) if t.requires_grad]
    with torch.no_grad():
        own = [t.detach() for t in inputs]
        y: Tensor = _with(call, own)
        means = [
            (t + base.detach()) / 2 if i in free else t for i, (t, base) in enumerate(zip(own, bases, strict=True))
        ]

    def send_back(signal: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for i in free:
            with torch.enable_grad():
                # The call is linear in each factor: any value has the same gradient, and the mean is at hand.
                factor = means[i].clone().requires_grad_()
                out = _with(call, [*means[:i], factor, *means[i + 1 :]])
                found += torch.autograd.grad(out, factor, signal)
        return found

    return Multiplied.of(lambda: y, send_back, *[inputs[i] for i in free])


def _with(call: Call, tensors: Sequence[Tensor]) -> Any:
    """Run a call with other tensors in the place of its own, which are taken in their order."""
    rest = iter(tensors)

    def put(value: Any) -> Any:
        if isinstance(value, Tensor):
            return next(rest)
        if isinstance(value, list | tuple):
            return type(value)(map(put, value))
        return value

    args = [put(a) for a in call.args]
    return call.func(*args, **{name: put(value) for name, value in call.kwargs.items()})
