"""What all campaigns share: the verdicts, and how the cases of a campaign are drawn and judged."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.common.tables import Line

#: What may happen, in words; every one of these is right.
GOOD = {
    "equal": "results as those of an undisturbed run",
    "mended": "noticed, named, and done again: results as those of an undisturbed run",
    "refused": "one line that names the mistake, exit status 2 or an InterpNetError",
    "right": "the value of an independent computation",
    "warned": "a value, with a warning that names the cause",
    "interrupted": "one line that says how to go on, exit status 130",
    "unread": "the command does not read the damaged file; its own results are right",
    "done": "the command ends well",
    "flat": "memory, hooks and modes as before",
}
#: What must never happen.
BAD = {
    "wrong": "other results, without a word",
    "silent": "a result for an input that has no right result",
    "unnoticed": "a damaged file called up to date",
    "internal error": "an error that is no InterpNetError, or a traceback of the command",
    "unclear": "a failure without a line that explains it",
    "hang": "no end within the time allowed",
    "lost": "the run cannot be gone on with",
    "code ran": "a file of data ran code",
    "not escaped": "a name from the data reached the terminal, a table or the report unescaped",
    "leak": "memory, files, hooks or modes left behind",
    "campaign broken": "the case itself could not be set up",
}


@dataclass(frozen=True)
class Draw:
    """One case of a campaign: its number and its own random numbers, which depend on nothing else."""

    campaign: str
    seed: int
    number: int

    @property
    def random(self) -> random.Random:
        """Random numbers of this case, the same at each call."""
        return random.Random(f"{self.campaign}/{self.seed}/{self.number}")  # noqa: S311 - no secret

    def of(self, table: list[Any]) -> Any:
        """Return an entry of a table: all of it in a random order before one comes again."""
        around, place = divmod(self.number, len(table))
        order = random.Random(f"{self.campaign}/{self.seed}/{around}").sample(range(len(table)), len(table))  # noqa: S311
        return table[order[place]]


@dataclass(frozen=True)
class Campaign:
    """Cases of one kind: ``prepare`` makes what they share in an empty folder, ``attempt`` judges one.

    ``attempt(shared, draw)`` returns ``what`` was done, the ``verdict`` (a key of :data:`GOOD` or :data:`BAD`) and,
    where it is bad, the ``detail``.
    """

    about: str
    long: int  # cases of the long run
    prepare: Callable[[Path], Any]
    attempt: Callable[[Any, Draw], Line]


def verdict(what: str, word: str, detail: str = "") -> Line:
    """Return the record of a case; the detail is kept for what is bad."""
    if word not in GOOD | BAD:
        raise ValueError(f"{word!r} is no verdict")
    record: Line = {"what": what, "verdict": word}
    if word in BAD:
        record["detail"] = detail[-400:]
    return record
