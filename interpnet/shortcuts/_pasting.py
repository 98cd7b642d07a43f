"""The images of a paste probe: patches cut by a channel's heatmap, put into other images and taken out of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from interpnet.ablation import adjusted, interval
from interpnet.engine import (
    Channel,
    Instrument,
    Output,
    Trace,
    all_log_odds,
    check_logits,
    forward_logits,
    instrument,
)
from interpnet.errors import InterpNetError, ModelError
from interpnet.explanation import channel_heatmap
from interpnet.scores import ScoreReader
from interpnet.shortcuts._cut import Patch, cut_by, quietest
from interpnet.shortcuts._evidence import GRADIENTS
from interpnet.shortcuts._example import Example
from interpnet.shortcuts._findings import Findings
from interpnet.shortcuts._pasted import Moved, Pasted, PasteProbe
from interpnet.shortcuts._sample import Sample
from interpnet.shortcuts._shown import class_name
from interpnet.support.checks import instance_of, listed, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float32, Float64, Int64

CHANNELS = 3  # of each class of findings
DONORS = 12
TARGETS = 3
_POOL = 4  # times as many images of other classes as a pair pastes into
_EXAMPLES = 4  # pictures of each pair, and as many without the patch
_WITHOUT = 2  # images that have lost something: see Patch.without
_WITH = 4  # images that got something: see Patch.ways_on


class Pasting:
    """The images of a sample, and what is pasted and taken out for every pair of a class and a channel.

    ``model`` is frozen, in evaluation mode, and where ``put`` puts images; ``donors`` images of a class give their
    patch, each to ``targets`` images of other classes.
    """

    def __init__(
        self,
        model: nn.Module,
        sample: Sample,
        trace: Trace,
        put: Callable[[Tensor], Tensor],
        *,
        names: Sequence[str] | None,
        donors: int = DONORS,
        targets: int = TARGETS,
        seed: int,
        max_batch: int,
        output: Output | None,
    ) -> None:
        self._model = model
        self._sample = sample
        self._trace = trace
        self._put = put
        self._names = names
        self._donors = donors
        self._targets = targets
        self._seed = seed
        self._max_batch = max_batch
        self._output = output
        self._passes = 0
        self._advance: Callable[[int], None] = lambda _: None

    def run(self, pairs: Sequence[tuple[int, Channel]], *, progress: bool = False) -> PasteProbe:
        """Return what came of every pair."""
        if not pairs:
            return PasteProbe((), 0.0)
        self._check(pairs)
        self._sample = self._needed({k for k, _ in pairs})
        reader = ScoreReader([self._trace.usable(layer) for layer in dict.fromkeys(c.layer for _, c in pairs)])
        total = len(self._sample.labels) + len(pairs) * self._each
        with progress_bar("Pasting patches", total, enabled=progress) as self._advance:
            odds, scores = self._answers(iter(torch.split(self._sample.pixels, self._max_batch)), reader)
            found = []
            for number, (k, channel) in enumerate(pairs):
                column = scores[:, reader.channels.position(channel)]
                found.append(self._pair(k, channel, odds, column, np.random.default_rng([self._seed, number])))
        return PasteProbe(together(found), float(self._passes))

    @property
    def _each(self) -> int:
        """Passes of one image that a pair takes."""
        return self._donors * (GRADIENTS + _WITHOUT + self._targets * _WITH)

    def added_to(self, found: Findings, *, progress: bool) -> Findings:
        """Return findings with what came of the first channels of their most suspicious classes, and its passes.

        As many channels as about one more pass over the images pays for: first the first of each class.
        """
        images = len(self._sample.labels)
        pairs = sorted(pairs_of(found, CHANNELS), key=lambda pair: _place(found, *pair))
        try:
            probe = self.run(pairs[: max(1, images // self._each)], progress=progress)
        except ModelError as error:
            note = f"What channels answer to was not pasted into other images: {error}"
            return replace(found, notes=(*found.notes, note))
        return replace(found, inside=probe.pairs, passes=found.passes + probe.passes / images)

    def _check(self, pairs: Sequence[tuple[int, Channel]]) -> None:
        for k, channel in pairs:
            whole_number(k, "a class of channels", least=0, most=self._trace.n_outputs - 1)
            channels = self._trace.usable(channel.layer).channels
            whole_number(channel.index, f"the index of a channel of {channel.layer!r}", least=0, most=channels - 1)

    def _needed(self, classes: set[int]) -> Sample:
        """Return the images of the classes, and as many others as are drawn from."""
        sample = self._sample
        own = np.isin(sample.labels, list(classes))
        others = np.random.default_rng(self._seed).permutation(np.flatnonzero(~own))
        rows = np.union1d(np.flatnonzero(own), others[: _POOL * self._donors * self._targets])
        if len(rows) == len(sample.labels):
            return sample
        return Sample(sample.pixels[torch.from_numpy(rows)], sample.labels[rows], sample.indices[rows])

    def _answers(self, batches: Iterator[Tensor], reader: ScoreReader | None = None) -> tuple[Float32, Float32]:
        """Return the log-odds (N, C) of images, and their scores (N, m) where something reads them."""
        odds = [np.zeros((0, self._trace.n_outputs), np.float32)]
        scores = []
        reads = {} if reader is None else reader.reads
        with torch.no_grad(), instrument(self._model, Instrument(reads=reads)):
            for images in batches:
                logits = check_logits(forward_logits(self._model, self._put(images), self._output))
                odds.append(all_log_odds(logits.double()).float().cpu().numpy())
                if reader is not None:
                    scores.append(reader.take().float().cpu().numpy())
                self._passes += len(images)
                self._advance(len(images))
        return np.concatenate(odds), np.concatenate(scores) if scores else np.zeros((0, 0), np.float32)

    def _pair(self, k: int, channel: Channel, odds: Float32, scores: Float32, rng: np.random.Generator) -> Pasted:
        own = self._sample.labels == k
        answering = np.flatnonzero(own & (scores > 0))
        best = answering[np.argsort(-scores[answering], kind="stable")][: self._donors]
        patches = self._patches(best, channel, rng)
        rows = np.array([one.row for one in patches], dtype=np.int64)
        targets = self._drawn(k, odds, len(rows), rng)
        after, _ = self._answers(self._made(patches, targets, rng))
        every = after.reshape(len(rows), _WITHOUT + self._targets * _WITH, after.shape[1])
        without, given = every[:, :_WITHOUT], every[:, _WITHOUT:].reshape(*targets.shape, _WITH, after.shape[1])
        # A patch counts once: its images have it in common.
        rise = (given[..., k].astype(np.float64) - odds[targets, k][:, :, None]).mean(1)
        fall = odds[rows, k].astype(np.float64)[:, None] - without[..., k]
        taken = given.argmax(-1) == k
        return Pasted(
            index=k,
            name=class_name(k, self._names),
            channel=channel,
            n=len(rows),
            area=_mean([float(one.opacity.mean()) for one in patches]),
            gap=_mean(odds[own, k]) - _mean(odds[~own, k]),
            raised=moved_by(rise[:, 0], rise[:, 1]),
            fell=moved_by(fall[:, 0], fall[:, 1]),
            reordered=_mean(rise[:, 2]),
            elsewhere=_mean(rise[:, 3]),
            taken=_mean(taken[:, :, 0]),
            taken_before=_mean(odds[targets].argmax(-1) == k),
            taken_control=_mean(taken[:, :, 1]),
            pasted=self._pasted(k, patches, targets, odds, given[:, :, 0]),
            removed=self._removed(k, patches, odds, without[:, 0]),
        )

    def _patches(self, rows: Int64, channel: Channel, rng: np.random.Generator) -> list[Patch]:
        """Return the patches of those images in which the channel's heatmap is not flat."""
        found = []
        for some in np.split(rows, range(self._max_batch, len(rows), self._max_batch)):
            images = self._sample.pixels[torch.from_numpy(some)]
            if not len(images):
                continue
            maps = channel_heatmap(self._model, self._put(images), channel, trace=self._trace, output=self._output)
            self._passes += GRADIENTS * len(images)
            self._advance(GRADIENTS * len(images))
            for row, image, heatmap in zip(some, images, maps.detach().cpu().double().numpy(), strict=True):
                opacity = cut_by(heatmap)
                if opacity.any():
                    where = quietest(heatmap, opacity, rng)
                    found.append(Patch(int(row), image, torch.from_numpy(opacity).to(image), where))
        return found

    def _drawn(self, k: int, odds: Float32, n: int, rng: np.random.Generator) -> Int64:
        """Return (n, targets) images of other classes, not taken for k where there are such, each equally often."""
        others = np.flatnonzero(self._sample.labels != k)
        free = others[odds[others].argmax(1) != k]
        pool = free if len(free) else others
        needed = n * self._targets
        rounds = [rng.permutation(pool) for _ in range(-(-needed // len(pool)))]
        return np.concatenate([*rounds, pool[:0]])[:needed].reshape(n, self._targets)

    def _made(self, patches: Sequence[Patch], targets: Int64, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield batches of what is made of every patch: without, then with, target by target."""
        waiting: list[Tensor] = []
        for patch, others in zip(patches, targets, strict=True):
            waiting += patch.without()
            for other in others:
                waiting += patch.ways_on(self._sample.pixels[int(other)], rng)
            while len(waiting) >= self._max_batch:
                yield torch.stack(waiting[: self._max_batch])
                waiting = waiting[self._max_batch :]
        if waiting:
            yield torch.stack(waiting)

    def _pasted(
        self, k: int, patches: Sequence[Patch], targets: Int64, odds: Float32, after: Float32
    ) -> tuple[Example, ...]:
        """Return the images that rose most, one of each patch; their log-odds were (N, C), and are (n, targets, C)."""
        rise = after[..., k] - odds[targets, k]
        best = rise.argmax(1) if rise.size else np.zeros(0, dtype=np.int64)
        found = []
        for at in np.argsort(-rise.max(1, initial=-np.inf), kind="stable")[:_EXAMPLES]:
            patch, other = patches[at], int(targets[at, best[at]])
            made = patch.on(self._sample.pixels[other])
            found.append(self._example(k, other, patch, made, odds, after[at, best[at]]))
        return tuple(found)

    def _removed(self, k: int, patches: Sequence[Patch], odds: Float32, after: Float32) -> tuple[Example, ...]:
        """Return the images that fell most without their patch; their log-odds are (n, C) now."""
        rows = [one.row for one in patches]
        fall = odds[rows, k] - after[:, k]
        return tuple(
            self._example(k, rows[at], patches[at], patches[at].without()[0], odds, after[at])
            for at in np.argsort(-fall, kind="stable")[:_EXAMPLES]
        )

    def _example(self, k: int, rest: int, patch: Patch, made: Tensor, odds: Float32, after: Float32) -> Example:
        where = patch.opacity >= 0.5
        return Example(
            rest=int(self._sample.indices[rest]),
            donor=int(self._sample.indices[patch.row]),
            before=int(odds[rest].argmax()),
            after=int(after.argmax()),
            odds_before=float(odds[rest, k]),
            odds_after=float(after[k]),
            pictures=torch.stack([self._sample.pixels[rest], patch.image, made]),
            places=torch.stack([where, where]),
        )


def _mean(values: object) -> float:
    """Return the mean of numbers, NaN of none."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()) if array.size else float("nan")


def moved_by(whole: Float64, control: Float64) -> Moved:
    """Return how far n images move beyond their controls, by Student's t; the p-value is not yet adjusted."""
    effect = whole - control
    n = len(effect)
    if not n:
        return Moved(*[float("nan")] * 6)
    mean = float(effect.mean())
    low = high = p = float("nan")
    if n > 1:
        error = float(effect.std(ddof=1)) / np.sqrt(n)
        low, high = interval(effect)
        p = float(stats.t.sf(mean / error, n - 1)) if error > 0 else float(mean <= 0)
    return Moved(float(whole.mean()), float(control.mean()), mean, low, high, p)


def together(pairs: list[Pasted]) -> tuple[Pasted, ...]:
    """Return pairs with their p-values adjusted for their number, the patch that raises its class most first."""
    raised, fell = (adjusted(np.array([getattr(one, name).p for one in pairs])) for name in ("raised", "fell"))
    found = [
        replace(one, raised=replace(one.raised, p=float(p)), fell=replace(one.fell, p=float(q)))
        for one, p, q in zip(pairs, raised, fell, strict=True)
    ]
    return tuple(sorted(found, key=lambda one: -one.raised.low if np.isfinite(one.raised.low) else np.inf))


def _place(found: Findings, k: int, channel: Channel) -> int:
    """Return which of its class's channels one is."""
    return [c.channel for c in found.of(k).channels].index(channel)


def pairs_of(channels: Findings | Mapping[int, Sequence[Channel]], most: int) -> list[tuple[int, Channel]]:
    """Return the (class, channel) that findings name, or a mapping."""
    if isinstance(channels, Findings):
        return [(one.index, c.channel) for one in channels.suspicious for c in one.channels[:most]]
    if not isinstance(channels, Mapping) or not channels:
        raise InterpNetError(
            f"channels is {type(channels).__name__}; expected what find(model, loader) returned, or a mapping of class "
            'numbers to channels, such as {3: [Channel("layer4", 7)]}'
        )
    return [
        (whole_number(k, "a class of channels", least=0), instance_of(one, "an entry of channels", Channel))
        for k, several in channels.items()
        for one in listed(several, "an entry of channels")
    ]
