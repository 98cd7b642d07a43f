"""What the site adds to mkdocs: the pages from their places in the repository, the reference, and code that runs.

A page has on the site the place that it has in the repository, so that its links serve GitHub and the site alike. Links
to files that are no pages, such as code, go to the repository's address.
"""

from __future__ import annotations

import json
import logging
import posixpath
import re
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import examples
import reference
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "build" / "examples"  # where code of pages works
PAGES = ("*.md", "docs/*.md", "docs/tutorials/*.md", "experiments/**/*.md", "data/*.md")
PICTURES = (
    "docs/*.png",
    "docs/tutorials/*.py",
    "experiments/**/*.png",
    "experiments/**/*.jpg",
    "experiments/**/*.html",
)
RUN = ("docs/tutorials/", "docs/gallery.md", "docs/faq.md", "docs/notebook.md")  # pages whose code runs
log = logging.getLogger("mkdocs.hooks.examples")


def on_startup(command: str, dirty: bool) -> None:  # noqa: ARG001 - the names are mkdocs'
    """Lay out the package for the reader of docstrings before it looks for it, and take away the runs of examples.

    They would go on from there, and say so. Drawn images and the trained network stay.
    """
    shutil.rmtree(EXAMPLES / "runs", ignore_errors=True)
    reference.lay_out(ROOT, ROOT / "build" / "api")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, pictures and the reference."""
    for pattern in PAGES + PICTURES:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, "docs/notebook.md", content=notebook(ROOT / "docs" / "notebook.ipynb")))
    for name, text in reference.pages(ROOT).items():
        files.append(File.generated(config, f"docs/reference/{name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Run the code of the pages that have it, and send links that are no pages of the site to the repository."""
    place = page.file.src_uri
    if place.startswith(RUN):
        markdown = run(markdown, place, config, files)
    return linked(markdown, place, config, files)


def run(markdown: str, place: str, config: Any, files: Files) -> str:
    """Return a page with what its code prints and draws; all pages work in one folder and share its network."""
    begun = time.perf_counter()
    runner = examples.Runner(place, EXAMPLES)
    runner.folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "docs" / "tutorials" / "flowers.py", runner.folder)
    try:
        markdown = runner.run(markdown)
    except examples.ExampleError as error:
        raise PluginError(str(error)) from error
    for name, content in runner.files.items():
        files.append(File.generated(config, posixpath.join(posixpath.dirname(place), name), content=content))
    log.info("%s ran in %.0f s", place, time.perf_counter() - begun)
    return markdown


def notebook(path: Path) -> str:
    """Return a notebook as a page: its text, and its code in blocks."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    return "\n\n".join(parts) + "\n"


def linked(markdown: str, place: str, config: Any, files: Files) -> str:
    """Return the text with links to files of the repository that the site does not have as links to the repository."""

    def target(match: re.Match[str]) -> str:
        path, mark, anchor = match[2].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        name = posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(path)))
        if name == "docs/notebook.ipynb":
            return f"{match[1]}{path.replace('.ipynb', '.md')}{mark}{anchor})"
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
