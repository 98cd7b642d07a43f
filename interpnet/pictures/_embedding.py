"""Embeddings: the vector that a network makes of each image just before it classifies it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import (
    Instrument,
    Output,
    Site,
    Trace,
    check_predicted,
    evaluating,
    find_sites,
    forward_logits,
    instrument,
    placed,
    predicted,
    resolve_device,
    unwrap,
)
from interpnet.errors import DataError, ModelError
from interpnet.scores import Labels, Loader, Names, Prepare, batches_from, unpack
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, optional, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float32, Int64


@brief
@dataclass(frozen=True)
class Embedding:
    """N images as vectors of D channels."""

    vectors: Float32  # (N, D), the layer's channels, averaged over their positions; in the network's own units
    labels: Int64  # (N,), -1 where the loader gave none; the first largest entry of a target matrix
    predictions: Int64  # (N,), the class with the largest logit
    indices: Int64  # (N,), positions in the data set (or in the loader's order, if it does not tell)
    layer: str  # the site that was read


class VectorReader:
    """Reads one vector per image at a site: its channels, averaged over their positions.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    >>> reader = VectorReader(find_sites(net, torch.rand(4, 1, 5, 5))["1"])
    >>> with instrument(net, Instrument(reads=reader.reads)):
    ...     _ = net(torch.rand(4, 1, 5, 5))
    >>> reader.take(range(4)).shape
    (4, 3)
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.reads = {site.name: site.reading(self._read)}
        self._kept: list[Tensor] = []

    def _read(self, out: Tensor) -> None:
        out = out.detach()
        if out.dim() > 2:
            out = out.movedim(self.site.axis or 1, 1).flatten(2).float().mean(2)
        # A copy: an operator in place, or the loader's next batch, may write over it.
        self._kept.append(out.to("cpu", torch.float32, copy=True))

    def take(self, positions: Sequence[int] | Int64) -> Float32:
        """Return the vectors (N, D) and forget them; NaN and infinity are a DataError that names the image."""
        vectors = torch.cat(self._kept).numpy()
        self._kept = []
        bad = np.flatnonzero(~np.isfinite(vectors).all(1))
        if bad.size:
            raise DataError(
                f"image {int(positions[bad[0]])} makes NaN or infinite activations in layer {self.site.name!r}; look "
                "at that image and its normalisation, or at weights that overflow"
            )
        return vectors


def embed(
    model: nn.Module,
    loader: Loader,
    layer: str | None = None,
    *,
    device: str | torch.device | None = None,
    output: Output | None = None,
    total: int | None = None,
    progress: bool = True,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
    classes: Sequence[str] | None = None,
) -> Embedding:
    """Read one vector per image: a layer's channels, and where they have several positions, their mean.

    An unknown layer is a LayerError, a network without a layer before its classifier a ModelError; no image, and one
    with NaN or infinite activations, are DataErrors.

    Parameters
    ----------
    loader : iterable of batches
        (images, labels) batches, or images alone; like the other arguments as in :func:`interpnet.collect_scores`.
    layer : str, optional
        A site's name. By default the last usable site before the classifier's output: the hidden layer of 4096
        of AlexNet, the pooled maps of a ResNet, the last maps of SqueezeNet (whose classifier is a convolution).

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    >>> found = embed(net, [(torch.rand(4, 1, 5, 5), torch.tensor([0, 1, 0, 1]))], progress=False)
    >>> found.layer, found.vectors.shape
    ('1', (4, 3))
    """
    check_kinds(embed, locals())
    optional(whole_number, total, "total", least=0)
    model = unwrap(model)
    where = resolve_device(device, model)
    reader: VectorReader | None = None
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    seen = 0
    keys: dict[str, Any] = {"inputs": inputs, "labels": labels}
    with (
        placed(model, where) as put,
        ExitStack() as reading,
        evaluating(model),
        torch.inference_mode(),
        progress_bar("Embedding", total, enabled=progress) as advance,
    ):
        for batch in batches_from(loader, **keys):
            images, given, indices, skipped = unpack(batch, **keys, prepare=prepare)
            n = images.shape[0]
            if not n:
                continue
            if reader is None:
                trace = find_sites(model, put(images), output=output)
                known_as = Labels(trace.n_outputs, classes=classes)
                if layer is None:
                    reader = VectorReader(last_site(trace))
                else:
                    reader = VectorReader(trace.usable(layer))
                # Only now: the site is known from the first batch on.
                reading.enter_context(instrument(model, Instrument(reads=reader.reads)))
            logits = forward_logits(model, images, output, put)
            # A loader that does not tell where its images come from gives them in order.
            if indices is None:
                indices = torch.arange(seen, seen + n)
            rows.append((_classes(given, n, known_as, indices), predicted(logits).cpu(), indices))
            seen += n + len(skipped)
            advance(n + len(skipped))
    if reader is None:
        raise DataError("the loader yielded no image; expected at least one (images, labels) batch")
    own, predictions, positions = (torch.cat(part).numpy().astype(np.int64) for part in zip(*rows, strict=True))
    vectors = reader.take(positions)
    check_predicted(predictions, positions)
    return Embedding(vectors, own, predictions, positions, reader.site.name)


def _classes(labels: Tensor | Names | None, n: int, known_as: Labels, indices: Tensor) -> Tensor:
    if labels is None:
        return torch.full((n,), -1)
    found = known_as.checked(labels, n, indices)
    return found.argmax(1) if found.dim() > 1 else found


def last_site(trace: Trace) -> Site:
    """Return the last usable site before the classifier's output, or raise a ModelError."""
    check_kinds(last_site, locals())
    # Gates scale channels and are no features of their own.
    before = [s for s in trace.sites if s.usable and not s.output and not s.gate]
    if not before:
        raise ModelError(
            "the network has no layer before its classifier, so there is no embedding: "
            "name a layer, or compare the images themselves"
        )
    return before[-1]
