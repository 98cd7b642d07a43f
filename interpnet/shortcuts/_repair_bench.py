"""A network to repair, and what it gives for all images of a loader: repairs are fitted on that, and measured on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.engine import Output, check_logits, evaluating, forward_logits
from interpnet.models import LastLayer, Layer
from interpnet.shortcuts._repair_images import EXCHANGED, PLAIN, RepairImages
from interpnet.support.types import Int64

#: What a repair makes: another last layer, or another network.
Made = Layer | nn.Module


@dataclass(frozen=True, eq=False)
class Network:
    """A network to repair, on its device, with its last layer, or why it has none that could be exchanged."""

    model: nn.Module
    put: Callable[[Tensor], Tensor]
    output: Output | None
    n_outputs: int
    layer: LastLayer | None
    why: str

    def logits(self, images: Tensor, model: nn.Module | None = None) -> Tensor:
        """Return the logits (B, C) of images as float32 on the CPU, of a repaired ``model`` where one is given."""
        model = model or self.model
        with torch.no_grad(), evaluating(model):
            return check_logits(forward_logits(model, self.put(images), self.output)).float().cpu()


@dataclass(frozen=True, eq=False)
class Predictions:
    """Class numbers of the same images as they are (n,) and exchanged (rounds, n), and what they show (n,)."""

    plain: Int64
    exchanged: Int64
    labels: Int64


class Bench:
    """What a network gives for all images of a loader: what ways are fitted on, and measured on."""

    def __init__(
        self, network: Network, images: RepairImages, kinds: tuple[str, ...], advance: Callable[[int], None]
    ) -> None:
        self.network = network
        self.images = images
        self.labels = torch.from_numpy(images.labels)
        answers = images.rows(self._run, kinds, advance=advance)
        width = answers.rows[PLAIN][0].shape[1] - network.n_outputs
        self.features = {kind: [rows[:, :width] for rows in rounds] for kind, rounds in answers.rows.items()}
        self.logits = {kind: [rows[:, width:] for rows in rounds] for kind, rounds in answers.rows.items()}

    def _run(self, images: Tensor) -> Tensor:
        """Return features and logits side by side."""
        if self.network.layer is None:
            return self.network.logits(images)
        features, logits = self.network.layer.features(self.network.put(images))
        return torch.cat([features, _two(check_logits(logits), self.network.n_outputs)], 1)

    def predictions(self, made: Made | None, wanted: Any) -> Predictions:
        """Return what a repaired network, or the old one (None), says of the images ``wanted`` (N,)."""
        mask = torch.from_numpy(wanted)
        layer = self.network.layer
        if isinstance(made, Layer) and layer is not None and layer.why:
            made = layer.replaced(made)
        if made is None:
            rows = {kind: [logits[mask] for logits in rounds] for kind, rounds in self.logits.items()}
        elif isinstance(made, Layer):
            n = self.network.n_outputs
            rows = {kind: [_two(made(z[mask]), n) for z in rounds] for kind, rounds in self.features.items()}
        else:
            model = made

            def run(images: Tensor) -> Tensor:
                return self.network.logits(images, model)

            rows = self.images.rows(run, (PLAIN, EXCHANGED), wanted).rows
        exchanged = torch.stack([logits.argmax(1) for logits in rows[EXCHANGED]])
        return Predictions(rows[PLAIN][0].argmax(1).numpy(), exchanged.numpy(), self.images.labels[wanted])


def _two(logits: Tensor, n_outputs: int) -> Tensor:
    """Return the logits of two classes where there is one output."""
    if logits.shape[1] == n_outputs:
        return logits
    return torch.cat([-0.5 * logits, 0.5 * logits], 1)
