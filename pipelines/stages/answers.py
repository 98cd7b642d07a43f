"""What the network says of the test images in use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from interpnet.engine import check_predicted, evaluating, forward_logits, predicted, to_device
from interpnet.support.progress import progress_bar
from interpnet.support.ranks import ALONE
from interpnet.support.types import Int64

from ..run.session import Session


def answers(session: Session, read: Callable[[Tensor], Tensor]) -> tuple[npt.NDArray[Any], Int64]:
    """Return what ``read`` makes of the logits (B, C) of the test images in use, one row each, and their positions.

    Images that cannot be read are left out. Logits that are no numbers are a DataError, with the image. Several
    processes ask in the same batches, each in every world-th one.
    """
    subject = session.subject
    rows = []
    positions = []
    put = partial(to_device, device=subject.device)
    indices = subject.test_indices()
    ranks = session.ranks
    blocks = np.split(indices, np.arange(session.config.batch_size, len(indices), session.config.batch_size))
    # A rank without a batch would not know what answers look like.
    if len(blocks) < ranks.world:
        ranks = ALONE
    own = np.concatenate([blocks[i] for i in ranks.mine(len(blocks))])
    with (
        progress_bar("Choosing examples", len(indices)) as advance,
        evaluating(subject.model),
        torch.inference_mode(),
    ):
        for number, batch in enumerate(subject.batches(subject.test, own)):
            logits = forward_logits(subject.model, batch.images, subject.output, put)
            check_predicted(predicted(logits).cpu().numpy(), batch.indices, batch=number)
            rows.append(read(logits).cpu().numpy())
            positions.append(batch.indices.numpy())
            advance(ranks.world * (len(batch.images) + len(batch.skipped)))
    found = ranks.gather_rows(np.concatenate(rows))
    of = ranks.gather_rows(np.concatenate(positions))
    places = np.argsort(indices)[np.searchsorted(np.sort(indices), of)]
    order = np.argsort(places)
    return found[order], of[order]
