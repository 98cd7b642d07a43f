"""What is known of every operator: one table, and the questions that the rest of the library asks it.

It says which calls make feature maps, where the channel axis goes, and what methods of attribution may rely on. An
operator that has no row makes no site, loses the channel axis, and is refused by methods that need a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Operator:
    """One operator of torch, by its name without underscores and in-place marks."""

    name: str
    # Of the site that it makes: conv, linear, norm, rectifier, activation, softmax, pool, add, mul, cat or product; ""
    # for none.
    kind: str = ""
    # Of the site that it makes instead where its arguments say so: a clamp from zero is a rectifier.
    kind_if: str = ""
    # The layout's rule by which its output's axes follow from its input's; "" where they are lost.
    axes: str = ""
    # It moves, copies or drops values: the gradient carries relevance and multipliers back unchanged.
    moves: bool = False
    # Affine in its one input that depends on the image: differences go through its gradient.
    affine: bool = False
    # Dropout: nothing in evaluation mode.
    drops: bool = False
    # Its output is bounded: in a product with a map that is not, it is the gate.
    gates: bool = False
    # Sigmoid-like: in a product LRP gives the other factor all relevance.
    squashes: bool = False
    # A sigmoid: its product with its own input spells a swish.
    logistic: bool = False
    # Its output is a probability, or the logarithm of one.
    probability: bool = False
    # A rectifier whose slope is 1 wherever its input is positive.
    unit_slope: bool = False
    # Where its function in torch.nn.functional takes ``inplace`` when that is given by position.
    inplace: int | None = None
    # Each value of its output depends on the values at the same position of its inputs alone.
    pointwise: bool = False
    # Pointwise, and the values stay: only their place, type or tensor changes.
    copies: bool = False
    # Pointwise, and gives True and False.
    compares: bool = False
    # Pointwise, and may have a kink or a step: what activations written by hand are made of.
    bends: bool = False
    # Rules are asked for although it makes no site.
    ruled: bool = False
    # It makes a tensor of one value, which is argument number ``fills``; -1 for zeros, -2 for ones.
    fills: int | None = None

    @property
    def dimensions(self) -> int:
        """Number of spatial axes of a convolution or pooling: the digit in its name."""
        return int(self.name.removesuffix("_with_indices")[-2])

    @property
    def convolves(self) -> bool:
        """Whether it is a convolution, and not a transposed one."""
        return self.axes == "convolution"


# Kind, axes, facts, and the operators that share them. "-" stands for none, "#" for each of 1, 2 and 3. "rectifier?" is
# a rectifier where the arguments say so, and else nothing; "rectifier?activation" is else an activation. "by_hand" is a
# rectifier that a network's author put together from other operators.
_TABLE = """
conv                 convolution -                                  conv#d
conv                 transposed  -                                  conv_transpose#d
linear               features    -                                  linear bilinear
linear?product       features    affine                             matmul mm einsum
linear?              features    -                                  addmm
linear?product       product     affine                             bmm
norm                 same        -                                  batch_norm layer_norm group_norm instance_norm
norm                 same        -                                  rms_norm local_response_norm
rectifier            same        pointwise,unit_slope,inplace=1     relu
rectifier            same        pointwise,unit_slope,inplace=2     leaky_relu elu celu
rectifier            same        unit_slope,inplace=4               rrelu
rectifier            same        unit_slope                         prelu
rectifier            same        pointwise,gates,inplace=1          relu6
rectifier            same        pointwise,inplace=1                selu silu mish hardswish
rectifier            same        pointwise                          gelu softplus by_hand
rectifier?activation same        pointwise,bends,unit_slope,inplace=3 threshold
rectifier?           same        pointwise,bends,unit_slope         clamp_min maximum max
rectifier?activation same        pointwise,bends,gates,inplace=3    hardtanh
rectifier?           same        pointwise,bends                    clamp clip
activation           same        pointwise,gates,squashes,logistic,probability sigmoid
activation           same        pointwise,gates,squashes,logistic,probability,inplace=1 hardsigmoid
activation           same        pointwise,gates,squashes           tanh
activation           same        pointwise,probability              logsigmoid log_sigmoid
activation           same        pointwise                          softsign tanhshrink
activation           same        pointwise                          hardshrink softshrink
softmax              same        gates,probability                  softmax
softmax              same        probability                        log_softmax
softmax              same        -                                  softmin
pool                 pool        -                                  max_pool#d avg_pool#d lp_pool#d
pool                 pool        -                                  max_pool#d_with_indices adaptive_avg_pool#d
pool                 pool        -                                  adaptive_max_pool#d
-                    pool        -                                  adaptive_max_pool#d_with_indices
-                    pool        -                                  fractional_max_pool#d
-                    pool        -                                  fractional_max_pool#d_with_indices
pool?                reduce      affine                             mean
pool?                reduce      -                                  amax
-                    reduce      affine                             sum
-                    reduce      -                                  amin
add                  same        pointwise,affine                   add sub rsub
mul                  same        pointwise,affine                   mul multiply true_divide divide
mul                  same        pointwise,affine,gates             div
cat                  cat         -                                  cat concat concatenate
-                    reshape     moves                              view reshape flatten unflatten squeeze unsqueeze
-                    reshape     moves                              expand
-                    permute     moves                              permute movedim moveaxis
-                    copied      moves                              copy
-                    transpose   moves                              transpose swapaxes swapdims
-                    getitem     pointwise,moves,ruled              getitem
-                    setitem     pointwise,bends,moves              setitem
-                    pad         moves                              pad
-                    split       moves                              chunk split tensor_split split_with_sizes
-                    resize      affine                             interpolate upsample
-                    roll        moves                              roll
-                    placeless   moves                              flip
-                    unbind      moves                              unbind select
-                    swap        moves                              t
-                    same        -                                  fake_quantize_per_tensor_affine
-                    same        -                                  fake_quantize_per_channel_affine
-                    same        -                                  fused_moving_avg_obs_fake_quant
-                    placeless   -                                  sort max_unpool#d
-                    same        pointwise,copies,moves             clone contiguous identity to type type_as float
-                    same        pointwise,copies,moves             double cuda cpu
-                    same        pointwise,copies                   half bfloat16 alias detach bool int long byte
-                    same        pointwise,affine                   neg
-                    same        affine                             cumsum
-                    same        drops,inplace=3                    dropout
-                    same        drops                              dropout#d alpha_dropout
-                    -           drops                              feature_alpha_dropout
-                    same        -                                  bernoulli feature_dropout fill
-                    same        -                                  nan_to_num requires_grad stochastic_depth
-                    same        ruled                              normalize
-                    -           ruled                              norm linalg_vector_norm var std logsumexp
-                    same        pointwise,ruled                    cos erf exp expm1 log log1p pow reciprocal rsqrt
-                    same        pointwise,ruled                    sin sqrt square
-                    same        pointwise                          rdiv rpow
-                    same        pointwise,bends                    abs absolute clamp_max fmax fmin heaviside
-                    same        pointwise,bends                    min minimum sign sgn
-                    same        pointwise,bends,ruled              masked_fill where
-                    same        pointwise,compares                 eq ne gt ge lt le not_equal greater greater_equal
-                    same        pointwise,compares                 less less_equal invert logical_not logical_and
-                    same        pointwise,compares                 logical_or bitwise_not and or
-                    -           pointwise,fills=-1                 zeros zeros_like new_zeros
-                    -           pointwise,fills=-2                 ones ones_like new_ones
-                    -           pointwise,fills=1                  full full_like
-                    -           pointwise,fills=2                  new_full
-                    -           moves                              view_as reshape_as ravel
-                    -           moves                              stack hstack vstack dstack narrow
-                    -           moves                              tile index_select expand_as broadcast_to
-                    -           moves                              repeat channel_shuffle pixel_shuffle pixel_unshuffle
-                    -           affine                             negative unfold fold
"""


def _rows() -> Iterator[Operator]:
    for line in _TABLE.strip().splitlines():
        kinds, axes, marks, *names = (word.removeprefix("-") for word in line.split())
        kind_if, _, kind = kinds.rpartition("?")
        facts: dict[str, Any] = {}
        for mark in filter(None, marks.split(",")):
            fact, _, number = mark.partition("=")
            facts[fact] = True
            if number:
                facts[fact] = int(number)
        for name in sorted({name.replace("#", n) for name in names for n in "123"}):
            yield Operator(name, kind, kind_if, axes, **facts)


OPERATORS = {row.name: row for row in _rows()}


@lru_cache(maxsize=4096)
def operator(name: str) -> Operator:
    """Return what is known of the operator of that name; one without a row has no kind, axes or facts."""
    return OPERATORS.get(name) or Operator(name)


@lru_cache(maxsize=4096)
def operator_name(func: Callable[..., Any]) -> str:
    """Return a function's name without underscores and in-place marks: ``Tensor.__iadd__`` is ``"add"``."""
    # Objects of other types, such as the overloads of torch.ops, may have no name of their own.
    name = getattr(func, "__name__", "") or type(func).__name__
    if not (name.startswith("__") and name.endswith("__")):
        return name.strip("_")
    name = name[2:-2]
    if name in {"iadd", "imul", "isub", "itruediv", "idiv", "radd", "rmul"}:
        name = name[1:]
    return {"truediv": "div"}.get(name, name)


def operator_kind(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Return the kind of the site that a call of the operator makes, or ``None``; see :class:`Operator`."""
    row = operator(name)
    if row.kind_if and _arguments_say_so(name, args, kwargs):
        return row.kind_if
    if row.kind in {"add", "mul"}:
        # Arithmetic with numbers and parameters alone (rescaling an image, say) makes no site.
        tensors = [a for a in args[:2] if isinstance(a, Tensor)]
        if len(tensors) < 2 or max(t.dim() for t in tensors) < 2:
            return None
    return row.kind or None


def spelling(name: str, kind: str | None, args: tuple[Any, ...]) -> str:
    """Return the operator as names of calls have it: with an ``r`` where a constant of one axis or none comes first.

    Such sums and products made no site once. With a name of their own they leave the other calls theirs, which results
    of before go by.

    Examples
    --------
    >>> import torch
    >>> w, x = torch.ones(3), torch.ones(2, 3)
    >>> spelling("mul", "mul", (w, x)), spelling("mul", "mul", (x, w))
    ('rmul', 'mul')
    """
    return f"r{name}" if kind in {"add", "mul"} and args[0].dim() < 2 else name


def _arguments_say_so(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call makes a site of its operator's ``kind_if``."""
    if name in {"mean", "amax"}:
        # Averaging all positions is how many networks spell their global pooling.
        return len(args) > 1 or "dim" in kwargs
    if name in {"clamp", "clip", "clamp_min"}:
        return _is_zero(argument(args, kwargs, 1, "min"))
    if name == "hardtanh":
        return _is_zero(argument(args, kwargs, 1, "min_val"))
    if name == "threshold":
        return _is_zero(argument(args, kwargs, 1, "threshold")) and _is_zero(argument(args, kwargs, 2, "value"))
    if name in {"maximum", "max"}:
        other = argument(args, kwargs, 1, "other")
        return isinstance(other, Tensor) and _is_zero(other)
    return any(isinstance(a, nn.Parameter) for a in args)


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
