"""A class given by number or by name, wherever results are kept by class."""

from __future__ import annotations

from collections.abc import Sequence

from interpnet.errors import InterpNetError, did_you_mean
from interpnet.support.checks import listed, whole_number


def class_number(cls: int | str, classes: Sequence[str]) -> int:
    """Return the number of a class given by number or name; an unknown one is an error with close matches.

    Examples
    --------
    >>> class_number("dog", ["cat", "dog"]), class_number(0, ["cat", "dog"])
    (1, 0)
    """
    if isinstance(cls, str):
        if classes.count(cls) > 1:
            numbers = [i for i, name in enumerate(classes) if name == cls]
            raise InterpNetError(f"the classes {numbers} are all called {cls!r}; give the number")
        if cls in classes:
            return classes.index(cls)
        # The command line hands numbers on as text.
        if not cls.lstrip("-").isdigit():
            first = ", ".join(classes[:10])
            more = ", ..." * (len(classes) > 10)
            raise InterpNetError(
                f"unknown class {cls!r}{did_you_mean(cls, classes)}; the {len(classes)} classes are {first}{more}"
            )
        cls = int(cls)
    number = whole_number(cls, "class")
    if not 0 <= number < len(classes):
        raise InterpNetError(f"class {number} does not exist; expected 0 to {len(classes) - 1} or a class name")
    return number


def chosen_classes(chosen: Sequence[int | str], classes: Sequence[str], name: str = "only") -> tuple[int, ...]:
    """Return the numbers of some classes, each once and in order; ``name`` says where they were given, for errors.

    Examples
    --------
    >>> chosen_classes(["dog", 0, "dog"], ["cat", "dog"])
    (0, 1)
    """
    numbers = {class_number(cls, classes) for cls in listed(chosen, name)}
    if not numbers:
        raise InterpNetError(f"{name} is empty; expected classes by name or number, or leave it out for all")
    return tuple(sorted(numbers))
