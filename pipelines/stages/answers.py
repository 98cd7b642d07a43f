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
from interpnet.support.types import Int64

from ..run.session import Session


def answers(session: Session, read: Callable[[Tensor], Tensor]) -> tuple[npt.NDArray[Any], Int64]:
    """Return what ``read`` makes of the logits (B, C) of the test images in use, one row each, and their positions.

    Images that cannot be read are left out. Logits that are no numbers are a DataError, with the image.
    """
    subject = session.subject
    rows = []
    positions = []
    put = partial(to_device, device=subject.device)
    indices = subject.test_indices()
    with (
        progress_bar("Choosing examples", len(indices)) as advance,
        evaluating(subject.model),
        torch.inference_mode(),
    ):
        for number, batch in enumerate(subject.batches(subject.test, indices)):
            logits = forward_logits(subject.model, batch.images, subject.output, put)
            check_predicted(predicted(logits).cpu().numpy(), batch.indices, batch=number)
            rows.append(read(logits).cpu().numpy())
            positions.append(batch.indices.numpy())
            advance(len(batch.images) + len(batch.skipped))
    return np.concatenate(rows), np.concatenate(positions)
