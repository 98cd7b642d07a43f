"""Pages written by hand: links lead somewhere, names exist, the README stays short and the words plain."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

import interpnet

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/**/*.md"), *ROOT.glob("data/*.md")]
)
# Uses of a word that a reader of another first language stumbles over: "one folder a class" for "per class".
UNUSUAL = re.compile(
    r"\b(anew|besides|dear|fells)\b"
    r"|\b(one|\d+) (folder|line|row|map|pass|draw|weight|channel)s? an? (class|image|layer)\b"
)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    anchors = set()
    for title in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", title.strip().lower())
        anchors.add(plain.replace(" ", "-"))
    return anchors


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            assert anchor in headings(file), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_words_are_plain(page):
    found = [match[0] for match in UNUSUAL.finditer(page.read_text(encoding="utf-8"))]
    assert found == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CHANGELOG.md"], ids=name_of)
def test_public_names_on_a_page_exist(page):
    for path in re.findall(r"\bip\.([a-z_]\w*(?:\.[a-z_]\w*)*)", page.read_text(encoding="utf-8")):
        thing = interpnet
        for part in path.split("."):
            assert hasattr(thing, part), f"{name_of(page)} names ip.{path}"
            thing = getattr(thing, part)
