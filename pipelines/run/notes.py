"""What a reader of a run should know beside its numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Notes:
    """What a stage wants its reader to know, and what the library warned of meanwhile."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, text: str) -> None:
        """Add a note once."""
        if text not in self.texts:
            self.texts.append(text)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turn warnings meant for users into notes; others are shown as ever."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            # The library's warnings (sites, convergence) are UserWarnings; torch warns so, too, from files of its own.
            place = {*Path(warning.filename).parts, warning.category.__module__.partition(".")[0]}
            if {"interpnet", "pipelines"} & place and issubclass(warning.category, UserWarning):
                self.add(str(warning.message))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
