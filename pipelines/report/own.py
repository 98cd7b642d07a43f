"""Images that a user had explained with a run, as a section of its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interpnet.support.io import read_json

from ..run.config import MU_LASSO, RELIANCE
from .load import RunData, clean, reading
from .pictures import Pictures
from .views import ExampleView, chosen_by, example_view

#: Below a run's folder.
FOLDER = "explanations/user"
#: Images with pictures on the page.
MOST = 60
#: The stage that names channels, by the way to name them.
NAMED_BY = {MU_LASSO: "solve", RELIANCE: "reliance"}


@dataclass(frozen=True)
class OwnView:
    """One image of a user's."""

    example: ExampleView
    by: str  # the way that named its channels
    picked_by: str
    picture: str | None  # the path of everything in one picture, from the report's folder


@dataclass(frozen=True)
class OwnViews:
    """All of them, and the names of those that were explained with channels of an earlier solution."""

    shown: tuple[OwnView, ...]
    stale: tuple[str, ...]


def own_views(run: RunData, pictures: Pictures) -> OwnViews:
    """Return the images explained by ``interpnet explain RUN --image``, by the names of their files."""
    shown: list[OwnView] = []
    stale: list[str] = []
    for path in sorted((run.folder / FOLDER).glob("*.json")):
        with reading(path, "explain", run.folder):
            found = read_json(path)
            by = found.get("by", MU_LASSO)
            (entry,) = found["examples"]
            if _stale(run, found, by):
                stale.append(clean(entry["name"]))
                continue
            n = len(shown)
            view = example_view(n, entry, run, pictures, shown=n < MOST, how=found)
            shown.append(OwnView(view, by, chosen_by(found), _whole(path)))
    return OwnViews(tuple(shown), tuple(stale))


def _stale(run: RunData, found: Mapping[str, Any], by: str) -> bool:
    """Return whether the channels were named anew since; an earlier version did not say what they were."""
    now = run.entry("stages", NAMED_BY[by]).get("key")
    return "solved" in found and found["solved"] != now


def _whole(path: Path) -> str | None:
    picture = path.with_suffix(".png")
    return f"../{FOLDER}/{picture.name}" if picture.is_file() else None
