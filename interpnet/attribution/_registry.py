"""The registry of attribution methods: what each is, costs, needs and promises."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from interpnet.attribution._call import Attribution
from interpnet.errors import InterpNetError, did_you_mean

Run = Callable[..., Attribution]
Cost = float | str | Callable[..., float]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method is."""

    name: str
    family: str
    paper: str
    # Forward passes per image, a backward pass counts 2, beyond the one that finds the logits: a number, a text, or a
    # function of the method's options. price() gives the number.
    cost: Cost
    needs: frozenset[str]  # of "baseline", "layer", "samples" (it draws random numbers), "extra:PACKAGE"
    run: Run  # run(call, **options) -> Attribution
    reduction: str | None  # how colours are reduced by default; None for maps that have none
    # What the maps promise, for the contract test: "completeness" (the residual falls with steps), "exact" (it is
    # rounding), "conservation" (it comes with every map), "not-gradient" (differs from it), "ignores-target".
    axioms: frozenset[str]

    @property
    def options(self) -> tuple[str, ...]:
        """Return the names of the method's own options."""
        return tuple(inspect.signature(self.run).parameters)[1:]

    def price(self, **options: Any) -> float | str:
        """Return the forward-equivalents per image with these options, or a text where they depend on the network.

        Examples
        --------
        >>> METHODS["integrated_gradients"].price(steps=2)
        7
        """
        if not callable(self.cost):
            return self.cost
        known = inspect.signature(self.cost).parameters
        return self.cost(**{k: v for k, v in options.items() if k in known})


METHODS: dict[str, Method] = {}


def register(
    name: str,
    *,
    paper: str,
    family: str,
    cost: Cost,
    needs: Iterable[str] = (),
    reduction: str | None = "sum",
    axioms: Iterable[str] = (),
) -> Callable[[Run], Run]:
    """Return the decorator that enters a function into the registry; see :class:`Method` for the arguments."""

    def enter(run: Run) -> Run:
        METHODS[name] = Method(
            name=name,
            family=family,
            paper=paper,
            cost=cost,
            needs=frozenset(needs),
            run=run,
            reduction=reduction,
            axioms=frozenset(axioms),
        )
        return run

    return enter


def find_method(name: str) -> Method:
    """Return the method of that name, or raise :class:`InterpNetError` with close matches."""
    if name not in METHODS:
        raise InterpNetError(
            f"unknown method {name!r}{did_you_mean(name, METHODS)}; expected one of {', '.join(METHODS)}"
        )
    return METHODS[name]
