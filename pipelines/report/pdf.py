"""A report as PDF, printed by a headless browser that is on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from interpnet.errors import InterpNetError
from interpnet.support.io import atomic_path

#: Names a browser by its path, before those that are looked for.
VARIABLE = "INTERPNET_BROWSER"
#: Programs that print a page without a window, in the order in which they are looked for.
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
    "microsoft-edge-stable",
)
_OPTIONS = ("--headless=new", "--disable-gpu", "--no-first-run", "--disable-extensions", "--no-pdf-header-footer")
_SECONDS = 600  # at most
_SAID = 300  # letters of what a browser says


def find_browser() -> str:
    """Return the browser that prints; ``InterpNetError`` with the remedy where there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise InterpNetError(
                f"{VARIABLE} is {named!r}, and no such program can be run; expected the path of Chromium, Chrome or "
                "Edge"
            )
        return found
    for name in BROWSERS:
        found = shutil.which(name)
        if found is not None:
            return found
    raise InterpNetError(
        f"--pdf needs a browser that prints without a window, and none of {', '.join(BROWSERS)} is on the PATH; "
        f"install Chromium, set {VARIABLE} to the path of one, or open the report and print it"
    )


def print_pdf(page: Path, browser: str | None = None) -> Path:
    """Print a report beside itself as PDF (``index.pdf`` for ``index.html``); return its path.

    Printed is what a reader's print would hold: everything that can be folded, and of very many classes what is said of
    each. ``InterpNetError`` for no browser, and for one that fails, with what it says; ``RunFolderError`` for a folder
    that cannot be written.
    """
    browser = browser or find_browser()
    target = page.with_suffix(".pdf")
    with atomic_path(target) as written, tempfile.TemporaryDirectory() as profile:
        written.unlink(missing_ok=True)
        command = [browser, *_OPTIONS, f"--user-data-dir={profile}", f"--print-to-pdf={written}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium refuses to start as root with one
        try:
            done = subprocess.run(  # noqa: S603 - the browser that was found, and a file of this run
                [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InterpNetError(
                f"{browser!r} did not print {str(page)!r}: {error}; set {VARIABLE} to another"
            ) from error
        if done.returncode or not written.is_file() or not written.read_bytes().startswith(b"%PDF"):
            said = (done.stderr or done.stdout).strip()[-_SAID:]
            raise InterpNetError(
                f"{browser!r} printed no PDF of {str(page)!r} (exit code {done.returncode}): {said}; set {VARIABLE} to "
                "another browser, or open the report and print it"
            )
    return target
