"""Sections of "What it looks at" beside the parts of images: each has a file of its own here, and a template.

A new one is a function of :data:`SECTIONS` that returns its :class:`Section`, and a template that shows its ``view``
under the name ``section.view``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .carriers import Strips
from .drawn import field_section, mistakes_section
from .grouped import grouped_section
from .inside import inside_section
from .load import RunData
from .pictures import Pictures
from .section import Section

#: In the order of the page.
SECTIONS: tuple[Callable[[RunData, Pictures, Strips], Section | None], ...] = (
    inside_section,
    field_section,
    mistakes_section,
    grouped_section,
)


def sections_of(run: RunData, pictures: Pictures, strips: Strips) -> tuple[Section, ...]:
    """Return the sections that a run has something for."""
    if run.shortcuts is None:
        return ()
    made = (make(run, pictures, strips) for make in SECTIONS)
    return tuple(section for section in made if section is not None)


def facts_of(sections: tuple[Section, ...]) -> dict[str, Any]:
    """Return what ``report.json`` holds of them, by their anchors."""
    return {section.anchor: section.facts for section in sections}
