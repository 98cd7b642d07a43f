"""Reading a run folder for its report: only files, no model and no torch."""

from __future__ import annotations

import math
import shlex
import unicodedata
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from interpnet.ablation import AblationResult, as_result
from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.interpretation import Interpretation
from interpnet.mulasso import SelectionCurve, Stability
from interpnet.reliance import Contributions
from interpnet.shortcuts import Findings
from interpnet.support.io import read_json

from ..run.chosen import worth_listing
from ..run.config import EARLIER, MU_LASSO, RELIANCE, RunConfig
from ..run.folder import CONFIG, RunFolder
from ..run.manifest import read_manifest
from ..run.repair import REPAIR_FILE, load_repair
from ..run.selection import SELECTION_FILE, read_frequencies, read_selection
from ..run.shortcuts import SHORTCUTS_FILE, load_shortcuts, load_shown
from .numbers import number

#: A channel of a class: class, layer, index.
Key = tuple[int, str, int]
Made = TypeVar("Made")
# The file of the channels that each way names.
_WEIGHTS = {MU_LASSO: "weights/interpretation.npz", RELIANCE: "weights/reliance.npz"}
#: The file of each study, by the way.
STUDIES = {MU_LASSO: "ablation/ablation.json", RELIANCE: "ablation/reliance.json"}


def clean(text: Any) -> str:
    r"""Return text from data as something every page can hold: control characters and half surrogates replaced.

    Examples
    --------
    >>> clean("a\x00b")
    'a\ufffdb'
    """
    return "".join("\ufffd" if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t" else c for c in str(text))


@dataclass(frozen=True)
class Overlap:
    """Where one method's maps lie."""

    name: str
    mean: float  # IoU-AUC
    sd: float
    blank: int  # maps of zeros
    cue: float  # the share of the maps in a planted cue, NaN where there is none


@dataclass(frozen=True)
class Localisation:
    """What ``explanations/localisation.json`` holds."""

    n_images: int
    methods: tuple[Overlap, ...]
    shares: Mapping[Key, Mapping[str, float]]  # of a channel's heatmap in each region
    with_cue: bool


@dataclass(frozen=True)
class RunData:
    """What a run folder holds; a stage that has not run is ``None``."""

    folder: Path
    manifest: Mapping[str, Any]
    classes: tuple[str, ...]
    config: str = ""  # the text of run.toml
    settings: RunConfig = field(default_factory=RunConfig)  # what it says
    weights: Interpretation | None = None  # the channels that predict each class
    relied: Interpretation | None = None  # the channels that each class relies on
    contributions: Contributions | None = None  # of the whole network
    averaged: Contributions | None = None  # over networks that lost some channels, by which a class's are ordered
    selection: SelectionCurve | None = None  # how mu was chosen, where it was
    frequencies: Stability | None = None  # how often half of the images name each channel, where that was asked for
    studies: Mapping[str, AblationResult] = field(default_factory=dict)  # by the way to name channels, the first leads
    only: tuple[int, ...] | None = None  # the classes that are shown; None for all
    studied: tuple[int, ...] | None = None  # the classes whose channels were removed; None for all
    top: int = 0  # images averaged in a channel's picture
    pictures: Mapping[int, Mapping[str, Any]] | None = None  # entries of explanations/classes.json by class
    examples: Mapping[str, Any] | None = None  # explanations/examples.json
    places: Localisation | None = None  # where the maps lie, on data with masks
    shortcuts: Findings | None = None  # of the classes that are shown; None where nothing was searched
    beside: Mapping[str, Any] = field(default_factory=dict)  # pictures of images that classes draw, and of groups
    concepts: Mapping[str, Any] | None = None  # concepts/concepts.json; None where no concepts were given
    repair: Mapping[str, Any] | None = None  # repair/repair.json, where it is of these findings

    @property
    def study(self) -> AblationResult | None:
        """The study of the channels by which images are explained, or the one there is."""
        return next(iter(self.studies.values()), None)

    @property
    def independent(self) -> bool:
        """Whether an image can have several labels, each output being a question of its own."""
        return bool(self.entry("model").get("outputs") == "independent")

    @property
    def named(self) -> dict[str, Interpretation]:
        """The channels named, by the way to name them."""
        found = {RELIANCE: self.relied, MU_LASSO: self.weights}
        return {way: channels for way, channels in found.items() if channels is not None}

    @cached_property
    def shown(self) -> tuple[int, ...]:
        """The numbers of the classes that are shown: all with images or channels, and few or none of the others."""
        if self.only is not None:
            return self.only
        something = np.zeros(len(self.classes), dtype=bool)
        for named in self.named.values():
            something |= named.counts > 0
        for study in self.studies.values():
            something |= study.support > 0
        for c, entry in (self.pictures or {}).items():
            something[c] |= entry.get("n_train", 1) > 0
        return worth_listing(something)

    @cached_property
    def words(self) -> dict[tuple[str, int], Mapping[str, Any]]:
        """The entries of ``concepts`` of channels named for classes, by layer and index."""
        entries = (self.concepts or {}).get("of_classes", ())
        return {(clean(entry["layer"]), int(entry["index"])): entry for entry in entries}

    @cached_property
    def pictured(self) -> list[int]:
        """How many channels have pictures, for each class that has some."""
        counts = (len(entry.get("channels") or ()) for entry in (self.pictures or {}).values())
        return [count for count in counts if count]

    def command(self, stage: str) -> str:
        """Return the command that runs one stage on this folder."""
        return _command(stage, self.folder)

    def entry(self, *names: str) -> Mapping[str, Any]:
        """Return a part of the manifest, such as ``entry("data", "train")``; empty where it is not there."""
        found: Any = self.manifest
        for name in names:
            found = found.get(name) or {}
        part: Mapping[str, Any] = found
        return part

    def picture_entry(self, cls: int) -> Mapping[str, Any]:
        """Return what ``explanations/classes.json`` holds of a class; empty where there is nothing."""
        return (self.pictures or {}).get(cls, {})


def _shown(studies: Iterable[AblationResult], only: Collection[int] | None) -> tuple[int, ...] | None:
    """Return the classes that are shown; None for all."""
    if only is not None:
        return tuple(sorted(only))
    return next((study.only for study in studies if study.only is not None), None)


def _of_classes(named: Interpretation | None, only: Sequence[int]) -> Interpretation | None:
    """Return the channels named for some classes; none for the others."""
    if named is None:
        return None
    coef = np.zeros_like(named.coef)
    coef[list(only)] = named.coef[list(only)]
    return replace(named, coef=coef)


def _command(stage: str, folder: Path) -> str:
    return f"interpnet {stage} {shlex.quote(str(folder))}"


@contextmanager
def reading(path: Path, stage: str, folder: Path) -> Iterator[None]:
    """Turn what a damaged file causes into one error that says which file and what to do."""
    try:
        yield
    except RunFolderError:
        raise
    except (AttributeError, IndexError, InterpNetError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        what = f"cannot be used ({error})"
        if isinstance(error, KeyError):
            what = f"lacks {error}"
        raise RunFolderError(f"{str(path)!r} {what}; delete it and run `{_command(stage, folder)}` again") from error


def load_run(folder: Path, only: Collection[int] | None = None) -> RunData:
    """Read a run folder; ``RunFolderError`` for none, one of another format, or a damaged file in it.

    ``only``: the numbers of the classes that are shown, by default those that were studied.
    """
    manifest = read_manifest(folder)
    run = RunFolder(folder, manifest)
    settings = _settings(folder)
    ways = settings.ways
    stages = {MU_LASSO: ("solve", "ablate"), RELIANCE: ("contributions", "reliance", "ablate-reliance")}
    for stage in (*(stage for way in ways for stage in stages[way]), "explain", "shortcuts"):
        if run.stage(stage).get("state") == "complete":
            run.verify(stage)
    found = {way: _weights(folder, _WEIGHTS[way]) for way in ways}
    results = {way: _read(folder, STUDIES[way], "ablate", as_result) for way in ways}
    studies = {way: study for way, study in results.items() if study is not None}
    studied = _shown(studies.values(), None)
    shown = _shown(studies.values(), only)
    if shown is not None:
        studies = {way: study.restricted(shown) for way, study in studies.items()}
        found = {way: _of_classes(named, shown) for way, named in found.items()}
    weights = found.get(MU_LASSO)
    contributions = None
    averaged = None
    if found.get(RELIANCE) is not None:
        contributions = _contributions(folder, "contributions.npz", "collect")
        averaged = _contributions(folder, "averaged.npz", "solve")
    top, pictures = _read(folder, "explanations/classes.json", "explain", _classes) or (0, None)
    selection = None
    frequencies = None
    if weights is not None:
        selection = _selection(folder, weights.mu)
        frequencies = read_frequencies(folder / "weights", weights.coef.shape)
    config = folder / CONFIG
    text = ""
    if config.is_file():
        text = clean(config.read_text(encoding="utf-8", errors="replace"))
    return RunData(
        folder=folder,
        manifest=manifest,
        classes=_class_names(folder, manifest, found, studies, pictures),
        config=text,
        settings=settings,
        weights=weights,
        relied=found.get(RELIANCE),
        contributions=contributions,
        averaged=averaged,
        selection=selection,
        frequencies=frequencies,
        studies=studies,
        only=shown,
        studied=studied,
        top=top,
        pictures=pictures,
        examples=_read(folder, "explanations/examples.json", "explain", dict),
        places=_read(folder, "explanations/localisation.json", "explain", _places),
        shortcuts=_shortcuts(folder, shown),
        beside=load_shown(folder),
        concepts=_read(folder, "concepts/concepts.json", "audit --out", dict) if settings.concepts else None,
        repair=_repair(run),
    )


def _read(folder: Path, name: str, stage: str, make: Callable[[Any], Made]) -> Made | None:
    """Return what ``make`` makes of a JSON file; ``None`` where its stage has not written it."""
    path = folder / name
    if not path.is_file():
        return None
    with reading(path, stage, folder):
        return make(read_json(path))


def _shortcuts(folder: Path, only: Collection[int] | None) -> Findings | None:
    """Read what a search for shortcuts found of all classes, or of some."""
    with reading(folder / SHORTCUTS_FILE, "shortcuts", folder):
        found = load_shortcuts(folder)
    if found is None or only is None:
        return found
    return replace(found, classes=tuple(one for one in found.classes if one.index in only))


def _repair(run: RunFolder) -> Mapping[str, Any] | None:
    """Read what a repair came to; ``None`` where none is done, or the search was done anew since."""
    entry = run.stage("repair")
    if entry.get("state") != "complete" or entry.get("searched") != run.stage("shortcuts").get("key"):
        return None
    with reading(run.path / REPAIR_FILE, "repair", run.path):
        return load_repair(run.path)


def _settings(folder: Path) -> RunConfig:
    """Return the settings of a run; the defaults where they cannot be read."""
    with suppress(InterpNetError):
        return RunConfig.load(folder / CONFIG, missing=EARLIER)
    return RunConfig()


def _weights(folder: Path, name: str) -> Interpretation | None:
    """Read the channels that one way names, with names of layers that every page can hold."""
    path = folder / name
    if not path.is_file():
        return None
    with reading(path, "solve", folder):
        found = Interpretation.load(path)
        return replace(found, channels=_cleaned(found.channels))


def _contributions(folder: Path, name: str, stage: str) -> Contributions | None:
    path = folder / "contributions" / name
    if not path.is_file():
        return None
    with reading(path, stage, folder):
        found = Contributions.load(path)
        return replace(found, channels=_cleaned(found.channels))


def _cleaned(channels: ChannelIndex) -> ChannelIndex:
    return ChannelIndex(tuple((clean(name), size) for name, size in channels.sizes))


def _selection(folder: Path, mu: float) -> SelectionCurve | None:
    """Read how mu was chosen, and refuse the choice of another solution."""
    selection = read_selection(folder / "weights")
    if selection is not None and not math.isclose(float(selection.chosen), mu, rel_tol=1e-9):
        raise RunFolderError(
            f"{str(folder / 'weights' / SELECTION_FILE)!r} chose mu = {selection.chosen:g} and the weights beside it "
            f"are those of mu = {mu:g}; run `{_command('solve', folder)}` again"
        )
    return selection


def _classes(data: Any) -> tuple[int, dict[int, Mapping[str, Any]]]:
    return int(data["top"]), {int(entry["index"]): entry for entry in data["classes"]}


def _by_channel(classes: Any) -> dict[Key, Any]:
    """Return the entries of all channels of all classes."""
    return {
        (int(entry["index"]), clean(channel["layer"]), int(channel["index"])): channel
        for entry in classes
        for channel in entry["channels"]
    }


def _places(data: Any) -> Localisation:
    channels = _by_channel(data["classes"])
    methods = [
        Overlap(clean(m["name"]), float(m["mean"]), float(m["sd"]), int(m["blank"]), number(m.get("cue")))
        for m in data["methods"]
    ]
    return Localisation(
        n_images=int(data["n_images"]),
        methods=tuple(methods),
        shares={key: {clean(k): number(v) for k, v in entry["shares"].items()} for key, entry in channels.items()},
        with_cue=any("cue" in m for m in data["methods"]),
    )


def _class_names(
    folder: Path,
    manifest: Mapping[str, Any],
    found: Mapping[str, Interpretation | None],
    studies: Mapping[str, AblationResult],
    pictures: Mapping[int, Mapping[str, Any]] | None,
) -> tuple[str, ...]:
    """Return the classes' names from the first file that has them, and refuse files that disagree on their number."""
    sources: dict[str, Sequence[str]] = {_WEIGHTS[way]: named.classes for way, named in found.items() if named}
    sources |= {STUDIES[way]: study.classes for way, study in studies.items()}
    if not any(sources.values()):
        # The model's classes; those of the data can be fewer, under other numbers.
        sources["manifest.json"] = (manifest.get("model") or {}).get("classes") or ()
    given = {name: classes for name, classes in sources.items() if classes}
    if len({len(classes) for classes in given.values()}) > 1:
        counts = ", ".join(f"{len(classes)} in {name}" for name, classes in given.items())
        raise RunFolderError(
            f"run folder {str(folder)!r} disagrees on the number of classes: {counts}; "
            f"run `interpnet audit --config {folder / 'run.toml'}` again"
        )
    for classes in given.values():
        return tuple(map(clean, classes))
    known = {index: entry.get("name", index) for index, entry in (pictures or {}).items()}
    return tuple(clean(known.get(i, f"class {i}")) for i in range(max(known, default=-1) + 1))
