"""A section of the report's verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Section:
    """One section: a heading, what it says, and the view that its template shows."""

    anchor: str  # the page's name for it, and report.json's
    title: str
    template: str
    level: str  # of its verdict: "shown" nothing to see, "mixed" for a person to look at, "not shown" suspicious
    headline: str
    judgement: str
    view: Any
    facts: Sequence[Mapping[str, Any]] = field(default=())  # for report.json
