"""Repair a network that relies on a cue, without group labels: images with exchanged parts stand in for them.

The user's own images are taken as they are, and with their suspicious part taken from another image: there the cue
tells nothing of the class. What the network is made to get right on both, it gets right without the cue.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from interpnet.engine import Output, check_images, evaluating, forward_logits, placed, resolve_device, unwrap
from interpnet.errors import DataError, InterpNetError, LayerError
from interpnet.models import LastLayer, Layer, SmallCNN, copied, last_layer, save_smallcnn
from interpnet.scores import Loader, Prepare, RepeatedLoader, batches_from, peek, refuse_iterators
from interpnet.shortcuts._repair_bench import Bench, Made, Network
from interpnet.shortcuts._repair_choice import CLEAN, Candidate, Figures, Search, figures
from interpnet.shortcuts._repair_images import (
    CONTROL,
    EXCHANGED,
    KEEP_BYTES,
    PLAIN,
    ROUNDS,
    Exchanges,
    RepairImages,
)
from interpnet.shortcuts._repair_ways import STRENGTHS
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, number, one_of, true_or_false, whole_number
from interpnet.support.io import atomic_path
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float64

#: How to repair; ``"auto"`` tries all but the reactive one, whose result is no state dict of the architecture.
HOW = ("auto", *STRENGTHS)
_AUTO = tuple(how for how in STRENGTHS if how != "reactive")
_FEWEST = 10
_METADATA_KEY = "interpnet-repair"


@brief
@dataclass(frozen=True, eq=False)
class Repair:
    """A repaired network, or the old one, with its figures on images held out."""

    model: nn.Module  # in evaluation mode; a copy of the old one where nothing was accepted
    accepted: bool
    why: str  # what was done, or why nothing was
    how: str  # the way that was taken; "" where nothing was accepted
    strength: float  # NaN where nothing was accepted
    before: Figures
    after: Figures
    # A repair of the same size with parts of images of the same class, which tell nothing new; None where nothing was
    # accepted.
    control: Figures | None
    candidates: tuple[Candidate, ...]  # every way and strength tried
    without: dict[str, str]  # the ways that were not tried, and why
    max_clean_loss: float
    clean: str  # of which images

    def facts(self) -> dict[str, Any]:
        """Return the figures as plain values for JSON."""

        def plain(found: Figures | None) -> dict[str, Any] | None:
            if found is None:
                return None
            recalls = {name: _listed(getattr(found, name)) for name in ("recall", "recall_exchanged")}
            figures = {name: getattr(found, name) for name in ("clean", "exchanged", "n")}
            return {**figures, "counts": found.counts.tolist(), **recalls}

        return {
            "how": self.how,
            "strength": None if np.isnan(self.strength) else self.strength,
            "accepted": self.accepted,
            "why": self.why,
            "max_clean_loss": self.max_clean_loss,
            "clean": self.clean,
            "before": plain(self.before),
            "after": plain(self.after),
            "control": plain(self.control),
            "candidates": [vars(one) for one in self.candidates],
            "without": self.without,
        }

    def save(self, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> None:
        """Write the repaired weights as safetensors: a state dict of the same architecture, and what was done.

        It is loaded as the old weights were: ``interpnet.load_model(..., weights=path)``, or
        ``model.load_state_dict(safetensors.torch.load_file(path))``. A file of a :class:`SmallCNN` describes itself.
        The figures stand in the file's metadata. ``extra`` are JSON-able facts to keep in a SmallCNN's file, such as
        :func:`smallcnn_extra` of the old one, whose preprocessing is still right. Where nothing was accepted, or the
        result is no state dict of the architecture (``how="reactive"``), an :class:`InterpNetError` says what to do.
        """
        if not self.accepted:
            raise InterpNetError(f"nothing was repaired ({self.why}); the old weights are the model's")
        if self.how == "reactive":
            raise InterpNetError(
                "a reactive repair puts a layer of its own into the network, so that its weights are no state dict of "
                "the architecture; use repair(..., how='projection'), whose are"
            )
        if isinstance(self.model, SmallCNN):
            save_smallcnn(self.model, path, {**(extra or {}), "repair": self.facts()})
            return
        metadata = {"format": "pt", _METADATA_KEY: json.dumps(self.facts(), allow_nan=False)}
        # Copies, because tensors that share memory are refused.
        state = {name: value.detach().cpu().clone().contiguous() for name, value in self.model.state_dict().items()}
        content = save(state, metadata=metadata)
        with atomic_path(path) as tmp:
            tmp.write_bytes(content)


def repair(
    model: nn.Module,
    loader: Loader,
    findings: Exchanges,
    *,
    how: str = "auto",
    max_clean_loss: float = 0.005,
    clean: str = "all",
    validation: Loader | None = None,
    epochs: int = 4,
    seed: int = 0,
    device: str | torch.device | None = None,
    output: Output | None = None,
    progress: bool = True,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
) -> Repair:
    """Repair a network with images as they are and with their suspicious part taken from another image.

    Every way is tried with several strengths. Of each class's images a fifth is held out; on the others a way is
    cross-validated (training on: on a fold). Those pass that lose at most ``max_clean_loss`` of the accuracy on images
    as they are, and gain with exchanged parts by more than two standard errors. The ones that gain most, five at most,
    are tried on the images held out in turn. The first that keeps the bound there and gains again is accepted; else the
    model stays the old one, and ``why`` says so. What it costs: five forward passes over the images, for two rounds of
    exchanges and controls, and a few epochs for each rate where it comes to training on.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    loader : iterable of (images, labels) batches
        Images of every class that the network knows, those of its training for example: as in
        :func:`interpnet.collect_scores`, with class numbers. It must start again each time with the same images.
    findings : object with ``exchange(images, labels, generator)``
        What is suspicious, from a search for shortcuts: see :class:`Exchanges`.
    how : {"auto", "ridge", "logistic", "projection", "reactive", "training", "exchanged"}
        ``"ridge"``: the last layer is fitted again in closed form, so that it says of an image with another's part what
        it says of the image. ``"logistic"``: it is fitted to the labels. Both are drawn to the old weights by a
        strength. ``"projection"``: the directions in which a class's own part moves the last layer's input are
        projected out, within its weights. ``"reactive"``: only where an image lies far along them, which is no state
        dict of the architecture. ``"training"``: the whole network is trained on, with images as they are and with
        exchanged parts in equal shares. ``"exchanged"``: with exchanged parts alone, so that the part tells nothing at
        all; where the cue is in nearly every image it gains several times as much. ``"auto"``: all but the reactive
        one, and training only where the others leave something to gain.
    max_clean_loss : float
        The most accuracy that may be lost on images as they are, from 0 to 1.
    clean : {"all", "unmoved"}
        Of which images. Where the cue is there in nearly every image and tells the class, a network without it must be
        right less often on these images, and no repair keeps the bound on all. ``"unmoved"`` counts those alone that
        the old network is as right about with another's part as without. With images from elsewhere as ``validation``,
        which do not have the cue, ``"all"`` says what is asked.
    validation : loader, optional
        Images that the network was not trained on. Three fifths of them are what ways are chosen on, the others are
        held out, and everything is fitted on all of ``loader``. A network knows its training images by heart, so that
        a repair seems to cost more on them than on new ones: pass other images where there are any.
    epochs : int
        Of training on.
    seed : int
        Of partners and training.
    device, output, progress, inputs, labels, prepare
        As in :func:`interpnet.collect_scores`.

    Raises
    ------
    DataError
        No image, images of several sizes, a loader that can be read once only, labels that are no class numbers.
    InterpNetError
        A way that the network does not allow, asked for by name; the message says which are left.

    Examples
    --------
    >>> class Right:  # the right pixel is suspicious
    ...     def exchange(self, images, labels, generator):
    ...         other = images[torch.randperm(len(images), generator=generator)]
    ...         return torch.cat([images[..., :1], other[..., 1:]], -1)
    >>> y = torch.arange(400) % 2
    >>> noise = torch.randn(400, generator=torch.Generator().manual_seed(0))
    >>> left = 2.0 * y - 1 + 0.3 * noise
    >>> images = torch.stack([left, 2.0 * y - 1], 1).view(400, 1, 1, 2)  # the right pixel tells the class, too
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    >>> with torch.no_grad():
    ...     _ = net[1].weight.copy_(torch.tensor([[0.0, -9.0], [0.0, 9.0]])), net[1].bias.zero_()
    >>> repaired = repair(net, [(images, y)], Right(), progress=False)
    >>> repaired.accepted, repaired.before.exchanged < 0.6, repaired.after.exchanged > 0.9
    (True, True, True)
    """
    check_kinds(repair, locals(), but=["findings"])
    one_of(how, "how", HOW)
    number(max_clean_loss, "max_clean_loss", least=0, most=1)
    one_of(clean, "clean", CLEAN)
    epochs = whole_number(epochs, "epochs", least=1)
    seed = whole_number(seed, "seed", least=0)
    true_or_false(progress, "progress")
    if not callable(getattr(findings, "exchange", None)):
        raise InterpNetError(
            f"findings is a {type(findings).__name__}; expected what has exchange(images, labels, generator) -> images"
        )
    keys: dict[str, Any] = {"inputs": inputs, "labels": labels}
    refuse_iterators(loader, "repair")
    original = unwrap(model)
    home = resolve_device(None, original)
    where = resolve_device(device, original)
    # Everything is done with a copy: the model stays as it was, whatever happens.
    own = copied(original).eval()
    first, _ = peek(batches_from(loader, **keys), **keys, prepare=prepare)
    with placed(own, where, "auto") as put:
        network = _network(own, put(check_images(first[:2])), put, output)

        carriers = tuple(getattr(findings, "carriers", ()))

        def images_of(source: Loader, partners: RepairImages | None = None) -> RepairImages:
            refuse_iterators(source, "repair")
            batches = RepeatedLoader(source, network.n_outputs, keep=KEEP_BYTES, use="repair", **keys, prepare=prepare)
            hold = validation is None and partners is None
            return RepairImages(batches, findings.exchange, hold=hold, seed=seed, partners=partners, carriers=carriers)

        images = images_of(loader)
        others = None if validation is None else images_of(validation, images)
        for source in (images, *([] if others is None else [others])):
            _check_enough(source)
        n = len(images.parts) * (1 + 2 * ROUNDS) + (0 if others is None else len(others.parts) * (1 + ROUNDS))
        with progress_bar("Repairing", n, enabled=progress) as advance:
            train = Bench(network, images, (PLAIN, EXCHANGED, CONTROL), advance)
            test = train if others is None else Bench(network, others, (PLAIN, EXCHANGED), advance)
        search = Search(train, test, max_clean_loss, clean, epochs, seed, progress)
        held = search.held
        ways = _AUTO if how == "auto" else (how,)
        candidates, without = search.candidates(ways, asked=how != "auto")
        if not candidates:
            raise InterpNetError(f"how={how!r} cannot be done: {'; '.join(without.values())}")
        at, made, candidates = search.chosen(candidates)
        before = figures(test.predictions(None, held), network.n_outputs)
        nothing = Repair(
            model=own,
            accepted=False,
            why="",
            how="",
            strength=float("nan"),
            before=before,
            after=before,
            control=None,
            candidates=tuple(candidates),
            without=without,
            max_clean_loss=max_clean_loss,
            clean=clean,
        )
        if at is None or made is None:
            best = max(candidates, key=lambda one: (one.held is not None, one.exchanged))
            return replace(nothing, why=f"nothing was accepted; of the best, {best.how}: {best.why}")
        one = candidates[at]
        after = figures(test.predictions(made, held), network.n_outputs)
        control = figures(search.control(one), network.n_outputs)
        repaired = _as_model(made, network).to(home)
    why = (
        f"{one.how}: accuracy with exchanged parts {before.exchanged:.1%} -> {after.exchanged:.1%}, as they are "
        f"{before.clean:.1%} -> {after.clean:.1%}, on {before.n} images held out"
    )
    return replace(
        nothing,
        model=repaired,
        accepted=True,
        why=why,
        how=one.how,
        strength=one.strength,
        after=after,
        control=control,
    )


def _network(own: nn.Module, first: Tensor, put: Callable[[Tensor], Tensor], output: Output | None) -> Network:
    """Return a network with its last layer, or with what stands against one."""
    with torch.no_grad(), evaluating(own):
        n_outputs = forward_logits(own, first, output).shape[1]
    layer: LastLayer | None = None
    why = ""
    try:
        layer = last_layer(own, first, output=output)
    except LayerError as error:
        why = str(error)
    return Network(own, put, output, n_outputs, layer, why)


def _check_enough(images: RepairImages) -> None:
    n = len(images.parts)
    if n < _FEWEST:
        raise DataError(f"{n} images came, too few to hold some out; expected at least {_FEWEST}, better hundreds")
    if len(np.unique(images.labels)) < 2:
        raise DataError("the images are all of one class; exchanging parts between classes needs images of two")


def _as_model(made: Made, network: Network) -> nn.Module:
    if isinstance(made, Layer) and network.layer is not None:
        return network.layer.replaced(made).eval()
    return cast("nn.Module", made).eval()


def _listed(values: Float64) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
