"""The last linear layer of a network: found by running it, read, and exchanged for another in a copy.

What is fitted again cheaply is this layer (Kirichenko et al. 2023, "Last layer re-training is sufficient for robustness
to spurious correlations", ICLR). It can be when the logits are its output and nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.engine import (
    Call,
    Instrument,
    OneColumn,
    Output,
    check_images,
    evaluating,
    forward,
    forward_logits,
    instrument,
    tensors_in,
    unwrap,
)
from interpnet.errors import LayerError, ModelError
from interpnet.models._refit import Layer
from interpnet.support.checks import check_kinds

# Of the site kinds "conv" and "linear" those whose weight is no matrix from features to outputs.
_OTHER_WAY = ("conv_transpose", "bilinear")


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The last linear layer, with its weights W (C, F) and bias b (C,): the logits of one output stay one column.

    ``why`` is empty where the logits are ``W f + b`` with the features f of :meth:`features`; else it says what stands
    between. Then f is still what the layer gets, and every path from the image to the logits goes through it.
    """

    model: nn.Module
    site: str  # the name of its call, as the engine names it
    weight_name: str  # in the model's state dict
    bias_name: str | None
    why: str
    output: Output | None = None

    @property
    def layer(self) -> Layer:
        """Both, to fit again."""
        return Layer(self.weight, self.bias)

    @property
    def weight(self) -> Tensor:
        """Its weights (C, F), a copy in float64 on the CPU; those of a 1x1 convolution without its axes of size 1."""
        return self.model.get_parameter(self.weight_name).detach().cpu().double().flatten(1).clone()

    @property
    def bias(self) -> Tensor:
        """Its bias (C,), a copy in float64 on the CPU; zeros where it has none."""
        if self.bias_name is None:
            return torch.zeros(len(self.weight), dtype=torch.float64)
        return self.model.get_parameter(self.bias_name).detach().cpu().double().clone()

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the layer gets of images (B, C, H, W), (B, F), averaged over positions, and the logits (B, C).

        Both are float32 on the CPU. ``images`` must be on the model's device.
        """
        found: list[Tensor] = []

        def observe(call: Call, _out: Any) -> None:
            if call.name == self.site:
                # A copy: what comes after may overwrite it.
                found.append(_averaged(call.argument(0, "input"), call.op).detach().float().cpu().clone())

        with torch.no_grad(), evaluating(self.model), instrument(self.model, Instrument(observe=observe)):
            logits = forward_logits(self.model, images, self.output)
        if len(found) != 1:
            raise ModelError(
                f"layer {self.site!r} ran {len(found)} times in this forward pass and once in the first; a network "
                "whose path depends on its input cannot be read"
            )
        return found[0], logits.float().cpu()

    def replaced(self, layer: Layer) -> nn.Module:
        """Return a copy of the model whose last layer has the weights and bias of another.

        A layer without bias takes one of zeros only: anything else is a :class:`LayerError`.
        """
        other = copied(self.model)
        own = other.get_parameter(self.weight_name)
        with torch.no_grad():
            own.copy_(layer.weight.view(own.shape))
            if self.bias_name is not None:
                other.get_parameter(self.bias_name).copy_(layer.bias)
            elif bool((layer.bias != 0).any()):
                raise LayerError(f"layer {self.site!r} has no bias; expected a bias of zeros for it")
        return other


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a network that shares nothing with it, or raise ModelError where it cannot be copied."""
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"the model cannot be copied ({reason[:160]}); expected one that copy.deepcopy takes: keep what it "
            "computes out of its attributes, or detach it"
        ) from error


def last_layer(model: nn.Module, images: Tensor, *, output: Output | None = None) -> LastLayer:
    """Find the last linear layer of a network by running it on images (B, C, H, W), two are enough.

    It is the last call of a linear layer, or of a 1x1 convolution, whose weights are a parameter of the model. A global
    average after the convolution is allowed for.

    Parameters
    ----------
    model : nn.Module
        Left as it was; the result refers to it.
    images : Tensor (B, C, H, W)
        As the model wants them.
    output : str, int or function, optional
        Which part of what the model returns are its logits, as in :func:`interpnet.engine.find_sites`.

    Raises
    ------
    LayerError
        There is no such layer, it is a larger convolution, a path goes round it, or its weights are used elsewhere too.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    >>> layer = last_layer(net, torch.rand(2, 1, 4, 4))
    >>> layer.weight_name, layer.why, tuple(layer.weight.shape)
    ('4.weight', '', (3, 2))
    >>> features, logits = layer.features(torch.rand(5, 1, 4, 4))
    >>> torch.allclose(features @ layer.weight.float().T + layer.bias.float(), logits, atol=1e-6)
    True
    """
    check_kinds(last_layer, locals())
    images = check_images(images)
    model = unwrap(model)
    column = output if isinstance(output, OneColumn) else OneColumn(output)
    # Three images that differ, so that a path round the layer shows itself.
    shown = torch.cat([images[:2], 0.5 * images[:1].flip(-1)])
    seen = _Seen(model)
    with torch.no_grad(), evaluating(model):
        with instrument(model, Instrument(observe=seen.observe)):
            forward(model, shown)
        if seen.last is None:
            raise LayerError(
                "the model runs no linear layer or convolution whose weights are a parameter of it; expected one as "
                "its last layer (torch.nn.Linear). Weights that are computed, by weight norm or quantisation, are none"
            )
        call = seen.last
        # Of both signs, so that a rectifier shows itself.
        noise = torch.linspace(-1, 1, seen.out.numel()).view_as(seen.out).to(seen.out)
        answers = []
        for given in (noise, torch.zeros_like(noise)):
            with instrument(model, Instrument(edits={call.name: _instead(given)})):
                answers.append(forward_logits(model, shown, column))
    weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
    _check(call, seen, answers[1])
    return LastLayer(
        model=model,
        site=call.name,
        weight_name=seen.names[id(weight)],
        bias_name=None if bias is None else seen.names[id(bias)],
        why=_between(_averaged(noise, call.op), answers[0]),
        output=column,
    )


def _instead(given: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda _: given.clone()


class _Seen:
    """Notes the last call of a linear layer, its output, and every call's use of parameters."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.last: Call | None = None
        self.out = torch.empty(0)
        self.uses: dict[int, list[str]] = {}

    def observe(self, call: Call, out: Any) -> None:
        if call.kind not in {"conv", "linear"}:
            for tensor in tensors_in((call.args, tuple(call.kwargs.values()))):
                if id(tensor) in self.names:
                    self._used(tensor, call.name or f"{call.module}:{call.op}")
            return
        for tensor in call.tensors():
            self._used(tensor, call.name)
        weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
        forward_way = not call.op.startswith(_OTHER_WAY)
        if forward_way and id(weight) in self.names and (bias is None or id(bias) in self.names):
            self.last = call
            self.out = out.detach().clone()

    def _used(self, tensor: Tensor, name: str) -> None:
        self.uses.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)


def _check(call: Call, seen: _Seen, without: Tensor) -> None:
    """Raise LayerError where exchanging the layer's weights would not be what it seems."""
    weight = call.argument(1, "weight")
    for own in (weight, call.argument(2, "bias")):
        used = [] if own is None else seen.uses[own.untyped_storage().data_ptr()]
        others = [name for name in used if name != call.name]
        if others:
            raise LayerError(
                f"the last layer {call.name!r} shares {seen.names[id(own)]!r} with {others[0]!r}; expected weights of "
                "its own: give it a copy, layer.weight = torch.nn.Parameter(layer.weight.detach().clone())"
            )
    if call.op != "linear":
        how = call.convolution()
        plain = set(how.stride) == {1} and {n for pair in how.padding for n in pair} == {0} and how.groups == 1
        if set(weight.shape[2:]) != {1} or not plain:
            raise LayerError(
                f"the last layer with weights is {call.name!r}, a convolution of kernel {tuple(weight.shape[2:])}, "
                f"stride {how.stride} and {how.groups} groups; expected a linear layer or a 1x1 convolution"
            )
    if not bool((without == without[0]).all()):
        raise LayerError(
            f"the logits depend on the image also where the last layer with weights, {call.name!r}, gives zeros: "
            "another path leads round it; expected a network whose last layer is linear"
        )


def _between(out: Tensor, logits: Tensor) -> str:
    """Return what stands between the layer's averaged output and the logits; empty for nothing."""
    if out.shape == logits.shape and torch.allclose(out.float(), logits.float(), rtol=1e-4, atol=1e-5):
        return ""
    return (
        "the logits are not its output: an activation, a scale or a softmax stands behind the last layer with weights"
    )


def _averaged(x: Tensor, op: str) -> Tensor:
    """Return what goes through a layer as one vector for each image (B, F): its mean over positions, or tokens."""
    if op == "linear":
        return x.flatten(1, -2).mean(1) if x.dim() > 2 else x
    return x.flatten(2).mean(2)
