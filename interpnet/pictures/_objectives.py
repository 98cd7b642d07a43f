"""What gradient ascent raises: a channel's map, or a class's logit, as functions of pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.engine import (
    Call,
    Instrument,
    Output,
    Site,
    forward,
    instrument,
    logits_of,
    margins,
    stop_forward,
    stoppable,
)

# What a silent rectifier lets pass of a gradient, where nothing else comes through.
_LEAK = 0.01
# What negative values of a channel's map count of positive ones.
_THINNED = 0.1

Prepare = Callable[[Tensor], Tensor]


class Values(Protocol):
    """The values of one unit for each of n pictures."""

    model: nn.Module
    leaking: bool  # rectifiers below the unit let a little of the gradient pass where they are silent

    def raised(self, pictures: Tensor, units: Tensor) -> Tensor:
        """Return what is to be raised (n,), for pictures (n, C, *size) and the numbers of their units (n,)."""
        ...

    def look(self, pictures: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value (n,) that a reader is told, and the largest (n,) as it can be held against real images."""
        ...


class LogitValues:
    """The logits of classes."""

    leaking = False

    def __init__(self, model: nn.Module, prepare: Prepare, output: Output | None) -> None:
        self.model = model
        self._prepare = prepare
        self._output = output

    def _logits(self, pictures: Tensor) -> Tensor:
        rule = None
        if self.leaking:
            rule = _leaky
        images = self._prepare(pictures)
        with instrument(self.model, Instrument(rule=rule)):
            return logits_of(forward(self.model, images), len(images), self._output)

    def raised(self, pictures: Tensor, units: Tensor) -> Tensor:
        """Return each class's logit less the mean of the others, which is all that softmax knows of it."""
        return margins(self._logits(pictures)).gather(1, units[:, None])[:, 0]

    def look(self, pictures: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
        """Return each class's logit, and what it is above the mean of the others."""
        logits = self._logits(pictures)
        both = (logits, margins(logits))
        own, above = (values.gather(1, units[:, None])[:, 0] for values in both)
        return own, above


class ChannelValues:
    """The maps of a site's channels. The network runs only as far as the site."""

    leaking = False

    def __init__(self, model: nn.Module, prepare: Prepare, site: Site) -> None:
        self.model = model
        self._prepare = prepare
        self._site = site

    def _own(self, out: Tensor, units: Tensor) -> Tensor:
        """Return each picture's own map as a row (n, positions); a unit without a map has one position."""
        maps = out.movedim(self._site.axis or 1, 1)
        return maps[torch.arange(len(units), device=maps.device), units].reshape(len(units), -1)

    def raised(self, pictures: Tensor, units: Tensor) -> Tensor:
        """Return the mean of each channel's map, before the rectifier if the site is one, with negative values thinned.

        The plain mean of a filter of edges hardly depends on what is in the picture: rising and falling edges cancel.
        """
        kept: list[Tensor] = []

        def stop(value: Tensor) -> Any:
            kept.append(value)
            stop_forward()

        def rule(call: Call) -> Tensor | None:
            if call.name == self._site.name and call.kind == "rectifier":
                self._site.reading(stop)(call.argument(0, "input"))
            if self.leaking:
                return _leaky(call)
            return None

        images = self._prepare(pictures)
        with (
            instrument(self.model, Instrument(rule=rule, reads={self._site.name: self._site.reading(stop)})),
            stoppable(),
        ):
            forward(self.model, images)
        return F.leaky_relu(self._own(kept[0], units), _THINNED).mean(1)

    def look(self, pictures: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of each map and its largest value."""
        kept: list[Tensor] = []

        def read(value: Tensor) -> Any:
            kept.append(value)
            stop_forward()

        images = self._prepare(pictures)
        with instrument(self.model, Instrument(reads={self._site.name: self._site.reading(read)})), stoppable():
            forward(self.model, images)
        own = self._own(kept[0], units)
        return own.mean(1), own.amax(1)


def _leaky(call: Call) -> Tensor | None:
    """Return a rectifier's output with a little of the gradient let through wherever it is silent."""
    if call.kind != "rectifier":
        return None
    value: Tensor = call.argument(0, "input")
    # It adds zero to the value, and its slope to the gradient.
    leak = _LEAK * (value - value.detach())
    out: Tensor = call.run()
    if out.shape != value.shape:
        return out
    return out + leak
