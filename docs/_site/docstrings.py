"""Docstrings for the site: references and formulas in the notation of Sphinx become links and MathML."""

from __future__ import annotations

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc|obj):`~?\.?([\w.]+)`")
_INLINE = re.compile(r":math:`([^`]+)`")
_DISPLAY = re.compile(r"^( *)\.\. math::[ ]*(.*(?:\n(?:\1 +.*))*)", re.MULTILINE)
_SECTION = re.compile(r"^(Parameters|Attributes)\n-+\n(.*?)(?=^\w[\w ]*\n-{3,}$|\Z)", re.MULTILINE | re.DOTALL)
_SEVERAL = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)+)( : .*)?\n((?: .*\n?|\n)*)", re.MULTILINE)
_LINK = '<autoref identifier="{}" optional><code>{}</code></autoref>'


class Docstrings(griffe.Extension):
    """Rewrites the docstring of every object of a package."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite all docstrings; what they refer to is known now."""
        _walk(pkg)


def _walk(found: Any) -> None:
    if found.is_alias:
        return
    if found.docstring is not None:
        found.docstring.value = rewritten(found.docstring.value, found)
    for member in found.members.values():
        _walk(member)


def rewritten(text: str, found: Any) -> str:
    """Return the docstring of an object with its references as links and its formulas as MathML."""
    text = _SECTION.sub(lambda match: _SEVERAL.sub(_apart, match[0]), text)
    text = _DISPLAY.sub(lambda match: f"{match[1]}{formula(match[2], display='block')}", text)
    text = _INLINE.sub(lambda match: formula(match[1]), text)
    return _ROLE.sub(lambda match: _LINK.format(_resolved(match[1], found), match[1]), text)


def _apart(match: re.Match[str]) -> str:
    """Return parameters that share a description one by one: each has a type and a default of its own."""
    return "".join(f"{name}{match[2] or ''}\n{match[3].rstrip()}\n" for name in match[1].split(", ")) + "\n"


def _resolved(name: str, found: Any) -> str:
    """Return where a name of a docstring is documented; it is written as its module sees it, or whole."""
    if name.startswith("interpnet."):
        top = found.package.members.get(name.partition(".")[2])
        return top.target_path if top is not None and top.is_alias else name
    try:
        return str(found.resolve(name))
    except griffe.NameResolutionError:
        return f"{found.path}.{name}"


def formula(latex: str, display: str = "inline") -> str:
    """Return a formula as MathML, which browsers draw without a script."""
    return convert(" ".join(latex.split()), display=display)
