"""What a page keeps until a reader opens it: bodies of folds, packed, and every picture once.

A template puts ``keep(name)`` around what a closed fold holds. Such a body leaves the page's markup; the page's script
unpacks it when its fold is opened (``page.js``). A picture is embedded where it stands first; wherever else it stands
the script puts it. Pictures of bodies alone are kept beside the bodies.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping

from markupsafe import Markup, escape

# No text from data can hold these: control characters are replaced on reading.
_BODY = re.compile("\x00KEEP ([^\x00]*)\x00(.*?)\x00KEPT\x00", re.DOTALL)
_SOURCE = re.compile(r'src="(data:image/[^"]+)"')
_ANCHOR = re.compile(r'\bid="([^"]+)"')
#: Bodies that are packed together: alike as they are, each would cost more by itself.
_TOGETHER = 16
_BETWEEN = "\x00"


def keep(name: str, folded: bool, *, caller: Callable[[], str]) -> Markup:
    """Mark what is kept out of the markup, for ``{% call keep(name) %}``; where it is not ``folded`` it stays."""
    inside = caller()
    if not folded:
        return Markup(inside)  # noqa: S704 - the template's own
    return Markup("\x00KEEP {}\x00{}\x00KEPT\x00").format(escape(name), Markup(inside))  # noqa: S704


def packed(page: str) -> str:
    """Return a page with its marked bodies packed into one data block, and every picture in it once."""
    bodies: dict[str, str] = {}

    def taken(found: re.Match[str]) -> str:
        bodies[found[1]] = found[2]
        return f'<div class="kept" data-kept="{found[1]}"><p class="absent">Opening this needs JavaScript.</p></div>'

    page = _BODY.sub(taken, page)
    uses = Counter(_SOURCE.findall(page))
    uses.update(source for body in bodies.values() for source in _SOURCE.findall(body))
    numbers = {source: n for n, source in enumerate(uses)}
    standing: set[str] = set()

    def once(found: re.Match[str]) -> str:
        source = found[1]
        if source in standing:
            return f'data-picture="{numbers[source]}"'
        standing.add(source)
        return found[0] if uses[source] == 1 else f'data-first="{numbers[source]}" {found[0]}'

    page = _SOURCE.sub(once, page)
    if not bodies:
        return page
    pictures = {str(n): source for source, n in numbers.items() if source not in standing}
    short = {
        name: _SOURCE.sub(lambda found: f'data-picture="{numbers[found[1]]}"', body) for name, body in bodies.items()
    }
    return page.replace("</main>", f"{_block(short, pictures)}</main>", 1)


def _block(bodies: Mapping[str, str], pictures: Mapping[str, str]) -> str:
    """Return the data block: where each body and each anchor in one is, the packs, the pictures."""
    names = list(bodies)
    groups = [names[start : start + _TOGETHER] for start in range(0, len(names), _TOGETHER)]
    data = {
        "bodies": {name: [i, j] for i, group in enumerate(groups) for j, name in enumerate(group)},
        "anchors": {anchor: name for name, body in bodies.items() for anchor in _ANCHOR.findall(body)},
        "packs": [_pack(_BETWEEN.join(bodies[name] for name in group)) for group in groups],
        "pictures": pictures,
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="kept">{text}</script>'


def _pack(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()
