"""Functions of torch that are made of others, run as these: attention, so that its parts are calls like all others.

torch shows a mode one call for each of them. Their parts (linear maps, products, a softmax) are what sites, rules and
edits are about, and all spellings of one network should show the same parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: Of those that were one call without a site once: what calls within are named by, so that all others keep their names.
NAMED_AFTER = {torch.var_mean: "var_mean"}


def composed(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return what computes the same as ``func`` by calls of its parts; ``None`` for a function that stays one call.

    Examples
    --------
    >>> q, k, v = torch.randn(3, 2, 5, 4)
    >>> inside = composed(F.scaled_dot_product_attention)
    >>> bool(torch.allclose(inside(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-6))
    True
    >>> composed(torch.relu) is None
    True
    """
    return _COMPOSED.get(func)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return ``softmax(scale q k' + mask) v`` as ``scaled_dot_product_attention`` defines it.

    Parameters
    ----------
    query : Tensor, (..., T, E)
    key, value : Tensor, (..., S, E) and (..., S, D)
    attn_mask : Tensor, broadcastable to (..., T, S), optional
        Added to the scores; of truth values, the pairs that take part.
    dropout_p : float
    is_causal : bool
        Each query sees the keys up to its own position.
    scale : float, optional
        By default ``1 / sqrt(E)``.
    enable_gqa : bool
        Fewer heads of keys than of queries: each serves several.
    """
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    scores = torch.matmul(query * scale, key.transpose(-2, -1))
    seen = None
    if is_causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).triu(1)
        attn_mask = torch.zeros_like(hidden, dtype=query.dtype).masked_fill(hidden, -math.inf)
    elif attn_mask is not None and attn_mask.dtype == torch.bool:
        seen = attn_mask.any(-1, keepdim=True)
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask & seen, -math.inf)
    if attn_mask is not None:
        scores = scores + attn_mask
    weights = torch.softmax(scores, -1)
    if seen is not None and not bool(seen.all()):
        # A query that sees no key gets zeros.
        weights = weights * seen
    if dropout_p > 0:
        weights = F.dropout(weights, dropout_p)
    return torch.matmul(weights, value)


def _baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:  # noqa: A002
    """Return ``beta input + alpha batch1 batch2``."""
    product = torch.bmm(batch1, batch2)
    if alpha != 1:
        product = product * alpha
    # As torch defines it: a factor of zero ignores what it multiplies, NaN included.
    if beta == 0:
        return product
    if beta != 1:
        input = input * beta  # noqa: A001
    return product + input


def _variance_and_mean(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:  # noqa: A002
    """Return what ``var`` returns, and the means over the same axes."""
    dim = args[0] if args else kwargs.get("dim")
    if isinstance(dim, bool):  # it stands for ``unbiased``
        dim = None
    keep = bool(args[2] if len(args) > 2 else kwargs.get("keepdim", False))
    mean = input.mean() if dim is None else input.mean(dim, keep)
    return torch.var(input, *args, **kwargs), mean


def _own_code(func: Any) -> Callable[..., Any]:
    """Return a function of torch written in Python that does not hand itself to modes as one call."""
    names = {**func.__globals__, "has_torch_function": lambda _tensors: False}
    return FunctionType(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)


_COMPOSED: dict[Any, Callable[..., Any]] = {
    F.multi_head_attention_forward: _own_code(F.multi_head_attention_forward),
    F.scaled_dot_product_attention: _attention,
    torch.baddbmm: _baddbmm,
    torch.Tensor.baddbmm: _baddbmm,
    torch.var_mean: _variance_and_mean,
}
