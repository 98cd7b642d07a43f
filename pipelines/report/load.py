"""Reading a run folder for its report: only files, no model and no torch."""

from __future__ import annotations

import math
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from interpnet.ablation import AblationResult, as_result
from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.interpretation import Interpretation
from interpnet.mulasso import SelectionCurve, Stability
from interpnet.support.io import read_json

from ..run.selection import SELECTION_FILE, read_frequencies, read_selection

_FORMAT = "interpnet-run-1"


def clean(text: Any) -> str:
    r"""Return text from data as something every page can hold: control characters and half surrogates replaced.

    Examples
    --------
    >>> clean("a\x00b")
    'a\ufffdb'
    """
    return "".join("\ufffd" if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t" else c for c in str(text))


@dataclass(frozen=True)
class Localisation:
    """What ``explanations/localisation.json`` holds.

    ``methods``: (name, mean, standard deviation, zero maps) of the IoU-AUC. ``shares``: of a channel's heatmap in each
    region, by (class, layer, index). ``in_cue``: of each method's maps in a planted cue, empty where there is none.
    """

    n_images: int
    methods: tuple[tuple[str, float, float, int], ...]
    shares: Mapping[tuple[int, str, int], Mapping[str, float | None]]
    in_cue: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Swapped:
    """What ``explanations/surroundings.json`` holds of one way to tell the subject from its surroundings.

    ``follows``, ``keeps``: shares of the swapped images predicted as the surroundings' or the subject's class.
    ``classes``, ``channels``: the surroundings' share of what a class does, by class and by (class, layer, index).
    """

    n_images: int
    follows: float
    keeps: float
    classes: Mapping[int, float | None]
    channels: Mapping[tuple[int, str, int], float | None]


@dataclass(frozen=True)
class RunData:
    """What a run folder holds; a stage that has not run is ``None``.

    Attributes
    ----------
    folder : Path
    manifest : dict
    config : str
        The text of ``run.toml``, empty where there is none.
    classes : tuple of str
    weights : Interpretation or None
    selection : SelectionCurve or None
        How mu was chosen, where it was.
    frequencies : Stability or None
        How often half of the images name each channel, where that was asked for.
    study : AblationResult or None
    pictures : dict of int to dict, or None
        Entries of ``explanations/classes.json`` by class number.
    examples : dict or None
        ``explanations/examples.json``.
    places : Localisation or None
        Where the maps lie, on data with masks.
    swapped : dict of str to Swapped
        ``"middle"``, and ``"mask"`` on data with a mask of the subject; empty where it was not measured.
    """

    folder: Path
    manifest: Mapping[str, Any]
    config: str
    classes: tuple[str, ...]
    weights: Interpretation | None
    selection: SelectionCurve | None
    frequencies: Stability | None
    study: AblationResult | None
    top: int
    pictures: Mapping[int, Mapping[str, Any]] | None
    examples: Mapping[str, Any] | None
    places: Localisation | None = None
    swapped: Mapping[str, Swapped] = field(default_factory=dict)

    def command(self, stage: str) -> str:
        """Return the command that runs one stage on this folder."""
        return f"interpnet {stage} {_quoted(str(self.folder))}"


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


@contextmanager
def reading(path: Path, stage: str, folder: Path) -> Iterator[None]:
    """Turn what a damaged file causes into one error that says which file and what to do."""
    try:
        yield
    except RunFolderError:
        raise
    except (AttributeError, IndexError, InterpNetError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be used ({error})"
        raise RunFolderError(
            f"{str(path)!r} {what}; delete it and run `interpnet {stage} {_quoted(str(folder))}` again"
        ) from error


def load_run(folder: Path) -> RunData:
    """Read a run folder.

    Raises
    ------
    RunFolderError
        No run folder, one of another format, or a damaged file in it.
    """
    manifest = read_json(folder / "manifest.json") if (folder / "manifest.json").is_file() else None
    if manifest is None:
        raise RunFolderError(
            f"{str(folder)!r} holds no run (no manifest.json); `interpnet audit MODEL DATA --out {folder}` makes one"
        )
    found = manifest.get("format") if isinstance(manifest, Mapping) else None
    if found != _FORMAT:
        raise RunFolderError(f"run folder {str(folder)!r} has the format {found!r}; expected {_FORMAT!r}")
    weights, named = _weights(folder)
    selection, frequencies = _choice(folder, weights)
    study = _study(folder)
    entries = _entries(folder)
    examples = _optional(folder / "explanations" / "examples.json")
    top, by_class = entries if entries is not None else (0, None)
    classes = _class_names(folder, manifest, named, study, by_class)
    config = folder / "run.toml"
    return RunData(
        folder,
        manifest,
        clean(config.read_text(encoding="utf-8", errors="replace")) if config.is_file() else "",
        classes,
        weights,
        selection,
        frequencies,
        study,
        top,
        by_class,
        examples,
        _places(folder),
        _swapped(folder),
    )


def _optional(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def _weights(folder: Path) -> tuple[Interpretation | None, Sequence[str]]:
    """Read the weights, with names that every page can hold, and the classes as the file names them."""
    path = folder / "weights" / "interpretation.npz"
    if not path.is_file():
        return None, ()
    with reading(path, "solve", folder):
        found = Interpretation.load(path)
        channels = ChannelIndex(tuple((clean(name), size) for name, size in found.channels.sizes))
        return replace(found, channels=channels), found.classes


def _choice(folder: Path, weights: Interpretation | None) -> tuple[SelectionCurve | None, Stability | None]:
    """Read what goes with the weights: how mu was chosen, and how often half of the images name each channel."""
    where = folder / "weights"
    if weights is None:
        return None, None
    selection = read_selection(where)
    if selection is not None and not math.isclose(selection.chosen, weights.mu, rel_tol=1e-9):
        raise RunFolderError(
            f"{str(where / SELECTION_FILE)!r} chose mu = {selection.chosen:g} and the weights beside it are those of "
            f"mu = {weights.mu:g}; run `interpnet solve {_quoted(str(folder))}` again"
        )
    return selection, read_frequencies(where, weights.coef.shape)


def _study(folder: Path) -> AblationResult | None:
    path = folder / "ablation" / "ablation.json"
    if not path.is_file():
        return None
    with reading(path, "ablate", folder):
        return as_result(read_json(path))


def _entries(folder: Path) -> tuple[int, dict[int, Mapping[str, Any]]] | None:
    path = folder / "explanations" / "classes.json"
    if not path.is_file():
        return None
    with reading(path, "explain", folder):
        data = read_json(path)
        return int(data["top"]), {int(entry["index"]): entry for entry in data["classes"]}


def _places(folder: Path) -> Localisation | None:
    path = folder / "explanations" / "localisation.json"
    if not path.is_file():
        return None
    with reading(path, "explain", folder):
        data = read_json(path)
        rows = [(clean(m["name"]), float(m["mean"]), float(m["sd"]), int(m["blank"])) for m in data["methods"]]
        shares = {
            (int(entry["index"]), clean(c["layer"]), int(c["index"])): {
                clean(k): None if v is None else float(v) for k, v in c["shares"].items()
            }
            for entry in data["classes"]
            for c in entry["channels"]
        }
        in_cue = {
            clean(m["name"]): None if m["cue"] is None else float(m["cue"]) for m in data["methods"] if "cue" in m
        }
        return Localisation(int(data["n_images"]), tuple(rows), shares, in_cue)


def _swapped(folder: Path) -> dict[str, Swapped]:
    path = folder / "explanations" / "surroundings.json"
    if not path.is_file():
        return {}
    with reading(path, "explain", folder):
        data = read_json(path)
        return {
            clean(name): Swapped(
                int(data["n_images"]),
                float(way["follows"]),
                float(way["keeps"]),
                {int(c["index"]): None if c["share"] is None else float(c["share"]) for c in way["classes"]},
                {
                    (int(c["index"]), clean(x["layer"]), int(x["index"])): None
                    if x["share"] is None
                    else float(x["share"])
                    for c in way["classes"]
                    for x in c["channels"]
                },
            )
            for name, way in data["ways"].items()
        }


def _class_names(
    folder: Path,
    manifest: Mapping[str, Any],
    named: Sequence[str],
    study: AblationResult | None,
    entries: Mapping[int, Mapping[str, Any]] | None,
) -> tuple[str, ...]:
    sources = {"weights/interpretation.npz": tuple(named), "ablation/ablation.json": study.classes if study else ()}
    if not any(sources.values()):
        # The model's classes; those of the data can be fewer, under other numbers.
        model = manifest.get("model") or {}
        sources["manifest.json"] = tuple(model.get("classes") or ())
    given = {name: tuple(map(str, classes)) for name, classes in sources.items() if classes}
    sizes = {name: len(classes) for name, classes in given.items()}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{count} in {name}" for name, count in sizes.items())
        raise RunFolderError(
            f"run folder {str(folder)!r} disagrees on the number of classes: {counts}; "
            f"run `interpnet audit --config {folder / 'run.toml'}` again"
        )
    if given:
        return tuple(clean(name) for name in next(iter(given.values())))
    known = {index: str(entry.get("name", index)) for index, entry in (entries or {}).items()}
    return tuple(clean(known.get(i, f"class {i}")) for i in range(max(known, default=-1) + 1))
