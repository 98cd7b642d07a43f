"""The options --shortcut and --strength: a cue planted in generated flowers, kept in the data's specification."""

from __future__ import annotations

from interpnet.errors import InterpNetError, did_you_mean

_FLOWERS = ("an8flower-single-6c", "an8flower-double-12c")
SHORTCUTS = ("background", "pot", "watermark", "texture", "position")


def planted(data: str, shortcut: str | None, strength: float | None, *, override: bool = False) -> str:
    """Return a specification of data with the cue that ``--shortcut`` and ``--strength`` ask for.

    ``override`` replaces another value that the specification has, as one from a file; otherwise that is a
    contradiction.
    ``InterpNetError`` for other data than generated flowers, an unknown shortcut (close ones are named), a strength
    outside [0, 1] or without a shortcut, or two values for one thing.

    Examples
    --------
    >>> planted("an8flower-single-6c?size=64", "pot", 0.9)
    'an8flower-single-6c?size=64&shortcut=pot&strength=0.9'
    """
    if shortcut is not None and shortcut not in SHORTCUTS:
        hint = did_you_mean(shortcut, SHORTCUTS)
        raise InterpNetError(f"--shortcut is {shortcut!r}; expected {', '.join(SHORTCUTS)}{hint}")
    if strength is not None and not 0 <= strength <= 1:
        raise InterpNetError(f"--strength is {strength}; expected a number from 0 to 1")
    given = {"shortcut": shortcut, "strength": strength}
    asked = {name: value for name, value in given.items() if value is not None}
    if not asked:
        return data
    base, parts = _parts(data)
    if base not in _FLOWERS:
        raise InterpNetError(
            f"--{next(iter(asked))} plants a cue in generated flowers and the data is {data!r}; expected "
            f"{' or '.join(_FLOWERS)}, or leave the option out"
        )
    for name, value in asked.items():
        if name in parts and parts[name] != str(value) and not override:
            raise InterpNetError(f"--{name} is {value} and the data {data!r} says {parts[name]}; give it once")
        parts[name] = str(value)
    if "shortcut" not in parts:
        raise InterpNetError(
            "--strength came without --shortcut; it says how often the cue agrees with the class, so give both"
        )
    # An option without a value stays one: "a?x" is not "a?x=".
    return f"{base}?" + "&".join("=".join(filter(None, part)) for part in parts.items())


def _parts(data: str) -> tuple[str, dict[str, str]]:
    """Return the data set of a specification and its options."""
    base, _, query = data.partition("?")
    return base, dict(part.partition("=")[::2] for part in query.split("&") if part)


def described(data: str) -> str | None:
    """Return what a reader must know of data with a planted cue, or ``None``.

    Examples
    --------
    >>> described("an8flower-single-6c?shortcut=pot&strength=0.9")
    'A shortcut is planted: the cue pot agrees with the class in 90 % of the training images, by chance in the test.'
    >>> described("mnist") is None
    True
    """
    base, parts = _parts(data)
    if base not in _FLOWERS or "shortcut" not in parts:
        return None
    strength = 100 * float(parts.get("strength", 1))
    return (
        f"A shortcut is planted: the cue {parts['shortcut']} agrees with the class in {strength:g} % of the training "
        "images, by chance in the test."
    )
