"""Places of shards: folders, patterns with braces and stars, what options follow them, and which shards are a split."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interpnet.datasets._sources import shown
from interpnet.datasets._splits import pair_of, split_name
from interpnet.datasets._walk import is_junk, listed, subfolders
from interpnet.errors import DataError, did_you_mean

#: What may follow a place: ``?test=PATTERN&labels=json``.
OPTIONS = ("test", "inputs", "labels")
_OPTION = re.compile(r"[?&](?=\w+=)")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(?:pipe|gs|s3|http|https|hdfs|ais|gopen):")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_WILD = re.compile(r"[*?\[]")
#: What datasets.save_to_disk leaves in the folder of one split, and in that of several.
SAVED = ("state.json", "dataset_dict.json")
_WORDS = {".csv": "csv", ".tar": "webdataset", ".parquet": "hf", ".arrow": "hf"}
_MOST_SHARDS = 1_000_000


@dataclass(frozen=True)
class Place:
    """A place with its options."""

    pattern: str
    options: Mapping[str, str]


@dataclass(frozen=True)
class Splits:
    """The shards of the training and of the test images; the same where there are no splits."""

    train: tuple[Path, ...]
    test: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def of(self, split: str) -> tuple[Path, ...]:
        """Return the shards of ``"train"`` or ``"test"``."""
        if split == "train":
            return self.train
        return self.test


def parsed(text: str) -> Place:
    """Split options off a place; one that is unknown, empty or there twice is a :class:`DataError`.

    Examples
    --------
    >>> parsed("a/train-?.tar?labels=json&test=a/val.tar").options
    {'labels': 'json', 'test': 'a/val.tar'}
    """
    pattern, *parts = _OPTION.split(text)
    options: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition("=")
        if name not in OPTIONS:
            raise DataError(
                f"{text!r} has the option {name!r}; expected {', '.join(OPTIONS)}{did_you_mean(name, OPTIONS)}"
            )
        if name in options or not value:
            raise DataError(f"{text!r} has the option {name!r} twice or without a value; expected {name}=VALUE once")
        options[name] = value
    if not pattern:
        raise DataError(f"{text!r} has no path before its options")
    return Place(pattern, options)


def located(text: str, folder: str | None) -> str:
    """Return a place as it can be opened from here: relative ones are tried here first, then from ``folder``.

    Examples
    --------
    >>> located("shards/{000..003}.tar?labels=json", None)
    'shards/{000..003}.tar?labels=json'
    """
    if folder is None:
        return text
    place = parsed(text)
    options = dict(place.options)
    patterns = {"": place.pattern}
    # Of a data set with splits of its own, it is the name of one.
    if "/" in options.get("test", ""):
        patterns["test"] = options["test"]
    for name, pattern in patterns.items():
        there = str(Path(folder) / pattern)
        if not _is_there(pattern) and _is_there(there):
            patterns[name] = there
    options |= {name: pattern for name, pattern in patterns.items() if name}
    first = patterns[""]
    if not options:
        return first
    return f"{first}?" + "&".join(f"{name}={value}" for name, value in options.items())


def _is_there(pattern: str) -> bool:
    """Whether a path exists, or one that a pattern stands for."""
    return any(path.exists() or _matches(path) for path in _paths(pattern))


def shard_files(pattern: str, endings: Sequence[str]) -> list[Path]:
    """Return the files of a place in their order; none, one that is missing, or there twice is a :class:`DataError`.

    A folder stands for its files of these endings, and for those in its subfolders that are named as splits;
    ``{000..146}`` and ``{a,b}`` stand for several names, in this order; ``*``, ``?``, ``[...]`` and ``**`` for the
    files that they match, in the order of their names.
    """
    if _REMOTE.match(pattern):
        raise DataError(
            f"{pattern!r} is not on this machine; copy the shards to a disk first, or stream them by a function of "
            "your own (data.py:loaders)"
        )
    found: list[Path] = []
    missing: list[Path] = []
    for path in _paths(pattern):
        if path.is_dir():
            found += _in_folder(path, endings)
        elif path.exists():
            found.append(path)
        elif _WILD.search(str(path)):
            found += _matches(path)
        else:
            missing.append(path)
    wanted = f"expected shards ({', '.join(endings)})"
    if missing:
        raise DataError(
            f"{len(missing)} of {len(missing) + len(found)} shards of {pattern!r} are not there; the first is "
            f"{str(missing[0])!r}{_near(missing[0])}"
        )
    if not found:
        word = word_for(Path(pattern))
        hint = ""
        if word is not None:
            hint = f"; did you mean '{word}:{pattern}'?"
        raise DataError(f"{pattern!r} matches no file; {wanted}{hint}")
    odd = next((file for file in found if not file.is_file()), None)
    if odd is not None:
        raise DataError(f"{str(odd)!r} is no file; {wanted}")
    if len(set(found)) < len(found):
        twice = next(file for file in found if found.count(file) > 1)
        raise DataError(f"{pattern!r} names the shard {str(twice)!r} twice; its images would count twice")
    return found


def word_for(place: Path) -> str | None:
    """Return the word that stands before such a file or folder; None where there is neither.

    Examples
    --------
    >>> word_for(Path("a/train.parquet")), word_for(Path("no/such/folder"))
    ('hf', None)
    """
    names = [place.name]
    if place.is_dir():
        names = [entry.name for entry in sorted(place.iterdir())]
    for name in names:
        if name in SAVED:
            return "hf"
        word = _WORDS.get(Path(name).suffix.lower())
        if word is not None and (word != "csv" or place.is_file()):
            return word
    if place.is_dir():
        return "imagefolder"
    return None


def splits_of(place: Place, endings: Sequence[str]) -> Splits:
    """Tell the shards of the training and of the test images, by the option ``test`` or by names.

    Names are those of docs/data.md, in the file's name or else that of its folder: ``imagenet-train-000.tar`` and
    ``imagenet-val-000.tar``, or ``train/000.tar`` and ``val/000.tar``.
    """
    files = shard_files(place.pattern, endings)
    if "test" in place.options:
        tests = shard_files(place.options["test"], endings)
        both = sorted(str(file) for file in set(files) & set(tests))
        if both:
            raise DataError(
                f"the shard {both[0]!r} is in both the training and the test images; expected different ones"
            )
        return Splits(tuple(files), tuple(tests))
    named: dict[str, list[Path]] = {}
    for file in files:
        named.setdefault(_split_text(file), []).append(file)
    training, tests_in_order = pair_of(list(named))
    if len(training) == 1 and tests_in_order:
        kept = [training[0], tests_in_order[0]]
        left = [name for name in named if name not in kept]
        notes = []
        if left:
            shards = [str(file.name) for name in left for file in named[name]]
            notes.append(shown(f"Shards that belong to neither the training nor the test: {listed(shards)}."))
        return Splits(tuple(named[kept[0]]), tuple(named[kept[1]]), tuple(notes))
    if len(named) > 1 and any(named):
        several = [f"{files[0].name} ({len(files)})" for files in named.values()]
        raise DataError(
            f"the shards of {place.pattern!r} are of several kinds and no pair of training and test: "
            f"{listed(several)}; give a pattern of the training's, and ?test=PATTERN of the test's"
        )
    return Splits(tuple(files), tuple(files))


def _split_text(file: Path) -> str:
    """Return the words of a shard's name, or else of its folder's, that name a split; empty where neither does."""
    stem = file.name
    while Path(stem).suffix:
        stem = Path(stem).stem
    for text in (re.sub(r"\d+", "", stem), file.parent.name):
        if split_name(text) is not None:
            return text
    return ""


def _paths(pattern: str) -> Iterator[Path]:
    """Yield what braces stand for; a path that exists as written is that one."""
    path = Path(pattern).expanduser()
    if path.exists():
        yield path
        return
    todo = [str(path)]
    n = 0
    while todo:
        text = todo.pop()
        braces = next((found for found in _BRACES.finditer(text) if _words(found[1])), None)
        if braces is not None:
            before = text[: braces.start()]
            todo += [f"{before}{word}{text[braces.end() :]}" for word in reversed(_words(braces[1]))]
            continue
        n += 1
        yield Path(text)
    if n > _MOST_SHARDS:
        raise DataError(f"{pattern!r} stands for {n} shards; expected at most {_MOST_SHARDS}")


def _words(inner: str) -> list[str]:
    """Return what the inner of braces stands for; nothing where it is plain text."""
    span = _RANGE.fullmatch(inner)
    if span is None:
        return inner.split(",") if "," in inner else []
    first, last = int(span[1]), int(span[2])
    width = 0
    if span[1].startswith("0") or span[2].startswith("0"):
        width = max(len(span[1]), len(span[2]))
    if not first <= last < first + _MOST_SHARDS:
        raise DataError(f"{{{inner}}} stands for {last - first + 1} shards; expected 1 to {_MOST_SHARDS}, rising")
    return [str(number).zfill(width) for number in range(first, last + 1)]


def _matches(path: Path) -> list[Path]:
    """Return what the stars of a path match, in the order of names: that of a folder is another on every disk."""
    found = glob.glob(str(path), recursive=True)  # noqa: PTH207 - a Path's own glob takes no absolute patterns
    return [Path(name) for name in sorted(found) if not is_junk(Path(name).name)]


def _in_folder(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Return the shards of a folder, or those of its subfolders that are named as splits."""
    here = _shards(folder, endings)
    if here:
        return here
    named = [name for name in subfolders(folder) if split_name(name) is not None]
    return [file for name in named for file in _shards(folder / name, endings)]


def _shards(folder: Path, endings: Sequence[str]) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.name.lower().endswith(tuple(endings)) and not is_junk(file.name) and file.is_file()
    )


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
