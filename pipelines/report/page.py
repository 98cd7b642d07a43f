"""What every report page shares: the templates' environment, the style, the script, and one atomic file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from interpnet.support.io import write_text

from .kept import keep, packed
from .load import clean
from .numbers import number_text, percent, share_text, signed

_TEMPLATES = Path(__file__).parent / "templates"
# No text from data can hold it: control characters are replaced on reading.
_SIZE = "\x00SIZE\x00"


def write_page(path: Path, template: str, *, styles: Sequence[str] = ("page.css",), **values: Any) -> None:
    """Fill a template and write the page atomically: one file with its style and script, all text escaped.

    The template extends ``base.html.j2``; ``styles`` are style sheets beside it, ``values`` what it names.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number_text, share=share_text, signed=signed, percent=percent, clean=clean, breakable=_breakable
    )
    script = _read("page.js")
    environment.globals["keep"] = keep
    page = environment.get_template(template).render(
        **values,
        style=Markup("\n".join(_read(name) for name in styles)),  # noqa: S704 - our own files
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        size=_SIZE,
    )
    page = packed(page)
    size = len(page.encode())
    write_text(path, page.replace(_SIZE, f"{size / 1e6:.1f} MB"))


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _breakable(text: str) -> Markup:
    """Return a channel's or file's name with places where a narrow column may break it."""
    return Markup("<wbr>").join(re.split(r"(?<=[.:_])|(?=\[)", text))
