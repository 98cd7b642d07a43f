"""What draws images to a class: training images of other classes, and images from the field. docs/measures.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from interpnet.ablation import adjusted
from interpnet.engine import (
    Instrument,
    Output,
    Site,
    all_log_odds,
    check_logits,
    forward_logits,
    instrument,
)
from interpnet.errors import DataError
from interpnet.reliance import ContributionReader, probe
from interpnet.scores import Prepare, ScoreReader, unpack
from interpnet.shortcuts._common import FEWEST, CommonOverlay, common_overlay
from interpnet.shortcuts._evidence import GRADIENTS, Evidence, sent_back, strongest
from interpnet.shortcuts._findings import DrawingChannel, Drawn
from interpnet.shortcuts._leaning import leaning
from interpnet.shortcuts._shown import class_name, classes_counted
from interpnet.support.types import Float32, Float64, Int64

_CHANNELS = 10
_HIGH = 0.01  # share of training images in which a channel is as high as where it draws
_LEVEL = 0.05  # of the adjusted p-value of a class that field images are drawn to
_MOST = 10  # classes of each source
_STRONGEST = 64  # of the images drawn to one class that run backward
_COMPARED = 256  # field images that are looked at for what those drawn to a class have in common, half of them drawn
_BY_CHANCE = 0.01  # of an agreement from which they have something in common


def field_images(
    batches: Iterable[Any],
    shape: tuple[int, ...],
    *,
    inputs: str | None,
    labels: str | None,
    prepare: Prepare | None,
) -> Tensor:
    """Return the images (F, C, H, W) of a loader, in its order and on the CPU; labels are not looked at."""
    found = []
    for raw in batches:
        images = unpack(raw, inputs=inputs, labels=labels, prepare=prepare).images
        if len(images) and tuple(images.shape[1:]) != shape:
            raise DataError(
                f"field: images of {tuple(images.shape[1:])} came, and the training images are of {shape}; resize or "
                "crop them in the loader as the training images are, so that the network sees them alike"
            )
        found.append(images.detach().cpu())
    pixels = torch.cat(found) if found else torch.empty(0, *shape)
    if not len(pixels):
        raise DataError("field: the loader yielded no image; expected batches of images, or field=None")
    return pixels


def drawn_in_training(
    evidence: Evidence, labels: Int64, indices: Int64, names: Sequence[str] | None
) -> tuple[Drawn, ...]:
    """Return the classes that images of other classes are taken for, the most surprising first.

    Were mistakes spread evenly, each other class would get the same share of them: the p-value is of the binomial
    distribution. Channels are ranked by their specific contribution: their mean over the misclassified images less the
    largest mean that they have in images of another class, if above 0.
    """
    n_classes = evidence.odds.shape[1]
    predicted = evidence.predicted
    wrong = predicted != labels
    counts = np.bincount(predicted[wrong], minlength=n_classes)
    # Mistakes on images of a class cannot be taken for it.
    chances = wrong.sum() - np.bincount(labels[wrong], minlength=n_classes)
    expected = 1 / max(n_classes - 1, 1)
    p = np.where(counts > 0, stats.binom.sf(counts - 1, chances, expected), np.nan)
    p = np.where(np.isfinite(p), p, 1.0)
    p = adjusted(p)
    usual = _largest_elsewhere(evidence.right)
    found = []
    for k in _ordered(counts, p)[:_MOST]:
        rows = np.flatnonzero(wrong & (predicted == k))
        specific = evidence.wrong[k] - np.maximum(0.0, usual(k))
        best = np.argsort(-specific, kind="stable")[:_CHANNELS]
        best = best[specific[best] > 0]
        high = evidence.scores[rows][:, best] > _high(evidence.scores[:, best])
        found.append(
            Drawn(
                index=k,
                name=class_name(k, names),
                source="training",
                n=len(rows),
                share=len(rows) / max(int((labels != k).sum()), 1),
                expected=float(expected * chances[k] / max(int((labels != k).sum()), 1)),
                p=float(p[k]),
                channels=_channels(best, evidence.wrong[k], high.mean(0), evidence, labels),
                images=tuple(int(i) for i in indices[rows]),
                places=_places(evidence.peaks, rows),
            )
        )
    return tuple(found)


class FieldSearch:
    """Which classes the field images are drawn to, by which channels, from where.

    Parameters
    ----------
    model : nn.Module
        Frozen and in evaluation mode.
    evidence : Evidence
        Of the training images ``known`` (N, C, H, W), with their ``labels`` (N,).
    pixels : Tensor (F, C, H, W)
        The field images.
    """

    def __init__(
        self,
        model: nn.Module,
        evidence: Evidence,
        known: Tensor,
        labels: Int64,
        pixels: Tensor,
        sites: Sequence[Site],
        put: Callable[[Tensor], Tensor],
        max_batch: int,
        output: Output | None,
    ) -> None:
        self._model = model
        self._evidence = evidence
        self._known = known
        self._labels = labels
        self._pixels = pixels
        self._passes = len(pixels)
        self._sites = sites
        self._put = put
        self._max_batch = max_batch
        self._output = output

    @property
    def passes(self) -> int:
        """Forward-equivalents of one image that were spent."""
        return self._passes

    def run(self, names: Sequence[str] | None, advance: Callable[[int], None]) -> tuple[Drawn, ...]:
        """Return the classes that field images lean to, the most surprising first."""
        odds, scores = self._forward(advance)
        lean = leaning(self._evidence.odds, self._labels, odds)
        high = scores > _high(self._evidence.scores)
        found = []
        for k in [int(k) for k in lean.order if lean.p[k] < _LEVEL][:_MOST]:
            rows = np.flatnonzero(lean.images[:, k])
            by_strength = rows[np.argsort(-odds[rows, k], kind="stable")]
            first = by_strength[:_STRONGEST]
            contributions, peaks = self._backward(first, k)
            mean = contributions.mean(0)
            best = _unusual(mean, scores[rows], self._evidence.scores)
            found.append(
                Drawn(
                    index=k,
                    name=class_name(k, names),
                    source="field",
                    n=len(rows),
                    share=len(rows) / len(odds),
                    expected=float(lean.expected[k]),
                    p=float(lean.p[k]),
                    channels=_channels(best, mean, high[rows][:, best].mean(0), self._evidence, self._labels),
                    images=tuple(int(i) for i in first),
                    places=_places(peaks, np.arange(len(first))),
                    common=self._common(by_strength),
                )
            )
            self._passes += GRADIENTS * len(first)
        return tuple(found)

    def _common(self, rows: Int64) -> CommonOverlay | None:
        """Return what the images ``rows``, the strongest first, have in common at the same place, if anything."""
        if len(rows) < FEWEST or len(self._known) < FEWEST**2:
            return None
        spread = np.linspace(0, len(self._pixels) - 1, min(len(self._pixels), _COMPARED)).round().astype(np.int64)
        drawn = rows[: _COMPARED // 2]
        at = np.concatenate([drawn, np.setdiff1d(spread, drawn)[: _COMPARED - len(drawn)]])
        found = common_overlay(self._pixels[torch.from_numpy(at)], torch.arange(len(drawn)), self._known)
        if found.p > _BY_CHANCE or not found.covered:
            return None
        return replace(found, images=tuple(sorted(int(at[i]) for i in found.images)))

    def _forward(self, advance: Callable[[int], None]) -> tuple[Float32, Float32]:
        """Return the log-odds (F, C) and the scores (F, m) of the field images."""
        reader = ScoreReader(self._sites)
        odds = []
        scores = []
        with torch.no_grad(), instrument(self._model, Instrument(reads=reader.reads)):
            for pixels in torch.split(self._pixels, self._max_batch):
                logits = check_logits(forward_logits(self._model, self._put(pixels), self._output))
                odds.append(all_log_odds(logits.double()).float().cpu().numpy())
                scores.append(reader.take().float().cpu().numpy())
                advance(len(pixels))
        return np.concatenate(odds), np.concatenate(scores)

    def _backward(self, rows: Int64, k: int) -> tuple[Float64, Int64 | None]:
        """Return what channels contribute to class k (n, m), and where its strongest evidence is (n, 2)."""
        reader = ContributionReader(self._sites)
        values = []
        peaks = []
        with torch.enable_grad():
            probe(self._model, reader, self._put(self._pixels[:2]), self._output, "exclusive")
            for some in np.split(rows, range(self._max_batch, len(rows), self._max_batch)):
                images = self._put(self._pixels[torch.from_numpy(some)]).detach().clone().requires_grad_()
                _, contributed, gradient = sent_back(
                    self._model, reader, images, self._output, lambda logits: torch.full_like(logits[:, 0], k).long()
                )
                values.append(contributed)
                if gradient is not None:
                    peaks.append(strongest(images.detach(), gradient).cpu().numpy())
        return np.concatenate(values), np.concatenate(peaks) if peaks else None


def _unusual(contributions: Float64, scores: Float32, before: Float32) -> Int64:
    """Return the channels that speak for a class, by how far their scores (n, m) are above those of training (N, m).

    In standard deviations, pooled over the two (Cohen's d).
    """
    rise = scores.mean(0, dtype=np.float64) - before.mean(0, dtype=np.float64)
    spread = np.sqrt((scores.var(0, dtype=np.float64) + before.var(0, dtype=np.float64)) / 2)
    far = np.divide(rise, spread, out=np.zeros_like(rise), where=spread > 0)
    best = np.argsort(-far, kind="stable")
    best = best[(contributions[best] > 0) & (far[best] > 0)]
    channels: Int64 = best[:_CHANNELS].astype(np.int64)
    return channels


def _ordered(counts: Int64, p: Float64) -> list[int]:
    """Return the classes that draw any image, the most surprising first."""
    return [int(k) for k in np.lexsort((-counts, p)) if counts[k]]


def _largest_elsewhere(means: Float64) -> Callable[[int], Float64]:
    """Return a function that gives the largest mean (m,) among the classes other than k, of (C, m) with NaN rows."""
    known = np.where(np.isfinite(means), means, -np.inf)
    first = known.argmax(0)
    columns = np.arange(known.shape[1])
    largest = known[first, columns]
    known[first, columns] = -np.inf
    second = known.max(0)
    return lambda k: np.where(first == k, second, largest)


def _high(scores: Float32) -> Float32:
    """Return (m,): what 99 % of images stay at or below, for each channel."""
    high: Float32 = np.quantile(scores, 1 - _HIGH, axis=0)
    return high


def _channels(
    best: Int64, contributions: Float64, high: Float64, evidence: Evidence, labels: Int64
) -> tuple[DrawingChannel, ...]:
    return tuple(
        DrawingChannel(
            evidence.channels[int(j)],
            float(contributions[j]),
            float(share),
            classes_counted(labels[evidence.top(int(j))]),
        )
        for j, share in zip(best, high, strict=True)
    )


def _places(peaks: Int64 | None, rows: Int64) -> tuple[tuple[int, int], ...]:
    if peaks is None:
        return ()
    return tuple((int(row), int(column)) for row, column in peaks[rows, 0])
