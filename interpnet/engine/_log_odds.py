"""The log-odds of a class: how far its logit stands above all others, and the one number that removal is measured by.

docs/method.md, section 8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interpnet.engine._forward import check_dense
from interpnet.errors import DataError
from interpnet.support.checks import check_kinds, one_of

#: How the outputs of a network belong together: one class an image, or each output a question of its own.
OUTPUTS = ("exclusive", "independent")


def log_odds(logits: Tensor, classes: Tensor, *, outputs: str = "exclusive") -> Tensor:
    """Return the log-odds (B,) of each image's class: its logit minus the logsumexp of the other classes' logits.

    With p the softmax of the logits it is ``log p - log(1 - p)``, also where p rounds to 1. It can be differentiated,
    and is float32 at least.

    Parameters
    ----------
    logits : Tensor (B, C)
    classes : Tensor (B,) of integers
    outputs : {"exclusive", "independent"}
        ``"independent"``, for several labels per image: the logit itself, the log-odds of a sigmoid. So it is for a
        network with one output.

    Raises
    ------
    DataError
        Shapes that do not fit, or a class that is no output.

    Examples
    --------
    >>> log_odds(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
    tensor([ 2., -2.])
    >>> log_odds(torch.tensor([[2.0, 0.0]]), torch.tensor([0]), outputs="independent")
    tensor([2.])
    """
    check_kinds(log_odds, locals())
    one_of(outputs, "outputs", OUTPUTS)
    check_dense(logits, "logits", "B, C")
    check_dense(classes, "classes", "B")
    if logits.dim() != 2 or not logits.is_floating_point() or 0 in logits.shape[1:]:
        raise DataError(
            f"logits: shape {tuple(logits.shape)} and type {logits.dtype} came; expected (B, C) floating-point numbers"
        )
    if classes.shape != logits.shape[:1] or classes.is_floating_point() or classes.dtype == torch.bool:
        raise DataError(
            f"classes: shape {tuple(classes.shape)} and type {classes.dtype} came; expected ({len(logits)},) class "
            "numbers"
        )
    # Where they are: class numbers on the CPU need not wait for a GPU.
    chosen = classes.to(torch.int64)
    if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < logits.shape[1]:
        raise DataError(
            f"classes reach from {int(chosen.min())} to {int(chosen.max())}; expected 0 to {logits.shape[1] - 1}"
        )
    chosen = chosen.to(logits.device)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    own = wide.gather(1, chosen[:, None])[:, 0]
    if outputs == "independent" or logits.shape[1] == 1:
        return own
    others = wide.scatter(1, chosen[:, None], -torch.inf)
    return own - others.logsumexp(1)


def all_log_odds(logits: Tensor) -> Tensor:
    """Return the log-odds (B, C) of every class, each against all others together, from logits (B, C), C at least 2.

    What :func:`log_odds` gives for each class in turn, in one pass over the logits.

    Examples
    --------
    >>> all_log_odds(torch.tensor([[2.0, 0.0], [800.0, 0.0]])).tolist()
    [[2.0, -2.0], [800.0, -800.0]]
    """
    top = logits.argmax(1, keepdim=True)
    # Those of the likeliest class are summed without it: its own probability may round to 1.
    second = logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    total = logits.logsumexp(1, keepdim=True)
    # Below one half the probability of the others loses no digits.
    others = total + torch.log1p(-(logits - total).exp().clamp(max=0.5))
    return logits - others.scatter(1, top, second)


def margins(logits: Tensor) -> Tensor:
    """Return each logit less the mean of the others (n, C); a single one as it is.

    Examples
    --------
    >>> margins(torch.tensor([[1.0, 2.0, 6.0]]))
    tensor([[-3.0000, -1.5000,  4.5000]])
    """
    others = logits.shape[1] - 1
    if not others:
        return logits
    return logits - (logits.sum(1, keepdim=True) - logits) / others
