"""Images with concepts, a folder's or generated ones, prepared as a network wants its images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpnet.datasets import ConceptFolder, GeneratedConcepts, concept_folders, generated_concepts
from interpnet.errors import InterpNetError

from .config import RunConfig
from .field import as_trained
from .folder import digest

if TYPE_CHECKING:
    from .session import Session

#: What ``CONCEPTS`` says in the place of a folder.
GENERATED = "generated"
_MEMO = "concepts"
_PREPARED = ("channels", "image_size", "crop", "mean", "std")

Sources = Mapping[str, ConceptFolder | GeneratedConcepts]


def concept_sources(spec: str, how: Mapping[str, Any], batch_size: int, seed: int) -> Sources:
    """Return the loaders of a folder's categories, or generated ones; ``how`` images become inputs.

    ``spec`` is a path, ``"generated"``, or some kinds of these, ``"generated:edges,shapes"``. A :class:`DataError` for
    a folder that is none, and where nobody says how large generated images are to be.
    """
    known = {name: how[name] for name in _PREPARED if how.get(name) is not None}
    word, _, kinds = spec.partition(":")
    if word != GENERATED:
        return concept_folders(spec, batch_size=batch_size, **known)
    size = known.pop("crop", None) or known.pop("image_size", None)
    known.pop("image_size", None)
    if size is None:
        raise InterpNetError(
            "--image-size is missing: the model does not say how large its images are, and generated ones need a size; "
            "for example --image-size 224"
        )
    wanted = [kind.strip() for kind in kinds.split(",")] if kinds else None
    return generated_concepts(size, kinds=wanted, batch_size=batch_size, seed=seed, **known)


def located_concepts(spec: str, config: RunConfig) -> str:
    """Return what names the concepts, a folder as it can be opened from here."""
    if spec.partition(":")[0] == GENERATED:
        return spec
    return str(Path(config.path(spec)).expanduser())


def concepts_of(session: Session) -> Sources | None:
    """Return the images with concepts, found once; ``None`` where the settings name none.

    A :class:`DataError` for a folder that is none, or where nobody knows how image files become inputs.
    """
    config = session.config
    if not config.concepts:
        return None
    if _MEMO not in session.memo:
        how = as_trained(session.loaded.train.data)
        spec = located_concepts(config.concepts, config)
        session.memo[_MEMO] = concept_sources(spec, how, config.batch_size, config.seed)
    found: Sources = session.memo[_MEMO]
    return found


def sources_key(sources: Sources) -> str:
    """Return a digest of what the sources yield: of files their names, sizes and times of change."""
    return digest([[name, *_facts(source)] for name, source in sources.items()])


def _facts(source: ConceptFolder | GeneratedConcepts) -> list[Any]:
    known = {entry.name: getattr(source, entry.name) for entry in fields(source)}
    known["preprocessing"] = source.preprocessing.settings()
    del known["batch_size"]
    if isinstance(source, ConceptFolder):
        known["files"] = [
            [[_stamp(path) for path in (one.image, *(mask for _, mask in one.masks))], sorted(one.shows)]
            for one in source.files
        ]
    return [known]


def _stamp(path: Any) -> list[Any]:
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def film_groups(sources: Sources, pattern: str | None) -> dict[str, list[str | None]] | None:
    """Return which images belong together: those in whose files' names a pattern finds the same.

    An :class:`InterpNetError` for what is no pattern, or finds nothing in any name.
    """
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InterpNetError(f"--groups is {pattern!r}, which is no regular expression: {error}") from error
    found = {
        name: [_found(compiled, one.image.stem) for one in source.files]
        for name, source in sources.items()
        if isinstance(source, ConceptFolder)
    }
    found = {name: groups for name, groups in found.items() if any(group is not None for group in groups)}
    if not found:
        raise InterpNetError(
            f"--groups is {pattern!r}, which is found in the name of no image; expected a regular expression of what "
            "images have in common that belong together, such as '^[^_]+' for what stands before the first _"
        )
    return found


def _found(pattern: re.Pattern[str], name: str) -> str | None:
    match = pattern.search(name)
    if match is None:
        return None
    return " ".join(match.groups()) if pattern.groups else match[0]
