"""What is known of every operator: one table, and the questions that the rest of the library asks it.

The engine sees every call of the torch API. The table says which of them make feature maps, whichever way the
model's author spelled them: ``nn.ReLU``, ``F.relu``, ``torch.relu_`` and ``x.clamp(min=0)`` are one kind,
``"rectifier"``. It also says where the channel axis goes, and which operators methods of attribution may rely on.
An operator that has no row makes no site, loses the channel axis, and is refused by methods that need a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Operator:
    """One operator of torch, by its name without underscores and in-place marks.

    Attributes
    ----------
    name : str
    kind : str
        The kind of the site that it makes: conv, linear, norm, rectifier, activation, softmax, pool, add, mul or cat;
        ``"?"`` where that depends on the arguments, ``""`` for none.
    axes : str
        How its output's axes follow from its input's: the name of a rule of the layout, ``""`` where they are lost.
    moves : bool
        It moves, copies or drops values: the gradient carries relevance and multipliers back unchanged.
    affine : bool
        Affine in its one input that depends on the image: differences go through its gradient.
    drops : bool
        Dropout: nothing in evaluation mode.
    gates : bool
        Its output is bounded: in a product with a map that is not, it is the gate.
    squashes : bool
        Sigmoid-like: LRP gives the other factor of a product all relevance.
    logistic : bool
        A sigmoid: its product with its own input spells a swish.
    unit_slope : bool
        A rectifier whose slope is 1 wherever its input is positive.
    inplace : int or None
        Where its function in torch.nn.functional takes ``inplace`` when that is given by position.
    """

    name: str
    kind: str = ""
    axes: str = ""
    moves: bool = False
    affine: bool = False
    drops: bool = False
    gates: bool = False
    squashes: bool = False
    logistic: bool = False
    unit_slope: bool = False
    inplace: int | None = None

    @property
    def dimensions(self) -> int:
        """Number of spatial axes of a convolution or pooling: the digit in its name."""
        return int(self.name.removesuffix("_with_indices")[-2])

    @property
    def convolves(self) -> bool:
        """Whether it is a convolution, and not a transposed one."""
        return self.axes == "convolution"


# Kind, axes, facts, and the operators that share them. "-" stands for none, "#" for each of 1, 2 and 3.
_TABLE = """
conv        convolution  -                                  conv#d
conv        transposed   -                                  conv_transpose#d
linear      features     -                                  linear bilinear
?           features     affine                             matmul mm einsum
?           features     -                                  addmm
?           -            affine                             bmm
norm        same         -                                  batch_norm layer_norm group_norm instance_norm rms_norm
norm        same         -                                  local_response_norm
rectifier   same         unit_slope,inplace=1               relu
rectifier   same         unit_slope,inplace=2               leaky_relu elu celu
rectifier   same         unit_slope,inplace=4               rrelu
rectifier   same         unit_slope                         prelu
rectifier   same         gates,inplace=1                    relu6
rectifier   same         inplace=1                          selu silu mish hardswish
rectifier   same         -                                  gelu softplus
?           same         unit_slope,inplace=3               threshold
?           same         unit_slope                         clamp_min maximum max
?           same         gates,inplace=3                    hardtanh
?           same         -                                  clamp clip
activation  same         gates,squashes,logistic            sigmoid
activation  same         gates,squashes,logistic,inplace=1  hardsigmoid
activation  same         gates,squashes                     tanh
activation  same         -                                  softsign logsigmoid tanhshrink hardshrink softshrink
softmax     same         gates                              softmax
softmax     same         -                                  log_softmax softmin
pool        pool         -                                  max_pool#d avg_pool#d lp_pool#d max_pool#d_with_indices
pool        pool         -                                  adaptive_avg_pool#d adaptive_max_pool#d
-           pool         -                                  adaptive_max_pool#d_with_indices fractional_max_pool#d
-           pool         -                                  fractional_max_pool#d_with_indices
?           reduce       affine                             mean
?           reduce       -                                  amax
-           reduce       affine                             sum
-           reduce       -                                  amin
add         same         affine                             add sub rsub
mul         same         affine                             mul multiply true_divide divide
mul         same         affine,gates                       div
cat         cat          -                                  cat concat concatenate
-           reshape      moves                              view reshape flatten unflatten squeeze unsqueeze expand
-           permute      moves                              permute
-           transpose    moves                              transpose swapaxes swapdims
-           getitem      moves                              getitem
-           pad          moves                              pad
-           split        moves                              chunk split tensor_split split_with_sizes
-           resize       affine                             interpolate upsample
-           placeless    moves                              roll flip
-           placeless    -                                  sort
-           same         moves                              clone contiguous identity to type type_as float double
-           same         moves                              cuda cpu
-           same         affine                             neg cumsum
-           same         drops,inplace=3                    dropout
-           same         drops                              dropout#d alpha_dropout
-           -            drops                              feature_alpha_dropout
-           same         -                                  abs alias bernoulli bfloat16 clamp_max cos detach erf exp
-           same         -                                  expm1 feature_dropout fill half log log1p masked_fill min
-           same         -                                  minimum nan_to_num normalize pow reciprocal requires_grad
-           same         -                                  rsqrt sign sin sqrt square stochastic_depth where
-           -            moves                              view_as reshape_as ravel t movedim moveaxis copy unbind
-           -            moves                              stack hstack vstack dstack setitem narrow select tile
-           -            moves                              index_select expand_as broadcast_to repeat
-           -            moves                              channel_shuffle pixel_shuffle pixel_unshuffle
-           -            affine                             negative unfold fold
"""


def _rows() -> Iterator[Operator]:
    for line in _TABLE.strip().splitlines():
        kind, axes, marks, *names = ("" if word == "-" else word for word in line.split())
        facts: dict[str, Any] = {}
        for mark in filter(None, marks.split(",")):
            fact, _, number = mark.partition("=")
            facts[fact] = True
            if number:
                facts[fact] = int(number)
        for name in names:
            for n in "123" if "#" in name else "0":
                yield Operator(name.replace("#", n), kind, axes, **facts)


OPERATORS = {row.name: row for row in _rows()}


@lru_cache(maxsize=4096)
def operator(name: str) -> Operator:
    """Return what is known of the operator of that name; one without a row has no kind, axes or facts.

    Examples
    --------
    >>> operator("silu").kind, operator("tanh").squashes, operator("fft").kind
    ('rectifier', True, '')
    """
    return OPERATORS.get(name) or Operator(name)


@lru_cache(maxsize=4096)
def operator_name(func: Callable[..., Any]) -> str:
    """Return a function's name without underscores and in-place marks: ``Tensor.__iadd__`` is ``"add"``."""
    name = getattr(func, "__name__", "") or type(func).__name__
    if not (name.startswith("__") and name.endswith("__")):
        return name.strip("_")
    name = name[2:-2]
    if name in {"iadd", "imul", "isub", "itruediv", "idiv", "radd", "rmul"}:
        name = name[1:]
    return {"truediv": "div"}.get(name, name)


def operator_kind(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Return the kind of the site that a call of the operator makes, or ``None``; see :class:`Operator`."""
    kind = operator(name).kind
    if kind == "?":
        return _kind_by_argument(name, args, kwargs)
    if kind in {"add", "mul"}:
        # Arithmetic with numbers and parameters alone (rescaling an image, say) makes no site.
        tensors = [a for a in args[:2] if isinstance(a, Tensor)]
        if len(tensors) < 2 or tensors[0].dim() < 2:
            return None
    return kind or None


def _kind_by_argument(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    if name in {"clamp", "clip", "clamp_min", "hardtanh"}:
        lower = argument(args, kwargs, 1, {"hardtanh": "min_val"}.get(name, "min"), -1.0)
        if _is_zero(lower):
            return "rectifier"
        return {"hardtanh": "activation"}.get(name)
    if name == "threshold":
        zero = _is_zero(argument(args, kwargs, 1, "threshold")) and _is_zero(argument(args, kwargs, 2, "value"))
        return "rectifier" if zero else "activation"
    if name in {"maximum", "max"}:
        other = argument(args, kwargs, 1, "other")
        return "rectifier" if isinstance(other, Tensor) and _is_zero(other) else None
    if name in {"mean", "amax"}:
        # Averaging all positions is how many networks spell their global pooling.
        return "pool" if len(args) > 1 or "dim" in kwargs else None
    operands = [a for a in args if isinstance(a, Tensor)]
    return "linear" if any(isinstance(a, torch.nn.Parameter) for a in operands) else None


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        # A tensor on the meta device has no value to compare.
        return value.numel() == 1 and value.device.type != "meta" and float(value) == 0.0
    return isinstance(value, int | float) and float(value) == 0.0


def argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str, default: Any = None) -> Any:
    """Return the argument given by ``position`` or by ``name``."""
    if len(args) > position:
        return args[position]
    return kwargs.get(name, default)
