"""What the backward passes that follow one forward pass have in common: the rules ask here when a signal comes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Passes:
    """The state of the backward passes of one forward pass."""

    # Whether the forward pass keeps what the ordinary gradient needs; only then can ``plain`` be set. Rectifier rules
    # keep it; LRP's would hold every map twice.
    with_gradient: bool = False
    # The signal on its way is the ordinary gradient, and no rule acts on it.
    plain: bool = False
    # Whether LRP counts what layers keep.
    counts: bool = True
    # More signals follow this one: what does not depend on the signal is worth keeping.
    again: bool = False

    @contextmanager
    def gradient(self) -> Iterator[None]:
        """Send ordinary gradients inside the block.

        Examples
        --------
        >>> passes = Passes(with_gradient=True)
        >>> with passes.gradient():
        ...     print(passes.plain)
        True
        >>> passes.plain
        False
        """
        if not self.with_gradient:
            raise RuntimeError("the forward pass kept nothing for the ordinary gradient")
        self.plain = True
        try:
            yield
        finally:
            self.plain = False
