"""A figure as files: PNG and SVG, and the numbers that it shows as CSV."""

from __future__ import annotations

import gzip
import io
import os
import re
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from interpnet.errors import InterpNetError
from interpnet.plotting.style import any_letters
from interpnet.support.checks import check_kinds, number, optional
from interpnet.support.csv_table import csv_text
from interpnet.support.io import as_path, atomic_path, write_text

_DOTS = 200  # per inch
_MOST_PLAIN = 10_000  # rows
_SUFFIXES = (".png", ".svg", ".csv")
_NARROWEST = 0.5  # inches


def data(figure: Figure) -> dict[str, list[Any]]:
    """Return the numbers that a figure of this module shows, as columns by name: what ``pandas.DataFrame`` takes.

    A figure from elsewhere has none, which is an InterpNetError.

    Examples
    --------
    >>> from interpnet import plot
    >>> data(plot.layer_relevance([[0.25, 0.75]], ["conv1", "conv2"], ["cat"]))["cat"]
    [0.25, 0.75]
    """
    check_kinds(data, locals())
    header, rows = _shown(figure)
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _shown(figure: Figure) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    try:
        found: tuple[tuple[str, ...], list[tuple[Any, ...]]] = figure._shown  # type: ignore[attr-defined]  # noqa: SLF001
    except AttributeError:
        raise InterpNetError("the figure carries no numbers; expected one that a function of ip.plot made") from None
    return found


def save(figure: Figure, path: str | os.PathLike[str], *, width: float | None = None) -> tuple[Path, Path, Path]:
    """Write a figure of this module as PNG and SVG, and its numbers as CSV; return the three paths.

    More than 10,000 rows, the pixels of a large map, are compressed: ``.csv.gz``, which pandas reads as it is. Each
    file is whole or not there. The same result gives the same bytes. No place for it is a RunFolderError.

    Parameters
    ----------
    path : path
        ``slides/ablation`` writes ``slides/ablation.png``, ``.svg`` and ``.csv``; one of these endings is left out.
    width : float, optional
        In inches, letters and lines with it: 3.5 for a column of a paper, 13.3 for a slide. By default as it was drawn.
        The PNG has 200 dots per inch.

    Examples
    --------
    >>> import tempfile
    >>> from interpnet import plot
    >>> drawn = plot.layer_relevance([[0.25, 0.75]], ["conv1", "conv2"], ["cat"])
    >>> [file.name for file in save(drawn, f"{tempfile.mkdtemp()}/layers")]
    ['layers.png', 'layers.svg', 'layers.csv']
    """
    check_kinds(save, locals())
    optional(number, width, "width", least=_NARROWEST, most=100)
    header, rows = _shown(figure)
    stem = as_path(path)
    if stem.suffix.lower() in _SUFFIXES:
        stem = stem.with_suffix("")
    png, svg, csv = (stem.with_name(stem.name + suffix) for suffix in _SUFFIXES)
    scale = 1.0 if width is None else width / float(figure.get_size_inches()[0])
    with any_letters():
        with atomic_path(png) as tmp:
            # A document takes the picture's width from the dots per inch that the file states.
            stated: Any = {"dpi": (_DOTS, _DOTS)}
            look: Any = {"facecolor": "white", "metadata": {"Software": None}, "pil_kwargs": stated}
            figure.savefig(tmp, format="png", dpi=_DOTS * scale, **look)
        write_text(svg, _scaled(_svg(figure, stem.name), scale))
    text = csv_text(header, rows)
    packed = csv.with_name(f"{csv.name}.gz")
    if len(rows) <= _MOST_PLAIN:
        write_text(csv, text)
        packed.unlink(missing_ok=True)  # an earlier figure's numbers
        return png, svg, csv
    with atomic_path(packed) as tmp:
        tmp.write_bytes(gzip.compress(text.encode(), mtime=0))
    csv.unlink(missing_ok=True)
    return png, svg, packed


def _svg(figure: Figure, salt: str) -> str:
    """Return the figure as SVG, its text as text: it can be found and edited."""
    import matplotlib as mpl

    written = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(written, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return written.getvalue()


def _scaled(text: str, scale: float) -> str:
    """Return an SVG drawn larger or smaller as a whole.

    Examples
    --------
    >>> _scaled('<svg width="10pt" height="4pt" viewBox="0 0 10 4">', 0.5)
    '<svg width="5pt" height="2pt" viewBox="0 0 10 4">'
    """
    head, rest = text.split("viewBox", 1)
    head = re.sub(r'(width|height)="([0-9.]+)pt"', lambda m: f'{m[1]}="{float(m[2]) * scale:g}pt"', head)
    return f"{head}viewBox{rest}"
