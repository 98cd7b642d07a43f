"""Reliance, measured: which channels a class rests on, in which order, and how many of them take half its log-odds.

docs/method.md, section 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.datasets import Batch
from interpnet.engine import (
    Instrument,
    Output,
    Removal,
    Trace,
    check_predicted,
    evaluating,
    find_sites,
    for_outputs,
    forward_logits,
    instrument,
    log_odds,
    placed,
    predicted,
    resolve_device,
    unwrap,
)
from interpnet.errors import InterpNetError
from interpnet.reliance._chosen import ChosenImages
from interpnet.reliance._collect import collect_contributions
from interpnet.reliance._contributions import Contributions, added_up
from interpnet.reliance._pairs import said
from interpnet.reliance._relied import Reliance, clear_order
from interpnet.reliance._weights import check_same_weights
from interpnet.scores import Loader, Prepare, RepeatedLoader, sites_of
from interpnet.support.checks import check_kinds, instance_of, number, optional, true_or_false, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.ranks import ALONE, Ranks, ranks_of
from interpnet.support.types import Float64, Int64

#: The shares of channels that are gone while contributions are averaged, and what the others' mean cost counts: chosen
#: on the development networks of experiments/rankings.
THINNED = (0.0, 0.05, 0.1, 0.2, 0.3)
PRICE = 4.0
_KEEP_BYTES = 1 << 30


def measure_reliance(
    model: nn.Module,
    loader: Loader,
    contributions: Contributions,
    *,
    price: float = PRICE,
    share: float = 0.5,
    worth: float = 0.1,
    most: int = 64,
    images: int | None = 100,
    thinned: Sequence[float] = THINNED,
    device: str | torch.device | None = None,
    output: Output | None = None,
    memory_format: str = "auto",
    progress: bool = True,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
    group: Any = None,
) -> Reliance:
    """Order each class's channels by what they contribute, and measure how many of them take half of its log-odds.

    The order is that of ``S[j] = K[j] - price * mean over the other classes k of max(0, K[k])``, with K the mean
    contributions averaged over networks that lost a share of their channels at random (``thinned``), so that a channel
    counts which takes over when others are gone. Only channels whose S is above 0 and at least twice its standard error
    are in it. Each class's set begins with the smallest prefix whose removal takes ``share`` of the class's mean
    log-odds on these images, found by doubling and halving; where one channel is enough for that, others may be needed
    just as much, so every channel whose S is at least ``worth`` of the log-odds is in the set too.

    Parameters
    ----------
    model, device, output, memory_format, progress, inputs, labels, prepare
        As in :func:`interpnet.collect_contributions`.
    loader : iterable of batches
        Training images, read several times; those of up to 1 GiB are kept.
    contributions : Contributions
        Those of the same network: they say which layers, what channels are overwritten with, and what a class is.
    price, share, worth, most
        See above; at most ``most`` channels for a class.
    images : int, optional
        At most so many images of a class, the first that come; ``None`` takes all.
    thinned : sequence of float
        As in :func:`interpnet.collect_contributions`; ``()`` takes the whole network's contributions.
    group : process group of torch.distributed, or "default", optional
        Its processes share the work: each passes the same arguments, runs every world-th batch, and gets the result of
        one process (sums are added in another order).

    Raises
    ------
    InterpNetError
        Contributions of another network, a price below 0.
    DataError
        As in :func:`interpnet.collect_contributions`.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    >>> batches = [(torch.rand(8, 1, 5, 5), torch.tensor([0, 1] * 4))]
    >>> found = collect_contributions(net, batches, progress=False)
    >>> measure_reliance(net, batches, found, progress=False).sizes.shape
    (2,)
    """
    check_kinds(measure_reliance, locals(), but=["thinned"])
    true_or_false(progress, "progress")
    instance_of(contributions, "contributions", Contributions)
    number(price, "price", least=0.0)
    number(share, "share", least=0.01, most=1.0)
    number(worth, "worth", least=0.0, most=1.0)
    whole_number(most, "most", least=1)
    optional(whole_number, images, "images", least=1)
    model = unwrap(model)
    where = resolve_device(device, model)
    outputs = str(contributions.info.get("outputs", "exclusive"))
    output = for_outputs(output, outputs)
    keys = {"inputs": inputs, "labels": labels}
    C = len(contributions.classes)
    with placed(model, where, memory_format) as put, evaluating(model):
        say = None
        if contributions.info.get("targets") == "predictions":
            say = _sayer(model, output, put, outputs)
        chosen = ChosenImages(loader, C, images, say, **keys, prepare=prepare, classes=contributions.classes)
        batches = RepeatedLoader(chosen, C, keep=_KEEP_BYTES, use="measure_reliance", inputs=None, labels=None)
        trace = find_sites(model, put(batches.first_images), output=output)
        _check_same(trace, contributions)
        check_same_weights(model, contributions)
        ranks = _who_runs(batches, ranks_of(group))
        fill: str | Float64 = "zero"
        if contributions.fill != "zero":
            fill = contributions.reference
        averaged = collect_contributions(
            model,
            _Own(batches, ranks),
            layers=list(contributions.channels.layers),
            fill=fill,
            images=None,
            outputs=outputs,
            classes=contributions.classes,
            thinned=thinned,
            device=where,
            output=output,
            memory_format=memory_format,
            progress=progress,
        )
        averaged = added_up(averaged, ranks)
        values = averaged.specific(price, others="mean")
        stderr = averaged.specific_stderr(price, others="mean")
        order = tuple(clear_order(values[j], stderr[j], most) for j in range(C))
        run = _Removals(model, batches, trace, contributions, put=put, output=output, outputs=outputs, ranks=ranks)
        search = _Search(order, share, run.log_odds, progress=progress)
        enough = search.sizes
        # Where the class is not recognised nothing is worth a share of its log-odds.
        worthy = (values >= worth * search.intact[:, None]) & search.recognised[:, None]
        counted = [int(worthy[j, columns].sum()) for j, columns in enumerate(order)]
        sizes = np.maximum(enough, counted)
        left = search.left
        if (sizes > enough).any():
            with progress_bar("Measuring reliance", len(batches.labels), enabled=progress) as advance:
                left = run.log_odds([columns[:k] for columns, k in zip(order, sizes, strict=True)], advance)
        return Reliance(
            contributions=averaged,
            fill=contributions.fill,
            price=price,
            share=share,
            worth=worth,
            order=order,
            sizes=sizes,
            enough=enough,
            ends=search.ends(sizes, most),
            intact=search.intact,
            left=left,
        )


def _who_runs(batches: RepeatedLoader, ranks: Ranks) -> Ranks:
    """Return the ranks that share the batches, once all are known to have the same; all do all where these are few."""
    if ranks.alone:
        return ranks
    n_batches = sum(1 for _ in batches)
    ranks.agree("what reliance is measured on", batches.fingerprint)
    if n_batches < ranks.world:
        return ALONE
    return ranks


@dataclass(frozen=True)
class _Own:
    """The batches of one of several ranks, with their images' places among all."""

    batches: RepeatedLoader
    ranks: Ranks

    def __iter__(self) -> Iterator[Batch]:
        start = 0
        for number_, (images, classes) in enumerate(self.batches):
            end = start + len(images)
            if self.ranks.has(number_):
                yield Batch(images, classes, torch.arange(start, end), [])
            start = end


def _sayer(
    model: nn.Module, output: Output | None, put: Callable[[Tensor], Tensor], outputs: str
) -> Callable[[Tensor], Int64]:
    """Return a function from images to the pairs of an image and a class that the network predicts."""

    def say(images: Tensor) -> Int64:
        with torch.inference_mode():
            return said(forward_logits(model, images, output, put), outputs)

    return say


def _check_same(trace: Trace, contributions: Contributions) -> None:
    if trace.n_outputs != len(contributions.classes):
        raise InterpNetError(
            f"the model has {trace.n_outputs} outputs and the contributions are of {len(contributions.classes)} "
            "classes; were they collected from another model?"
        )
    sites_of(trace, contributions.channels)


class _Removals:
    """Passes over the chosen images, each with its own class's channels removed."""

    def __init__(
        self,
        model: nn.Module,
        batches: RepeatedLoader,
        trace: Trace,
        contributions: Contributions,
        *,
        put: Callable[[Tensor], Tensor],
        output: Output | None,
        outputs: str,
        ranks: Ranks,
    ) -> None:
        self._ranks = ranks
        self._model = model
        self._batches = batches
        self._put = put
        self._output = output
        self._outputs = outputs
        self._removal = Removal(sites_of(trace, contributions.channels), torch.from_numpy(contributions.reference))
        self._C = len(contributions.classes)

    def log_odds(self, lists: Sequence[Int64], advance: Callable[[int], None]) -> Float64:
        """Return the mean log-odds of each class without its list (C,); NaN for a class without images.

        ``advance`` is told of every image.
        """
        sums = np.zeros(self._C)
        counts = np.zeros(self._C)
        start = 0
        with torch.inference_mode(), instrument(self._model, Instrument(edits=self._removal.edits)):
            for number_, (images, classes) in enumerate(self._batches):
                advance(len(images))
                if not self._ranks.has(number_):
                    start += len(images)
                    continue
                self._removal.set([lists[c] for c in classes.tolist()])
                logits = forward_logits(self._model, images, self._output, self._put)
                indices = range(start, start + len(images))
                check_predicted(predicted(logits).cpu(), indices, batch=number_, when=" with channels removed")
                start += len(images)
                margins = log_odds(logits, classes, outputs=self._outputs).double().cpu().numpy()
                sums += np.bincount(classes.numpy(), weights=margins, minlength=self._C)
                counts += np.bincount(classes.numpy(), minlength=self._C)
        self._ranks.sum(sums)
        self._ranks.sum(counts)
        means: Float64 = np.divide(sums, counts, out=np.full(self._C, np.nan), where=counts > 0)
        return means


class _Search:
    """The smallest prefix of each order whose removal takes a share of the log-odds, all classes in the same passes."""

    def __init__(
        self,
        order: Sequence[Int64],
        share: float,
        measure: Callable[[Sequence[Int64], Callable[[int], None]], Float64],
        *,
        progress: bool,
    ) -> None:
        self._order = order
        self._measure = measure
        lengths = np.array([len(columns) for columns in order])
        with progress_bar("Measuring reliance", None, enabled=progress) as advance:
            self._advance = advance
            self.intact = self._removed(np.zeros_like(lengths))
            # NaN compares as false: nothing is reached for a class without images.
            self._goal = (1 - share) * self.intact
            self.recognised = self.intact > 0
            self.left = self.intact.copy()
            self.sizes = self._doubled(lengths)
            self._halved()

    def _removed(self, sizes: Int64) -> Float64:
        return self._measure([columns[:k] for columns, k in zip(self._order, sizes, strict=True)], self._advance)

    def _doubled(self, lengths: Int64) -> Int64:
        """Return for each class the first of 1, 2, 4, ... that is enough, or the whole order."""
        sizes = np.minimum(lengths, 1)
        self._low = np.zeros_like(sizes)
        self.reached = np.zeros(len(sizes), dtype=bool)
        while True:
            found = self._removed(sizes)
            open_ = ~self.reached
            self.left[open_] = found[open_]
            self.reached |= open_ & self.recognised & (found <= self._goal)
            growing = ~self.reached & (sizes < lengths)
            if not growing.any():
                return sizes
            self._low[growing] = sizes[growing]
            sizes = np.where(growing, np.minimum(2 * sizes, lengths), sizes)

    def _halved(self) -> None:
        """Make each size that is enough smaller, as far as halving finds one that is enough too."""
        while True:
            middle = (self._low + self.sizes) // 2
            trying = self.reached & (middle > self._low)
            if not trying.any():
                return
            found = self._removed(np.where(trying, middle, self.sizes))
            enough = trying & (found <= self._goal)
            self.left[enough] = found[enough]
            self.sizes = np.where(enough, middle, self.sizes)
            self._low = np.where(trying & ~enough, middle, self._low)

    def ends(self, sizes: Int64, most: int) -> tuple[str, ...]:
        """Return why each set of these sizes ends where it does, one of :data:`interpnet.reliance.ENDS`."""
        found = []
        for j, columns in enumerate(self._order):
            if np.isnan(self.intact[j]):
                found.append("no images")
            elif sizes[j] > self.sizes[j]:
                found.append("worth")
            elif self.reached[j]:
                found.append("share")
            elif not self.recognised[j]:
                found.append("not recognised")
            elif len(columns) == most:
                found.append("most")
            else:
                found.append("noise")
        return tuple(found)
