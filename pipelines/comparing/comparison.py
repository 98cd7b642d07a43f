"""Comparing two runs: ``compare()``, and what it found as numbers, tables, JSON and a page."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from markupsafe import Markup

from interpnet.support.io import as_path

from .channels import channels_of
from .compared import Compared
from .looks import looks_of
from .pair import pair_of
from .recalls import recalls_of
from .words import headline, tables_of, write_comparison

FORMAT = "interpnet-compare-1"


class Comparison(Compared):
    """What two runs differ in, the second against the first; made by :func:`compare`.

    A difference counts as one (``differs``) where its p-value, two-sided and adjusted for the number of classes, is at
    most 0.05; docs/compare.md.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that are compared."""
        return self.pair.classes

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before trusting a difference."""
        return self.pair.notes

    @cached_property
    def headline(self) -> tuple[str, ...]:
        """What differs, in a few sentences."""
        return headline(self)

    def to_json(self) -> dict[str, Any]:
        """Return everything as dictionaries, lists and numbers; ``None`` stands for NaN, and for what is not known."""
        return {
            "format": FORMAT,
            "runs": [str(run.folder) for run in self.pair.runs],
            "models": [dict(run.entry("model")) for run in self.pair.runs],
            "classes": list(self.classes),
            "headline": list(self.headline),
            "notes": list(self.notes),
            "recalls": None if self.recalls is None else self.recalls.to_json(),
            "looks": None if self.looks is None else [one.to_json() for one in self.looks],
            "channels": None if self.channels is None else self.channels.to_json(),
        }

    def save_page(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML file that opens anywhere; a file that cannot be written is a ``RunFolderError``."""
        write_comparison(as_path(path, "path"), self)

    def __repr__(self) -> str:
        a, b = (str(run.folder) for run in self.pair.runs)
        return f"Comparison({a!r}, {b!r}: {' '.join(self.headline)})"

    def _repr_html_(self) -> str:
        rows = Markup("").join(Markup("<p>{}</p>").format(sentence) for sentence in self.headline)
        tables = Markup("").join(table.html() for table in tables_of(self))
        return str(rows + tables)


def compare(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Comparison:
    """Compare two finished runs: two checkpoints, two trainings, a pruned network and the whole one.

    Only the run folders are read. Recalls are compared image by image where both looked at the same test images.

    Parameters
    ----------
    first, second : path or Audit
        Two run folders. Changes are those of the second against the first.

    Returns
    -------
    Comparison
        ``recalls`` of every class with the levels of its verdicts, ``looks`` (shares of suspicious parts), ``channels``
        gained and lost where both networks have the same ones, and ``notes`` on what could not be compared.

    No run folder, a damaged or a half-done one is a ``RunFolderError``; the same folder twice, no class in common, and
    one class for an image here and several labels there are an ``InterpNetError``.

    Examples
    --------
    >>> compare("runs/none", "runs/other")
    Traceback (most recent call last):
    ...
    interpnet.errors.RunFolderError: run folder 'runs/none' does not exist; `interpnet audit MODEL DATA --out runs/none`
    makes one
    """
    pair = pair_of(as_path(first, "first"), as_path(second, "second"))
    return Comparison(pair, recalls_of(pair), looks_of(pair), channels_of(pair))
