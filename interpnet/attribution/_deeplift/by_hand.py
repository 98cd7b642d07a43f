"""The multipliers of DeepLIFT at the steps that norms written by hand are made of.

With s the signal at the output, c and q as in :mod:`.joint`, and x, x0 the input on image and baseline:

=======================  ==============================================================================================
operator                 multiplier
=======================  ==============================================================================================
``x.pow(2)``, ``sqrt``   rescale, as every function of single values
``x.var()``              ``s (c + c0) / (n - 1)``, n without correction, c = x - mean x
``x.std()``              the same, divided by ``q + q0``
``x.norm()``             ``s (x + x0) / (q + q0)``, q the length of x
``c / q``                ``2 s / (q + q0)`` for c, ``-s (y + y0) / (q + q0)`` for q: the product ``c = y q``, solved
``c * r``, r = 1 / q     the same in r: ``2 s r r0 / (r + r0)`` for c and ``s (y + y0) / (r + r0)`` for r
``F.normalize(x)``       both of these, with ``q = max(length, eps)`` under rescale
``x.logsumexp()``        ``s M(exp x, exp x0) / M(exp y, exp y0)``, M the logarithmic mean
=======================  ==============================================================================================

So a norm written out has the multipliers of torch's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from interpnet.attribution._deeplift.joint import log_of_mean
from interpnet.attribution._deeplift.rules import Multiplied
from interpnet.engine import Call


def dispersion(call: Call, x: Tensor, x0: Tensor) -> Tensor:
    """Return a variance or standard deviation of ``x`` whose backward is its multiplier.

    Examples
    --------
    From (1, 1) to (1, 3) the variance rises from 0 to 1: half of the change of the second value.

    >>> x, x0 = torch.tensor([[1.0, 3.0]], requires_grad=True), torch.ones(1, 2)
    >>> y = dispersion(Call(torch.var, (x, 1), {"correction": 0}, "var", None, "", ""), x, x0)
    >>> torch.autograd.grad(y.sum(), x)[0]
    tensor([[-0.5000,  0.5000]])
    """
    dims, keep = _axes(call, x, (1, 3))
    with torch.no_grad():
        z = x.detach()
        y: Tensor = call.on(z).run()
        both = sum(v - v.mean(dims, keepdim=True) for v in (z, x0))
        count = torch.Size(z.shape[d] for d in dims).numel()
        factor = both / (count - _correction(call))
        if call.op == "std":
            factor = factor * _inverse(_kept(y, dims, keep) + _kept(call.on(x0).run(), dims, keep))
    return Multiplied.of(lambda: y, lambda signal: (_kept(signal, dims, keep) * factor,), x)


def length(call: Call, x: Tensor, x0: Tensor) -> Tensor:
    """Return the length (the 2-norm) of ``x`` whose backward is its multiplier.

    Examples
    --------
    >>> x, x0 = torch.tensor([[3.0, 4.0]], requires_grad=True), torch.tensor([[3.0, 0.0]])
    >>> y = length(Call(torch.norm, (x, 2, 1), {}, "norm", None, "", ""), x, x0)
    >>> torch.autograd.grad(y.sum(), x)[0]
    tensor([[0.7500, 0.5000]])
    """
    dims, keep = _axes(call, x, (2, 3))
    with torch.no_grad():
        z = x.detach()
        y: Tensor = call.on(z).run()
        factor = (z + x0) * _inverse(_kept(y, dims, keep) + _kept(call.on(x0).run(), dims, keep))
    return Multiplied.of(lambda: y, lambda signal: (_kept(signal, dims, keep) * factor,), x)


def normalise(call: Call, x: Tensor, x0: Tensor) -> Tensor:
    """Return ``F.normalize``, ``x / max(length, eps)``, whose backward is its multiplier.

    Examples
    --------
    >>> x, x0 = torch.tensor([[3.0, 4.0]], requires_grad=True), torch.tensor([[5.0, 0.0]])
    >>> y = normalise(Call(torch.nn.functional.normalize, (x,), {}, "normalize", None, "", ""), x, x0)
    >>> m = torch.autograd.grad(y[0, 1], x)[0]
    >>> round(float((m * (x - x0).detach()).sum()), 6)
    0.8
    """
    dim = call.argument(2, "dim", 1)
    eps = call.argument(3, "eps", 1e-12)
    with torch.no_grad():
        z = x.detach()
        n, n0 = (v.norm(dim=dim, keepdim=True) for v in (z, x0))
        q, q0 = n.clamp_min(eps), n0.clamp_min(eps)
        # How much of the length's step the divisor has.
        passed = torch.where(n == n0, (n > eps).to(n.dtype), (q - q0) / torch.where(n == n0, 1, n - n0))
        y: Tensor = call.on(z).run()
        half = (y + x0 / q0) / 2
        for_length = passed * (z + x0) * _inverse(n + n0)

    def send_back(signal: Tensor) -> tuple[Tensor]:
        return (2 / (q + q0) * (signal - for_length * (signal * half).sum(dim, keepdim=True)),)

    return Multiplied.of(lambda: y, send_back, x)


def quotient(call: Call, a: Tensor, b: Tensor, a0: Tensor, b0: Tensor) -> Tensor:
    """Return ``a / b``, b of one sign, under the rule of the product ``a = y b``, solved for y.

    Examples
    --------
    >>> a, b = (torch.tensor([v], requires_grad=True) for v in (6.0, 3.0))
    >>> y = quotient(Call(torch.div, (a, b), {}, "div", "mul", "", ""), a, b, torch.ones(1), torch.ones(1))
    >>> torch.autograd.grad(y, (a, b))
    (tensor([0.5000]), tensor([-0.7500]))
    """
    with torch.no_grad():
        y: Tensor = call.func(a.detach().clone(), b.detach(), **call.kwargs)
        for_a = 2 / (b + b0)
        for_b = -(y + a0 / b0) / (b + b0)
    return _of_two(y, a, b, for_a, for_b)


def scaled(a: Tensor, r: Tensor, a0: Tensor, r0: Tensor) -> Tensor:
    """Return ``a r`` where ``r = 1 / q`` is of one sign, under the rule of ``a / q``.

    Examples
    --------
    >>> a, r = torch.tensor([6.0], requires_grad=True), torch.tensor([0.5], requires_grad=True)
    >>> y = scaled(a, r, torch.ones(1), torch.ones(1))
    >>> torch.autograd.grad(y, (a, r))
    (tensor([0.6667]), tensor([2.6667]))
    """
    with torch.no_grad():
        y = a.detach() * r.detach()
        for_a = 2 * r * r0 / (r + r0)
        for_r = (y + a0 * r0) / (r + r0)
    return _of_two(y, a, r, for_a, for_r)


def log_sum(call: Call, x: Tensor, x0: Tensor) -> Tensor:
    """Return ``logsumexp`` whose backward is its multiplier.

    Examples
    --------
    One of two values rises from log 1 to log 3, the sum from 2 to 4: the log of it by log 2.

    >>> x, x0 = torch.tensor([[3.0, 1.0]]).log().requires_grad_(), torch.zeros(1, 2)
    >>> y = log_sum(Call(torch.logsumexp, (x, 1), {}, "logsumexp", None, "", ""), x, x0)
    >>> m = torch.autograd.grad(y.sum(), x)[0]
    >>> round(float((m * (x - x0).detach()).sum().exp()), 3)
    2.0
    """
    dims, keep = _axes(call, x, (1, 2))
    with torch.no_grad():
        z = x.detach()
        y: Tensor = call.on(z).run()
        total, total0 = (v.logsumexp(dims, keepdim=True) for v in (z, x0))
        share = (log_of_mean(z, x0) - log_of_mean(total, total0)).exp()
    return Multiplied.of(lambda: y, lambda signal: (_kept(signal, dims, keep) * share,), x)


def of_length_two(call: Call) -> bool:
    """Whether a norm is the 2-norm."""
    return call.argument(1, "ord" if call.op.startswith("linalg") else "p", 2) in {2, "fro", None}


def _of_two(y: Tensor, a: Tensor, b: Tensor, for_a: Tensor, for_b: Tensor) -> Tensor:
    shapes = (a.shape, b.shape)

    def send_back(signal: Tensor) -> list[Tensor]:
        return [(signal * m).sum_to_size(shape) for m, shape in zip((for_a, for_b), shapes, strict=True)]

    return Multiplied.of(lambda: y, send_back, a, b)


def _axes(call: Call, x: Tensor, positions: tuple[int, int]) -> tuple[tuple[int, ...], bool]:
    """Return the axes that a reduction goes over, and whether it keeps them."""
    dims = call.argument(positions[0], "dim")
    keep = bool(call.argument(positions[1], "keepdim", default=False))
    if dims is None or isinstance(dims, bool):
        return tuple(range(x.dim())), keep
    return tuple(d % x.dim() for d in ([dims] if isinstance(dims, int) else dims)), keep


def _correction(call: Call) -> float:
    given = [call.argument(2, "unbiased"), call.kwargs.get("correction")]
    if isinstance(call.argument(1, "dim"), bool):
        given[0] = call.argument(1, "dim")
    return float(next((value for value in given if value is not None), 1))


def _kept(y: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    """Return what a reduction returned with the axes that it went over, of one position."""
    if keep:
        return y
    for d in sorted(dims):
        y = y.unsqueeze(d)
    return y


def _inverse(q: Tensor) -> Any:
    """Return ``1 / q``, 0 where q is 0: nothing moved there."""
    return torch.where(q == 0, 0, 1 / torch.where(q == 0, 1, q))
