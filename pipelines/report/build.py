"""Building ``report/index.html``: read the run, draw, fill the templates, write everything atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from interpnet.ablation import CONDITION_LABELS, AblationResult, finite_mean, mean_change

from ..run.selection import SELDOM, how_chosen
from .audited import audited, skipped_images, stage_rows, title
from .charts import FIGURE_FILES, make_charts
from .load import RunData, clean, load_run
from .page import write_page
from .pictures import Pictures
from .tables import TABLE_FILES, layer_rows, write_tables
from .verdict import verdict
from .views import ClassView, Limits, class_views, example_views, place_rows, swap_rows


def build_report(run_folder: Path, *, limits: Limits | None = None) -> Path:
    """Write the report of a run and the tables and figures beside it.

    The page is one file that opens from disk and asks for nothing else. Parts whose stage has not
    run are left out, with the command that makes them.

    Parameters
    ----------
    run_folder : Path
        A run folder; needs neither the model nor its images.
    limits : Limits, optional
        How many pictures the page takes.

    Returns
    -------
    Path
        ``run_folder/report/index.html``.

    Raises
    ------
    RunFolderError
        No run folder, a damaged file in it (named), or a folder that cannot be written.
    """
    limits = limits or Limits()
    run = load_run(Path(run_folder))
    folder = run.folder / "report"
    pictures = Pictures(run.folder / "explanations")
    examples = example_views(run, pictures, limits)
    classes, most = class_views(run, pictures, examples, limits)
    found = verdict(run.study) if run.study is not None else None
    charts = make_charts(run, folder)
    tables = write_tables(run, folder, classes, examples, found)
    _remove_stale(folder, {*tables, *(chart.file for chart in charts.values())})
    path = folder / "index.html"
    write_page(
        path,
        "page.html.j2",
        run=run,
        title=title(run),
        verdict=found,
        audited=audited(run),
        stages=stage_rows(run),
        skipped=skipped_images(run),
        notes=_notes(run, classes, pictures, len(examples), most, limits),
        charts=charts,
        classes=classes,
        many=len(classes) > _MANY,
        place_rows=place_rows(run),
        swap_rows=swap_rows(run),
        conditions=_condition_rows(run.study) if run.study is not None else [],
        layers=layer_rows(run),
        examples=run.examples,
        threshold=SELDOM,
        how_chosen=how_chosen,
        files=[*tables, *(chart.file for chart in charts.values())],
        legend=_legend(),
    )
    return path


# Past this many classes each one starts folded.
_MANY = 24


def _notes(
    run: RunData, classes: list[ClassView], pictures: Pictures, examples: int, most: int | None, limits: Limits
) -> list[str]:
    """Gather what a reader must know before trusting a number."""
    notes = [clean(note) for note in run.manifest.get("notes") or ()]
    untested = [c.name for c in classes if c.n_test == 0]
    if untested:
        notes.append(f"No test images, so no recall: {_some(untested)}.")
    silent = [c.name for c in classes if c.n_relevant == 0]
    if silent:
        notes.append(f"No relevant channels, so nothing to remove or to show: {_some(silent)}.")
    if run.study is not None and run.study.repeats < 3:
        notes.append(f"Random controls were drawn {run.study.repeats} times only; their intervals mean little.")
    if most is not None:
        notes.append(
            f"To keep this page usable it shows pictures of the {most} strongest channels a class; "
            "explanations/ holds the others."
        )
    if examples > limits.examples:
        notes.append(
            f"To keep this page usable it shows {limits.examples} of {examples} explained images; "
            "explanations/ holds the others."
        )
    if pictures.missing:
        notes.append(f"{len(pictures.missing)} pictures are missing or damaged: {_some(pictures.missing)}.")
    return notes


def _some(names: list[str], most: int = 8) -> str:
    short = [clean(name) if len(name) <= 60 else f"{clean(name)[:57]}…" for name in names[:most]]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"“{name}”" for name in short) + more


def _condition_rows(study: AblationResult) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for scope in ("all", "conv"):
        for name in [*CONDITION_LABELS, *sorted({c.name for c in study.conditions} - set(CONDITION_LABELS))]:
            for condition in study.conditions:
                if (condition.name, condition.layers) == (name, scope):
                    change, ends = mean_change(study, condition)
                    rows.append({
                        "name": name,
                        "label": CONDITION_LABELS.get(name, clean(name)),
                        "scope": "all layers" if scope == "all" else "conv. layers",
                        "removed": finite_mean(condition.removed),
                        "repeats": condition.own.shape[0],
                        "own": condition.mean_own(),
                        "own_ends": condition.interval_own(),
                        "change": change,
                        "change_ends": ends,
                    })  # fmt: skip
    return rows


def _remove_stale(folder: Path, written: set[str]) -> None:
    """Delete tables and figures of an earlier report that this one has no numbers for."""
    for name in {*TABLE_FILES, *FIGURE_FILES} - written:
        (folder / name).unlink(missing_ok=True)


def _legend() -> Markup:
    """Return the colour bar of the heatmaps as a CSS gradient."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    colours = ", ".join(to_hex(mpl.colormaps["inferno"](i / 8)) for i in range(9))
    return Markup("linear-gradient(to right, {})").format(colours)
