"""A walk over folders of images: each real folder once, with what is left out counted and named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from interpnet.datasets._files import DOCUMENTS, ENDINGS, ending_of, is_image
from interpnet.datasets._sources import shown
from interpnet.errors import DataError

# Left by systems and tools in any folder; nobody means them.
_JUNK_FOLDERS = {"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
_JUNK_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
_SHOWN = 5  # names in a message


def subfolders(folder: Path) -> list[str]:
    """Return the names of a folder's subfolders in sorted order, without hidden ones and those that tools leave."""
    return sorted(entry.name for entry in entries(str(folder)) if is_folder(entry) and not is_junk(entry.name))


def entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what a folder holds, in sorted order; one that cannot be read is a DataError."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        # Passed over, its images would be missing without a word.
        raise DataError(f"folder {folder!r} cannot be read: {error.strerror or error}") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_junk(name: str) -> bool:
    """Whether a name is that of a hidden file or folder, or of one that systems and tools leave."""
    # macOS leaves '._name.jpg' files beside the true ones on foreign disks.
    return name.startswith(".") or name in _JUNK_FOLDERS or name.lower() in _JUNK_FILES


def class_folders(root: Path) -> tuple[list[str], list[str]]:
    """Return the class folders of ``root``, and those left out because they are links to it or to a folder above."""
    above = _folders_above(root)
    known: dict[tuple[int, int], str] = {}
    links = []
    for name in subfolders(root):
        identity = _identity(str(root / name))
        if identity in above:
            links.append(name)
        elif identity in known:
            raise DataError(
                f"the class folders {known[identity]!r} and {name!r} of {str(root)!r} are one folder: its images "
                "would belong to both classes; remove one of the two"
            )
        else:
            known[identity] = name
    return list(known.values()), links


def _folders_above(root: Path) -> set[tuple[int, int]]:
    real = root.resolve()
    return {_identity(str(folder)) for folder in (real, *real.parents)}


@dataclass
class Walk:
    """One walk over ``root``, or its class folders: each real folder once, wherever links lead."""

    root: Path
    left_out: Counter[str] = field(default_factory=Counter)  # files by their ending
    again: list[str] = field(default_factory=list)  # links to folders that are read elsewhere
    copies: list[str] = field(default_factory=list)  # links to images of the set

    def images(self, classes: Sequence[str]) -> list[tuple[str, int]]:
        """Return the images below the folders of ``classes``: path below the root with forward slashes, and label."""
        # The test may lack a class of the training.
        tops = {name: label for label, name in enumerate(classes) if (self.root / name).is_dir()}
        self._seen = _folders_above(self.root) | {_identity(str(self.root / name)) for name in tops}
        self._linked: list[str] = []
        # Texts, because a Path for each of a million files takes seconds.
        prefix = str(self.root).rstrip(os.sep) + os.sep
        files: list[tuple[str, int]] = []
        for name, label in tops.items():
            paths = self._below(prefix + name)
            files += [(path.removeprefix(prefix).replace(os.sep, "/"), label) for path in paths]
        self._count_root()
        if self._linked:
            self._compare(files)
        return files

    def everything(self) -> list[str]:
        """Return the paths below the root, with forward slashes, of all images in it and below it."""
        self._seen = _folders_above(self.root)
        self._linked = []
        top = str(self.root)
        prefix = top.rstrip(os.sep) + os.sep
        names = [path.removeprefix(prefix).replace(os.sep, "/") for path in self._below(top)]
        if self._linked:
            self._compare([(name, 0) for name in names])
        return names

    def _below(self, top: str) -> list[str]:
        """Return the paths of the images in a folder and below it, folder by folder in sorted order."""
        rows: list[tuple[str, list[str]]] = []
        todo = [top]
        linked: list[str] = []
        # Links come last, so that a folder has its own name rather than that of a link to it.
        while todo or linked:
            here = (todo or linked).pop()
            if here != top and not self._is_new(here):
                continue
            names = []
            for entry in entries(here):
                if is_junk(entry.name):
                    continue
                if is_folder(entry):
                    (todo, linked)[entry.is_symlink()].append(entry.path)
                elif self._is_wanted(entry):
                    names.append(entry.path)
            rows.append((here, names))
        return [path for _here, names in sorted(rows) for path in names]

    def _is_new(self, folder: str) -> bool:
        identity = _identity(folder)
        if identity in self._seen:
            self.again.append(os.path.relpath(folder, self.root))
            return False
        self._seen.add(identity)
        return True

    def _is_wanted(self, entry: os.DirEntry[str]) -> bool:
        if not is_image(entry.path, entry.name):
            self.left_out[ending_of(entry.name) or "without ending"] += 1
            return False
        if entry.is_symlink():
            self._linked.append(entry.path)
        return True

    def _count_root(self) -> None:
        for entry in entries(str(self.root)):
            if not is_folder(entry) and not is_junk(entry.name) and ending_of(entry.name) in ENDINGS:
                self.left_out["images outside of the class folders"] += 1

    def _compare(self, files: Sequence[tuple[str, int]]) -> None:
        """Find links whose image is in the set a second time."""
        linked = set(self._linked)
        plain = {f"{self.root}{os.sep}{name}" for name, _label in files} - linked
        known = {os.path.realpath(path) for path in plain}
        for path in self._linked:
            target = os.path.realpath(path)
            if target in known:
                self.copies.append(os.path.relpath(path, self.root))
            known.add(target)

    def documents(self) -> list[str]:
        """Return a note on what was left out, where that is text and the like, which nobody takes for images."""
        if not self.left_out or set(self.left_out) - DOCUMENTS:
            return []
        return [shown(f"Files left out of {str(self.root)!r}: {counted(self.left_out)}.")]

    def warnings(self) -> list[str]:
        """Return what a user must know: what was left out, and what is there twice."""
        texts = []
        if set(self.left_out) - DOCUMENTS:
            text = f"Files left out of {str(self.root)!r} ({sum(self.left_out.values())}): {counted(self.left_out)}."
            if {".heic", ".heif"} & set(self.left_out):
                text += " Pillow cannot read HEIC: convert these files to JPEG or PNG."
            texts.append(text)
        if self.again:
            texts.append(
                f"Links to folders that are read already, or lie above, are not followed ({len(self.again)}): "
                f"{listed(self.again)}."
            )
        if self.copies:
            texts.append(
                f"Links to images that the set holds already count as images of their own ({len(self.copies)}): "
                f"{listed(self.copies)}."
            )
        return [shown(text) for text in texts]


def _identity(folder: str) -> tuple[int, int]:
    status = Path(folder).stat()
    return status.st_dev, status.st_ino


def counted(counts: Counter[str]) -> str:
    """Return ``"5 .heic, 3 .txt"``."""
    return ", ".join(f"{count} {what}" for what, count in counts.most_common())


def listed(names: Sequence[str]) -> str:
    """Return names in quotes; of more than five, the number of the others."""
    text = ", ".join(map(repr, names[:_SHOWN]))
    if len(names) > _SHOWN:
        text += f" and {len(names) - _SHOWN} more"
    return text
