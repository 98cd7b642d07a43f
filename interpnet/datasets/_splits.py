"""Names of folders that hold a split of a data set, as public data sets have them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# In order of preference for the images of the test.
_KINDS = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst"),
    "val": ("val", "valid", "validation", "validate"),
    "dev": ("dev", "devel", "development"),
    "eval": ("eval", "evaluation"),
    "holdout": ("holdout",),
}
TEST_KINDS = tuple(kind for kind in _KINDS if kind != "train")
_FILLERS = ("set", "sets", "data", "dataset", "images", "image", "imgs", "img", "folder", "split", "samples", "photos")
_WORD = re.compile(
    f"(?:({'|'.join(word for words in _KINDS.values() for word in words)}))(?:{'|'.join(_FILLERS)})?", re.IGNORECASE
)
_KIND_OF = {word: kind for kind, words in _KINDS.items() for word in words}


@dataclass(frozen=True)
class SplitName:
    """What the name of a folder says."""

    kind: str  # "train", "test", "val", "dev", "eval" or "holdout"
    rest: tuple[str, ...]  # its other words: ("seg",) of "seg_train"


def split_name(name: str) -> SplitName | None:
    """Read the name of a folder as that of a split, whatever its case and separators; None where it is none.

    Examples
    --------
    >>> split_name("Training_Set"), split_name("seg-test").rest, split_name("strain")
    (SplitName(kind='train', rest=()), ('seg',), None)
    """
    # "trainImages" is two words.
    words = re.split(
        r"[\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).strip().lower().replace("hold-out", "holdout")
    )
    found = [(word, match) for word in words if (match := _WORD.fullmatch(word))]
    if len(found) != 1:
        return None
    word, match = found[0]
    rest = tuple(other for other in words if other and other != word and other not in _FILLERS)
    return SplitName(_KIND_OF[match[1].lower()], rest)


def pair_of(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the folders named for training, and those for testing in order of preference, of one and the same set.

    Only folders with the same other words make a pair: ``seg_train`` and ``seg_test``. Of several sets, the one
    without other words counts; where there is none, none is chosen.

    Examples
    --------
    >>> pair_of(["VAL", "pred", "Test", "Train"])
    (['Train'], ['Test', 'VAL'])
    """
    read = {name: found for name in names if (found := split_name(name)) is not None}
    pairs: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}
    for rest in {found.rest for found in read.values()}:
        training = [name for name, found in read.items() if found.rest == rest and found.kind == "train"]
        tests = [
            name for kind in TEST_KINDS for name, found in read.items() if found.rest == rest and found.kind == kind
        ]
        if training and tests:
            pairs[rest] = training, tests
    if len(pairs) == 1:
        return next(iter(pairs.values()))
    return pairs.get((), ([], []))
