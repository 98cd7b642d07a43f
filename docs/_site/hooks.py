"""What the site adds to mkdocs: the pages from their places in the repository, the reference, and code that runs.

A page has on the site the place that it has in the repository, so that its links serve GitHub and the site alike. Links
to files that are no pages, such as code, go to the repository's address.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import reference
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("*.md", "docs/*.md", "docs/tutorials/*.md", "experiments/**/*.md", "data/*.md")
PICTURES = ("docs/*.png", "experiments/**/*.png", "experiments/**/*.jpg", "experiments/**/*.html")


def on_config(config: Any) -> Any:
    """Lay out the package for the reader of docstrings as it is installed, ``pipelines`` within it."""
    reference.lay_out(ROOT, ROOT / "build" / "api")
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, pictures and the reference."""
    for pattern in PAGES + PICTURES:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for name, text in reference.pages(ROOT).items():
        files.append(File.generated(config, f"docs/reference/{name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Send links that are no pages of the site to the repository."""
    return linked(markdown, page.file.src_uri, config, files)


def linked(markdown: str, place: str, config: Any, files: Files) -> str:
    """Return the text with links to files of the repository that the site does not have as links to the repository."""

    def target(match: re.Match[str]) -> str:
        path, mark, anchor = match[2].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        name = posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(path)))
        if files.get_file_from_path(name) is not None or not (ROOT / name).exists():
            return match[0]  # a page, or a dead link, which mkdocs reports
        kind = "tree" if (ROOT / name).is_dir() else "blob"
        return f"{match[1]}{config.extra['repository']}/{kind}/main/{name}{mark}{anchor})"

    return re.sub(r"(\]\()([^)\s]+)\)", target, markdown)


def on_post_build(config: Any) -> None:
    """Refuse a reference in which a public name is missing."""
    missing = reference.missing(ROOT, Path(config.site_dir) / "objects.inv")
    if missing:
        raise PluginError(f"not in the reference: {', '.join(missing)}")
