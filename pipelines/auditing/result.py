"""An audit that is done: its numbers, tables, figures, verdict and report, read from its run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from interpnet.ablation import AblationResult
from interpnet.errors import RunFolderError
from interpnet.interpretation import Interpretation
from interpnet.reliance import Contributions
from interpnet.scores import ScoreTable
from interpnet.shortcuts import Findings
from interpnet.support.io import as_path

from ..report.audited import title
from ..report.channels import Limits
from ..report.conditions import TITLES
from ..report.load import RunData
from ..report.load import load_run as read_run
from ..report.numbers import percent
from ..report.pictures import Pictures
from ..report.shortcuts import looks_of
from ..report.tables import make_tables
from ..report.verdict import Verdict, study_verdicts
from ..report.views import class_views, example_views

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = "report/index.html"
_HEIGHT = 800  # pixels of a report in a notebook


class Report(os.PathLike[str]):
    """The path of a report; in a notebook it shows the page itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Report({str(self.path)!r})"

    def _repr_html_(self) -> str:
        # The page as text in a frame: a path would not be found from where the notebook is served.
        frame = Markup('<iframe srcdoc="{}" width="100%" height="{}" style="border:1px solid #8888"></iframe>')
        return str(frame.format(self.path.read_text(encoding="utf-8"), _HEIGHT))

    def open(self) -> None:
        """Open the page in a browser."""
        import webbrowser

        webbrowser.open(self.path.resolve().as_uri())


class _NoPictures(Pictures):
    """Reads none: tables hold no pictures."""

    def _read(self, name: str | None, size: int, *, grow: bool) -> None:
        del name, size, grow


class Audit(os.PathLike[str]):
    """What an audit found; made by :func:`audit`, or by :func:`load_run` of a run folder.

    As a path it is the run folder. ``named``, ``studies`` and ``verdicts`` are by the way to name channels,
    ``"reliance"`` and ``"mu-lasso"``, the leading one first.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = as_path(folder, "folder")
        self._run: RunData = read_run(self.folder)

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the network's outputs."""
        return self._run.classes

    @property
    def notes(self) -> list[str]:
        """What to know before trusting a number."""
        return list(self._run.manifest.get("notes") or ())

    @property
    def named(self) -> dict[str, Interpretation]:
        """The channels named for each class."""
        return self._run.named

    @property
    def studies(self) -> dict[str, AblationResult]:
        """What removing them did."""
        return dict(self._run.studies)

    @property
    def contributions(self) -> Contributions | None:
        """What every channel contributes to the log-odds of each class; ``None`` where that was not collected."""
        return self._run.contributions

    @property
    def shortcuts(self) -> Findings | None:
        """What each class goes by beside its subject; ``None`` where nothing was searched."""
        return self._run.shortcuts

    @cached_property
    def scores(self) -> ScoreTable:
        """The scores of every channel for every training image, memory-mapped."""
        return ScoreTable.load(self.folder / "scores")

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """What each study says, in sentences that its intervals carry."""
        return study_verdicts(self._run)

    @property
    def verdict(self) -> Verdict | None:
        """What the study of the leading channels says; ``None`` where there is none."""
        return next(iter(self.verdicts.values()), None)

    def tables(self) -> dict[str, Any]:
        """Return the tables of the report by name, each as a pandas ``DataFrame``.

        Where pandas is not installed (``pip install 'interpnet[pandas]'``), each is a list of rows, and a row a
        dictionary.
        """
        run = self._run
        pictures = _NoPictures(run.folder)
        examples = example_views(run, pictures, Limits())
        classes = class_views(run, pictures, examples, Limits(), self.verdicts)
        made = make_tables(run, classes, examples, looks_of(run, pictures))
        return {name.removesuffix(".csv"): _table(columns, rows) for name, (columns, rows) in made.items()}

    def figures(self) -> dict[str, Figure]:
        """Return the report's figures by name, drawn anew: they can be changed and saved."""
        from ..report.charts import draw_figures

        return {name: figure for name, figure, _ in draw_figures(self._run)}

    def report(self) -> Report:
        """Return the report's path, which shows the page in a notebook; ``RunFolderError`` where it is not there."""
        path = self.folder / _PAGE
        if not path.is_file():
            raise RunFolderError(f"{str(path)!r} is missing; run `{self._run.command('report')}` to have it written")
        return Report(path)

    def _facts(self) -> Mapping[str, str]:
        study = self._run.study
        facts = {"run folder": str(self.folder), "classes": f"{len(self.classes)}"}
        if study is not None:
            facts["recall"] = percent(study.mean_intact)
        for way, found in self.named.items():
            facts[f"channels, {way}"] = f"{found.counts.sum()} in all, {found.counts.max(initial=0)} of a class at most"
        return facts

    def __repr__(self) -> str:
        said = "".join(f", {name} {value}" for name, value in self._facts().items() if name == "recall")
        if self.verdict is not None:
            said += f", {self.verdict.level}"
        return f"Audit({str(self.folder)!r}: {title(self._run)}, {len(self.classes)} classes{said})"

    def _repr_html_(self) -> str:
        row = Markup("<tr><th style='text-align:left'>{}</th><td style='text-align:left'>{}</td></tr>")
        rows = [row.format(name, value) for name, value in self._facts().items()]
        for way, verdict in self.verdicts.items():
            rows.append(row.format(TITLES[way], f"{verdict.headline} {verdict.judgement}"))
        return str(Markup("<b>{}</b><table>{}</table>").format(title(self._run), Markup("").join(rows)))


def load_run(folder: str | os.PathLike[str]) -> Audit:
    """Open a finished or unfinished run folder; neither its model nor its images are needed.

    ``RunFolderError`` for no run folder, or a damaged file in it.
    """
    return Audit(folder)


def _table(columns: list[str], rows: list[Any]) -> Any:
    try:
        pandas = import_module("pandas")
    except ImportError:
        return [dict(zip(columns, row, strict=True)) for row in rows]
    return pandas.DataFrame([list(row) for row in rows], columns=columns)
