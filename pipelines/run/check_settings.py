"""The limits that a run is checked against, which are a part of its settings; no stage depends on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from .concept_settings import ConceptSettings
from .settings import setting

_check = partial(setting, section="check")
# What stays below it can be 1.
_ONE = math.nextafter(1.0, math.inf)
_SHARE: dict[str, Any] = {"least": 0, "below": _ONE, "expected": "a number from 0 to 1"}


@dataclass(frozen=True)
class CheckSettings(ConceptSettings):
    """The section ``[check]`` of a run's settings; ``interpnet check --help`` explains each."""

    min_accuracy: float | None = _check(
        None, "Fails where fewer of the test images are recognised, as a share: 0.9.", shown="no limit", **_SHARE
    )
    min_recall: float | None = _check(
        None,
        "Fails where fewer of any class's test images are recognised, as a share: 0.8.",
        shown="no limit",
        **_SHARE,
    )
    max_suspicion: float | None = _check(
        None,
        "Fails where a class's share of a part is further than this beyond what is usual for it.",
        shown="no limit",
        least=-1,
        below=_ONE,
        expected="a number from -1 to 1",
    )
    fail_on_shortcut: bool | None = _check(
        None,
        "Whether a class that is suspicious fails: its whole interval is beyond what is usual.",
        shown="fails",
        names="--fail-on-shortcut/--allow-shortcuts",
    )
    max_accuracy_loss: float | None = _check(
        None,
        "With --against: fails where the accuracy fell by more than this, beyond chance.",
        shown="0: any fall beyond chance",
        **_SHARE,
    )
    max_recall_loss: float | None = _check(
        None,
        "With --against: fails where any class's recall fell by more than this, beyond chance.",
        shown="0: any fall beyond chance",
        **_SHARE,
    )
    allow_known_shortcuts: bool | None = _check(
        None,
        "With --against: a class that was suspicious for the same part before does not fail.",
        names="--allow-known-shortcuts/--no-known-shortcuts",
        shown="fails",
    )
    fail_on_field: bool | None = _check(
        None,
        "Fails where images from the field that a class draws have something in common at one place, such as a "
        "watermark.",
        names="--fail-on-field/--allow-field",
        shown="allowed",
    )
