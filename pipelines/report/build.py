"""Building ``report/index.html``: read the run, draw, fill the templates, write everything atomically."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from markupsafe import Markup

from ..run.config import CONTROLS, FEWEST_IMAGES, MU_LASSO, PYTHON, RELIANCE
from ..run.folder import STAGES
from ..run.manifest import unverifiable
from ..run.selection import SELDOM, how_chosen
from .audited import audited, skipped_images, title
from .channels import Limits
from .charts import FIGURE_FILES, PREFIXES, SHARES, make_charts
from .concepts import named_of
from .conditions import TITLES, WAYS, condition_rows
from .load import RunData, clean, load_run
from .own import OwnViews, own_views
from .page import write_page
from .pictures import Pictures
from .repair import repair_view_of
from .shortcuts import MOST_OPEN, looks_of
from .tables import TABLE_FILES, layer_rows, write_tables
from .verdict import study_verdicts
from .views import METHODS, ClassView, chosen_by, class_views, example_views

#: All that a report can consist of.
REPORT_FILES = ("index.html", "report.json", *TABLE_FILES, *FIGURE_FILES)
# Past this many classes each one starts folded.
_MANY = 24
_LONG = 60  # letters of a name in a note


def build_report(run_folder: Path, *, limits: Limits | None = None, only: Collection[int] | None = None) -> Path:
    """Write ``report/index.html`` in a run folder, with tables and figures beside it; return its path.

    The page is one file that opens from disk and asks for nothing else; it needs neither the model nor its images.
    Parts whose stage has not run are left out, with the command that makes them. ``only``: the numbers of the classes
    that are shown, by default those that were studied.
    ``RunFolderError`` for no run folder, a damaged file in it (named), or a folder that cannot be written.
    """
    run = load_run(Path(run_folder), only)
    limits = limits or Limits.of(run.settings)
    folder = run.folder / "report"
    pictures = Pictures(run.folder / "explanations")
    examples = example_views(run, pictures, limits)
    verdicts = study_verdicts(run)
    classes = class_views(run, pictures, examples, limits, verdicts)
    shown = [c for c in classes if not c.empty] or classes
    swaps = Pictures(run.folder / STAGES["shortcuts"])
    looks = looks_of(run, swaps, pictures)
    words = Pictures(run.folder / STAGES["concepts"])
    own = own_views(run, pictures)
    charts = make_charts(run, folder)
    files = write_tables(run, folder, classes, examples, verdicts, looks) + [chart.file for chart in charts.values()]
    # Tables and figures of an earlier report that this one has no numbers for.
    for name in {*TABLE_FILES, *FIGURE_FILES} - set(files):
        (folder / name).unlink(missing_ok=True)
    path = folder / "index.html"
    write_page(
        path,
        "page.html.j2",
        run=run,
        title=title(run),
        verdicts=verdicts,
        titles=TITLES,
        audited=audited(run),
        skipped=skipped_images(run),
        notes=[*_notes(run, shown, pictures.missing + swaps.missing, len(examples), limits), *_stale(run, own)],
        charts=charts,
        classes=shown,
        chosen=[run.classes[c] for c in run.only or ()],
        many=len(shown) > _MANY,
        controls=CONTROLS,
        methods=METHODS,
        looks=looks,
        own=own,
        named=named_of(run, shown, words),
        refused=clean(run.entry("stages", "shortcuts").get("refused") or ""),
        most_open=MOST_OPEN,
        from_python=run.settings.model.startswith(PYTHON) or run.settings.data.startswith(PYTHON),
        repaired=repair_view_of(run),
        conditions={way: condition_rows(study, way) for way, study in run.studies.items()},
        layers={way: layer_rows(found) for way, found in run.named.items()},
        prefixes=PREFIXES,
        examples=run.examples,
        threshold=SELDOM,
        how_chosen=how_chosen,
        files=files,
        legend=_legend(),
        fewest=FEWEST_IMAGES,
        stages=[stage for stage in STAGES if stage != "report"],
        shares=SHARES,
        ways=WAYS,
        picked_by=chosen_by(run.examples),
        saturate=float((run.examples or {}).get("saturate") or 1.0),
        leads=next(iter(run.studies), RELIANCE),
        controls_said=_controls_said(run),
        by=(run.examples or {}).get("by", MU_LASSO),
        odds=any(study.log_odds is not None for study in run.studies.values()),
    )
    return path


#: What a control removes, by its name in a study.
_CONTROLS = {
    "random": "drawn at random",
    "random-per-layer": "drawn at random with the same number from each layer",
    "highest-activation": "those with the highest mean activation",
    "d-prime": "those whose scores tell the class best from the others (d′)",
}


def _controls_said(run: RunData) -> list[str]:
    """Say what each control of the run's studies removes; one that was not run is not said."""
    run_names = {condition.name for study in run.studies.values() for condition in study.conditions}
    return [words for name, words in _CONTROLS.items() if name in run_names]


def _notes(run: RunData, classes: list[ClassView], missing: list[str], examples: int, limits: Limits) -> list[str]:
    """Gather what a reader must know before trusting a number."""
    notes = [clean(note) for note in [*(run.manifest.get("notes") or ()), *unverifiable(run.manifest)]]
    if run.only is not None:
        named = _some([run.classes[c] for c in run.only])
        notes.append(
            f"This report is of {len(run.only)} of {len(run.classes)} classes, as asked (--only): {named}. Means, "
            "intervals and verdicts are over these; the images of the others are what they are compared with. "
            + _more(run)
        )
    elif len(classes) < len(run.classes):
        said = (
            f"{len(run.classes) - len(classes)} of the network's {len(run.classes)} outputs have no image and no "
            "channel and are left out of the classes here"
        )
        # Of very many not even that.
        if len(run.shown) == len(run.classes):
            said += "; classes.csv has a line for each"
        notes.append(f"{said}.")
    untested = [c.name for c in classes if c.n_test == 0]
    if untested:
        notes.append(f"No test images, so no recall: {_some(untested)}.")
    silent = [c.name for c in classes if c.counts and not any(c.counts.values())]
    if silent:
        notes.append(f"No relevant channels, so nothing to remove or to show: {_some(silent)}.")
    few = [c.name for c in classes if c.few and run.weights is not None]
    if few:
        notes.append(
            f"Fewer than {FEWEST_IMAGES} training images, so the weights of the regression name noise: {_some(few)}."
        )
    # Later formats make many draws in each pass.
    paired = run.study is not None and any(c.changes for c in run.study.conditions)
    if run.study is not None and run.study.repeats < 3 and not paired:
        notes.append(f"Random controls were drawn {run.study.repeats} times only; their intervals mean little.")
    most = limits.per_class(run)
    if most is not None:
        notes.append(
            f"To keep this page usable it shows pictures of the {most} strongest channels per class; "
            "explanations/ holds the others."
        )
    if examples > limits.examples:
        notes.append(
            f"To keep this page usable it shows {limits.examples} of {examples} explained images; "
            "explanations/ holds the others."
        )
    if missing:
        notes.append(f"{len(missing)} pictures are missing or damaged: {_some(missing)}.")
    return notes


def _stale(run: RunData, own: OwnViews) -> list[str]:
    """Say which images of a user's are left out, for their channels are those of an earlier solution."""
    if not own.stale:
        return []
    again = f"`{run.command('explain')} --image FILE`"
    return [
        f"Explained before the channels were named again, and left out here until {again}: {_some(list(own.stale))}."
    ]


def _more(run: RunData) -> str:
    """Say how to see more classes."""
    if run.studied is None:
        return f"`{run.command('report')} --only all` shows every class."
    return f"`{run.command('audit --out')} --only all` studies every class."


def _some(names: list[str], most: int = 8) -> str:
    cut = [clean(name) for name in names[:most]]
    listed = ", ".join(f"“{name if len(name) <= _LONG else name[: _LONG - 3] + '…'}”" for name in cut)
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def _legend() -> Markup:
    """Return the colour bar of the heatmaps as a CSS gradient."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    colours = ", ".join(to_hex(mpl.colormaps["inferno"](i / 8)) for i in range(9))
    return Markup("linear-gradient(to right, {})").format(colours)
