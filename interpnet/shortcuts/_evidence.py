"""One pass with gradients over intact images: log-odds, contributions, the place of the evidence, top images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from interpnet.engine import (
    ChannelIndex,
    Instrument,
    Output,
    Site,
    all_log_odds,
    check_logits,
    forward_logits,
    instrument,
    log_odds,
)
from interpnet.reliance import ContributionReader, probe, values_of
from interpnet.scores import ScoreReader
from interpnet.shortcuts._blur import blurred
from interpnet.shortcuts._parts import PATCH, patch_side
from interpnet.support.types import Float32, Float64, Int64

TOP = 10  # images kept of each channel
GRADIENTS = 3  # what the pass with gradients costs, in forward passes
_SMOOTH = 5  # pixels over which the evidence is averaged before its peak is taken
_COARSE = 8  # times that an image is blurred: what it is compared with


@dataclass(frozen=True)
class Evidence:
    """What the network says of N intact images, and from where."""

    channels: ChannelIndex
    odds: Float32  # (N, C): log-odds of every class
    # (N, 2, 2): row and column of the strongest evidence for the predicted class and of the next; None without one
    peaks: Int64 | None
    right: Float64  # (C, m): mean contribution to the class, over the images of the class that are taken for it
    wrong: Float64  # (C, m): over the images of other classes that are taken for it; NaN where there is none
    scores: Float32  # (N, m)
    contributions: Float32  # (N, m): to the class that the network says

    @property
    def predicted(self) -> Int64:
        """(N,): the likeliest class."""
        classes: Int64 = self.odds.argmax(1).astype(np.int64)
        return classes

    def top(self, channel: int) -> Int64:
        """Return the images in which the score of a channel (its position) is largest, the largest first."""
        images: Int64 = np.argsort(-self.scores[:, channel], kind="stable")[:TOP].astype(np.int64)
        return images


def gathered(
    model: nn.Module,
    pixels: Tensor,
    labels: Int64,
    sites: Sequence[Site],
    put: Callable[[Tensor], Tensor],
    *,
    max_batch: int,
    output: Output | None,
    advance: Callable[[int], None],
) -> Evidence:
    """Run forward and backward for the class that the network says; the model is frozen and in evaluation mode."""
    reader = ContributionReader(sites)
    scores = ScoreReader(sites)
    reads = {name: _both(reader.reads[name], scores.reads[name]) for name in reader.reads}
    with torch.enable_grad():
        probe(model, reader, put(pixels[:2]), output, "exclusive")
    sums: Sums | None = None
    odds = []
    peaks = []
    rows = []
    given = []
    for start in range(0, len(pixels), max_batch):
        images = put(pixels[start : start + max_batch]).detach().clone().requires_grad_()
        logits, values, gradient = sent_back(model, reader, images, output, predicted, reads)
        said = logits.argmax(1)
        if sums is None:
            sums = Sums(logits.shape[1], values.shape[1])
        sums.add(values, said.cpu().numpy(), labels[start : start + len(images)])
        given.append(values.astype(np.float32))
        rows.append(scores.take().float().cpu().numpy())
        odds.append(all_log_odds(logits.double()).float().cpu().numpy())
        if gradient is not None:
            peaks.append(strongest(images.detach(), gradient))
        advance(len(images))
    places = None
    if len(peaks) == len(odds):
        places = torch.cat(peaks).cpu().numpy()
    if sums is None:
        raise ValueError("no images")
    right, wrong = sums.means()
    return Evidence(
        reader.channels,
        np.concatenate(odds),
        places,
        right,
        wrong,
        np.concatenate(rows),
        np.concatenate(given),
    )


def predicted(logits: Tensor) -> Tensor:
    """Return the likeliest class (B,) of logits (B, C)."""
    return logits.argmax(1)


def sent_back(
    model: nn.Module,
    reader: ContributionReader,
    images: Tensor,
    output: Output | None,
    classes: Callable[[Tensor], Tensor],
    reads: Mapping[str, Callable[[Tensor], None]] | None = None,
) -> tuple[Tensor, Float64, Tensor | None]:
    """Run forward, and backward from the log-odds of ``classes`` (B,) of logits (B, C).

    Return the logits, what channels contribute (B, m), and the gradient with respect to ``images``, which want one;
    ``None`` where none comes back. ``reads`` instead of the reader's own may read more on the same way.
    """
    with torch.enable_grad():
        with instrument(model, Instrument(reads=reader.reads if reads is None else reads, edits=reader.edits)):
            logits = check_logits(forward_logits(model, images, output))
        gradient = reader.send_back(log_odds(logits, classes(logits.detach())), to=images)
    return logits.detach(), values_of(reader.take(), reader.channels, None), gradient


def _both(one: Callable[[Tensor], None], other: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
    def read(out: Tensor) -> None:
        one(out)
        other(out)

    return read


def strongest(images: Tensor, gradient: Tensor) -> Tensor:
    """Return (B, 2, 2): row and column where what an image has beyond its blurred self speaks most for the class.

    First the strongest place; then the strongest of those whose patch does not overlap the first's.
    """
    evidence = ((images - blurred(images, _COARSE)) * gradient).sum(1, keepdim=True).clamp(min=0)
    smooth = functional.avg_pool2d(evidence, _SMOOTH, 1, _SMOOTH // 2)[:, 0]
    first = _place(smooth)
    side = patch_side(PATCH, smooth.shape[1:])
    rows, columns = (torch.arange(n, device=smooth.device) for n in smooth.shape[1:])
    near_rows, near_columns = (abs(at - first[:, [axis]]) < side for axis, at in enumerate((rows, columns)))
    beside = smooth.masked_fill(near_rows[:, :, None] & near_columns[:, None, :], -1.0)
    return torch.stack([first, _place(beside)], 1)


def _place(maps: Tensor) -> Tensor:
    """Return (B, 2): row and column of the largest value of each map (B, H, W)."""
    flat = maps.flatten(1).argmax(1)
    return torch.stack([flat // maps.shape[2], flat % maps.shape[2]], 1)


class Sums:
    """Sums of contributions by predicted class, of images that are of the class and of others."""

    def __init__(self, n_classes: int, channels: int) -> None:
        self._sums = np.zeros((2, n_classes, channels))
        self._counts = np.zeros((2, n_classes))

    def add(self, values: Float64, predicted: Int64, labels: Int64) -> None:
        """Add contributions (B, m) to the predicted classes (B,)."""
        for at, rows in enumerate((predicted == labels, predicted != labels)):
            np.add.at(self._sums[at], predicted[rows], values[rows])
            np.add.at(self._counts[at], predicted[rows], 1)

    def means(self) -> tuple[Float64, Float64]:
        """Return (C, m) of those that are of the class, and of those that are not; NaN without an image."""
        with np.errstate(invalid="ignore", divide="ignore"):
            right, wrong = self._sums / self._counts[:, :, None]
        return right, wrong
