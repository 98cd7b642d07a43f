"""Folders of images as a source."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from interpnet.datasets._files import ENDINGS
from interpnet.datasets._layout import find_layout
from interpnet.datasets._sources import FolderSource, shown
from interpnet.datasets._walk import Walk, class_folders, counted, listed, subfolders
from interpnet.errors import DataError, did_you_mean


def read_folder(path: str, split: str, max_value: float | None = None) -> FolderSource:
    """List the images of one split of a folder; a folder that is missing, empty or of no known layout is a DataError.

    Labels are numbers of the training folder's classes, in sorted order.
    """
    folder = Path(path).expanduser()
    require_folder(folder, "one subfolder per class")
    layout = find_layout(folder)
    classes, above = class_folders(layout.training)
    root = layout.training
    if split != "train":
        root = layout.test
        own, above = class_folders(root)
        # Labels are numbers of training classes: a class that training lacks has none.
        foreign = sorted(set(own) - set(classes))
        if foreign:
            raise DataError(
                f"{str(root)!r} has the class {foreign[0]!r}, which {str(layout.training)!r} lacks"
                f"{did_you_mean(foreign[0], classes)}"
            )
    walk = Walk(root, again=above)
    files = walk.images(classes)
    if not files:
        raise DataError(
            f"image folder {str(root)!r} has no images in its {len(classes)} class folders; "
            f"left out there: {counted(walk.left_out) or 'nothing'}. Known endings are {', '.join(sorted(ENDINGS))}"
        )
    warned = (*walk.warnings(), *_twins(classes))
    notes = (*layout.notes, *walk.documents(), *warned)
    return FolderSource(root, files, classes, max_value=max_value, notes=notes, warned=warned)


def read_unlabelled(path: str, max_value: float | None = None) -> FolderSource:
    """List the images in a folder and below it, all with the label 0; a folder without any is a DataError."""
    folder = Path(path).expanduser()
    require_folder(folder, "images")
    walk = Walk(folder)
    files = walk.everything()
    if not files:
        raise DataError(
            f"folder {str(folder)!r} holds no image; left out there: {counted(walk.left_out) or 'nothing'}. Known "
            f"endings are {', '.join(sorted(ENDINGS))}"
        )
    warned = tuple(walk.warnings())
    notes = (*walk.documents(), *warned)
    named = [(name, 0) for name in files]
    return FolderSource(folder, named, ["any"], max_value=max_value, notes=notes, warned=warned)


def require_folder(folder: Path, what: str) -> None:
    """Refuse a path that is no folder, with the close names of those that are."""
    if folder.is_dir():
        return
    path = str(folder)
    if folder.exists():
        raise DataError(f"{path!r} is a file, expected a folder with {what}")
    near = []
    if folder.parent.is_dir():
        near = subfolders(folder.parent)
    raise DataError(f"image folder {path!r} does not exist{did_you_mean(folder.name, near)}")


def _twins(classes: Iterable[str]) -> list[str]:
    """Return a note on classes whose names differ only in case."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(name.casefold(), []).append(name)
    pairs = [listed(names) for names in groups.values() if len(names) > 1]
    if not pairs:
        return []
    return [shown(f"Classes whose names differ only in case: {'; '.join(pairs)}.")]
