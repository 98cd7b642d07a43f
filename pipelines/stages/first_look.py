"""A first look before the long pass, at whether the network is right about more training images than chance.

An audit of a network without its weights, of images in another unit, or of classes in another order runs to its end
and means nothing. A few hundred images show it within seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.engine import evaluating, forward_logits, predicted, to_device
from interpnet.errors import DataError
from interpnet.support.progress import progress_bar

from ..run.config import PYTHON
from ..run.notes import Notes
from ..run.session import Session
from ..run.split import balanced
from .agreement import Agreement
from .label_agreement import LabelAgreement

_IMAGES = 256
_SHOWN = 4  # classes in an error
#: Means and standard deviations that networks are usually trained with.
USUAL: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
)


def first_look(session: Session, notes: Notes) -> dict[str, Any]:
    """Look at a few training images; return what was seen.

    A :class:`DataError` that names the likely cause where the network is at chance, where another order of the classes
    fits far better, or where other means and standard deviations do; with ``--anyway`` a note says the same.
    """
    images, labels = _sample(session)
    now = _answers(session, images, labels)
    session.say(f"  first look: {now.first_words}")
    found = _wrong(session, images, labels, now)
    if found and not session.config.anyway:
        raise DataError(f"{found}{'.' * (not found.endswith('?'))} To audit it all the same: --anyway")
    if found:
        notes.add(f"The audit went on by --anyway, although {found}.")
    return now.facts | {"words": now.first_words}


def _sample(session: Session) -> tuple[list[Tensor], np.ndarray]:
    """Return batches of prepared training images, balanced over the classes, and the outputs they should raise.

    These are class numbers (n,), or targets (n, C) where an image can have several labels.
    """
    subject = session.subject
    chosen = subject.train_indices()
    chosen = chosen[balanced(subject.train.strata[chosen], _IMAGES, session.config.seed)]
    batches = list(subject.batches(subject.train, chosen))
    return [batch.images for batch in batches], np.concatenate([batch.labels.numpy() for batch in batches])


def _answers(session: Session, images: list[Tensor], labels: np.ndarray) -> Agreement | LabelAgreement:
    """Return what the network says of the images beside their labels."""
    subject = session.subject
    put = partial(to_device, device=subject.device)
    found = []
    with (
        progress_bar("First look", sum(map(len, images))) as advance,
        evaluating(subject.model),
        torch.inference_mode(),
    ):
        for part in images:
            found.append(forward_logits(subject.model, part, subject.output, put).cpu())
            advance(len(part))
    logits = torch.cat(found)
    if subject.independent:
        return LabelAgreement(labels > 0.5, logits.float().numpy())
    return Agreement(labels, predicted(logits).numpy())


def _wrong(session: Session, images: list[Tensor], labels: np.ndarray, now: Agreement | LabelAgreement) -> str:
    """Return what is wrong, and its cause as far as the images tell; empty where nothing is."""
    if not now.tells or not now.finite:  # of logits that are not finite the pass itself tells
        return ""
    if not now.well:
        for words, other in _otherwise(session, images, labels):
            if _clearly_below(now, other):
                return f"{now.figure}, and with {words} {other.short}"
    order = now.order()
    if order:
        return f"{now.figure}, but {_order_in_words(session, now, order)}; did you mean --classes with the outputs so?"
    if now.at_chance:
        return f"{now.figure}, {now.by_chance}. {_causes(session, now)}"
    return ""


def _clearly_below(now: Agreement | LabelAgreement, other: Agreement | LabelAgreement) -> bool:
    if isinstance(now, LabelAgreement) and isinstance(other, LabelAgreement):
        return now.clearly_below(other)
    return isinstance(now, Agreement) and isinstance(other, Agreement) and now.clearly_below(other)


def _order_in_words(session: Session, now: Agreement | LabelAgreement, order: dict[int, int]) -> str:
    names = session.subject.classes
    moved = [f"{names[a]!r} is called {names[b]!r}" for a, b in order.items()]
    right, images = now.fits(order)
    more = f" and {len(moved) - _SHOWN} more" * (len(moved) > _SHOWN)
    return (
        f"another order of the classes fits {right} of {images} images: {', '.join(moved[:_SHOWN])}{more}; "
        "the outputs are in another order than the classes"
    )


def _causes(session: Session, now: Agreement | LabelAgreement) -> str:
    """Return the usual causes of a network at chance, the likeliest first."""
    config = session.config
    causes = []
    if config.weights == "random":
        causes.append("its weights are random (--weights random)")
    elif config.weights is None and ".py:" in config.model:
        causes.append(f"no weights were given (--weights FILE), so {config.model} must load trained ones itself")
    elif config.model.startswith(PYTHON):
        causes.append("trained weights were not loaded into it")
    causes += filter(None, [now.habit(session.subject.classes)])
    causes += ["the mean and std of its training (--mean, --std)", "the image size (--image-size)"]
    causes += ["other classes, or another order of them (--classes)"]
    return "Usual causes: " + "; ".join(causes)


def _otherwise(
    session: Session, images: list[Tensor], labels: np.ndarray
) -> Iterator[tuple[str, Agreement | LabelAgreement]]:
    """Yield the same images as they would be with other means and standard deviations, in the command's words."""
    known = session.subject.train.data.preprocessing
    channels = images[0].shape[1]
    mean, std = (_row(known.get(name), channels, empty) for name, empty in (("mean", 0.0), ("std", 1.0)))
    for other_mean, other_std in USUAL:
        if channels != len(other_mean) and len({*other_mean}) > 1:
            continue
        new_mean, new_std = (_row(values[:channels], channels, 0.0) for values in (other_mean, other_std))
        if torch.allclose(new_mean, mean) and torch.allclose(new_std, std):
            continue
        again = [(part * std + mean - new_mean) / new_std for part in images]
        words = f"--mean {_in_words(new_mean)} --std {_in_words(new_std)}"
        if session.subject.train.data.finished:
            # The settings then say only how the data were normalised, and change nothing.
            words = f"pixels less {_in_words(new_mean)}, divided by {_in_words(new_std)} (in the data's own transform)"
        yield words, _answers(session, again, labels)


def _in_words(row: Tensor) -> str:
    """Return a preparation's numbers as the command line takes them."""
    values = [f"{value:.4g}" for value in row.flatten().tolist()]
    if len(set(values)) == 1:
        values = values[:1]
    return ",".join(values)


def _row(values: Any, channels: int, empty: float) -> Tensor:
    """Return a preparation's numbers, one per channel."""
    if values is None:
        values = empty
    return torch.as_tensor(values, dtype=torch.float32).expand(channels).view(-1, 1, 1)
