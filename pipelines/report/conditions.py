"""What each removal of a study did on average, as rows of a table; NaN stands for unknown."""

from __future__ import annotations

from dataclasses import dataclass

from interpnet.ablation import CONDITION_LABELS, AblationResult, Condition, finite_mean, mean_change

from ..run.config import MU_LASSO, RELIANCE
from .load import clean
from .numbers import NAN

Ends = tuple[float, float]
_UNKNOWN: Ends = (NAN, NAN)
#: What a reader calls the two ways to name channels.
TITLES = {RELIANCE: "Channels the class relies on", MU_LASSO: "Channels that predict the class"}
WAYS = {RELIANCE: "channels it relies on", MU_LASSO: "channels that predict it"}
# What the removal of named channels is called for each way.
_LABELS = {
    RELIANCE: {"relevant": "relied on (named by InterpNet)"},
    MU_LASSO: {"relevant": "predicting (named by InterpNet)", "relevant-positive": "predicting, positive weights only"},
}


@dataclass(frozen=True)
class ConditionRow:
    """One removal: means over classes, each with its 95 % interval."""

    name: str
    label: str
    layers: str
    removed: float
    repeats: int
    own: float  # the class's recall
    own_ends: Ends
    others: float  # change of the other classes' recall
    others_ends: Ends
    log_odds: float  # change of the class's log-odds
    log_odds_ends: Ends
    others_log_odds: float
    others_log_odds_ends: Ends

    @property
    def named(self) -> bool:
        """Whether the channels removed are those that InterpNet names."""
        return self.name.startswith("relevant")


def condition_row(study: AblationResult, condition: Condition, way: str) -> ConditionRow:
    """Put one condition of a study of the channels that ``way`` names into numbers."""
    change, change_ends = mean_change(study, condition)
    own_ends = condition.interval_own()
    repeats = condition.own.shape[0]
    odds = condition.changes.get("log_odds")
    # Of a study that did not pair images a single draw has no interval.
    if odds is None and repeats == 1:
        own_ends = _UNKNOWN
        change_ends = _UNKNOWN
    log_odds = (NAN, _UNKNOWN)
    others_log_odds = (NAN, _UNKNOWN)
    if odds is not None:
        log_odds = (odds.own.overall(), odds.own.interval())
        others_log_odds = (odds.others.overall(), odds.others.interval())
    labels = CONDITION_LABELS | _LABELS[way]
    return ConditionRow(
        condition.name,
        labels.get(condition.name, clean(condition.name)),
        condition.layers,
        finite_mean(condition.removed),
        repeats,
        condition.mean_own(),
        own_ends,
        change,
        change_ends,
        *log_odds,
        *others_log_odds,
    )


def condition_rows(study: AblationResult, way: str) -> list[ConditionRow]:
    """Return the rows as the page has them: all layers first, and in each scope those with a label first."""
    scopes = ("all", "conv")
    names = [*CONDITION_LABELS, *sorted({c.name for c in study.conditions} - set(CONDITION_LABELS))]
    listed = [c for c in study.conditions if c.layers in scopes]
    ordered = sorted(listed, key=lambda c: (scopes.index(c.layers), names.index(c.name)))
    return [condition_row(study, condition, way) for condition in ordered]
