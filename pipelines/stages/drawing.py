"""How a run draws its heatmaps: the variant and the options that were given, or what the network allows of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from interpnet.errors import ModelError
from interpnet.explanation import VARIANTS, check_signals, completed

from ..run.config import UNVARIED, RunConfig
from ..run.session import Session

PAPER = "paper"
#: How much the stage explains and pictures at most; no picture depends on it.
CAPS = ("max_examples", "max_pictured", "max_masked_images")


@dataclass(frozen=True)
class Drawing:
    """How heatmaps are drawn."""

    variant: str
    given: dict[str, Any]  # the options of explain() that the variant does not stand for
    refused: str  # why it is not the variant that was asked for; empty where it is
    checked: bool = False  # an image has gone there and back already

    def complete(self, side: int) -> dict[str, Any]:
        """Return every option, for images whose shorter side is ``side``."""
        return completed(self.variant, self.given, side=side)


def drawing(session: Session) -> Drawing:
    """Return how heatmaps are drawn: by the paper's variant where LRP has no rule for an operator of the network."""
    if "drawing" not in session.memo:
        session.memo["drawing"] = _drawing(session)
    found: Drawing = session.memo["drawing"]
    return found


def _drawing(session: Session) -> Drawing:
    config = session.config
    given = options(config)
    if config.variant == PAPER or config.rule is not None or config.rectifier is not None:
        return Drawing(config.variant, given, "")
    tries = [given]
    if given["seed"] is None:
        # Relevance starts at the logits; contributions need a rule for what lies before the channels only.
        tries.append(given | {"seed": "contribution"})
    refused = ""
    for tried in tries:
        wanted = Drawing(config.variant, tried, refused, checked=True)
        try:
            check(session, wanted)
        except ModelError as error:
            refused = refused or str(error)
        else:
            return wanted
    return Drawing(PAPER, given, refused)


def options(config: RunConfig) -> dict[str, Any]:
    """Return the options of :func:`interpnet.explanation.explain` that a run was given."""
    named = {"choose": config.choose, "rule": config.rule, "rectifier": config.rectifier, "seed": config.start}
    return named | {"smooth": config.smooth, "saturate": config.saturate, "reduction": config.reduction}


def check(session: Session, how: Drawing) -> None:
    """Raise the :class:`ModelError` that drawing heatmaps would raise, by one image."""
    subject = session.subject
    every = how.complete(1)
    check_signals(
        subject.model,
        subject.first.to(subject.device),
        subject.trace.select(session.config.layers),
        rule=every.get("rule"),
        rectifier=every.get("rectifier"),
        resample=session.config.resample,
        seed=every["seed"],
        output=subject.output,
    )


def key_settings(config: RunConfig) -> dict[str, Any]:
    """Return what pictures depend on, for their key; those of the paper's variant as runs had them before variants."""
    settings = config.section("explain")
    for name in CAPS:
        del settings[name]
    settings["defaults"] = asdict(VARIANTS[config.variant])
    own = ("variant", "choose", "rule", "start", "smooth", "saturate")
    if settings["variant"] != PAPER or any(settings[name] is not None for name in own[1:]):
        return settings
    for name in (*own, "defaults"):
        del settings[name]
    for name, value in UNVARIED.items():
        if settings[name] is None:
            settings[name] = value
    return settings
