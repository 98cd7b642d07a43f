"""All rules by which a signal goes down, under one set of names: those at rectifiers, and LRP's."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from interpnet.backward._lrp.engine import Propagation
from interpnet.backward._lrp.rules import BOXED, LRP_RULES, composite, own_box
from interpnet.backward._passes import Passes
from interpnet.backward._report import RuleReport
from interpnet.backward._rules import RECTIFIER_RULES, RectifierRules
from interpnet.support.checks import one_of

RULES = (*RECTIFIER_RULES, *LRP_RULES)
Rules = RectifierRules | Propagation


def rules_of(
    rule: str,
    images: Tensor,
    *,
    resample: bool,
    resample_pool: bool = False,
    passes: Passes | None = None,
    apart: Collection[str] = frozenset(),
) -> Rules:
    """Return what the forward pass of ``images`` runs under (``with rules.on(model)``) for signals to obey ``rule``.

    Call its ``check(*maps)`` before signals start at the maps. LRP's bounds of pixels are those of each image and
    colour. ``apart`` names layers at whose maps the ordinary gradient is read as well; see :class:`Passes`.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.ReLU())
    >>> x = torch.ones(1, 1, requires_grad=True)
    >>> rules = rules_of("guided", x, resample=True)
    >>> with rules.on(net):
    ...     y = net(x)
    >>> rules.check(y)
    """
    one_of(rule, "rule", RULES)
    if rule in RECTIFIER_RULES:
        return RectifierRules(RuleReport(rule, resample, resample_pool), passes, apart)
    box = None
    if rule in BOXED:
        box = own_box(images.detach())
    return Propagation(composite(rule, box=box, option="rule"), images, resample=resample, passes=passes)
