"""Dissecting a network once, and keeping what was found in a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

import interpnet
from interpnet.concepts import Dissection, Strongest, dissect, strongest
from interpnet.engine import Channel, Output
from interpnet.errors import RunFolderError
from interpnet.models import ModelInfo, SmallCNN
from interpnet.support.csv_table import write_csv
from interpnet.support.io import read_object, write_json

from ..run.concept_sources import Sources, concept_sources, film_groups, located_concepts, sources_key
from ..run.config import RunConfig
from ..run.folder import digest
from ..run.images import preparation
from ..run.session import readable_memory_errors
from ..run.subject import load_network
from .settings import DissectSettings

#: What the folder holds; the last is written last.
NUMBERS = "dissection.npz"
TABLE = "dissection.csv"
PAGE = "dissection.html"
SUMMARY = "dissection.json"
_FORMAT = "interpnet-concepts-2"
_MOST_TOP = 50  # images kept of each channel, so that more can be shown later


@dataclass(frozen=True)
class Asked:
    """A network, images with concepts, and how they are compared."""

    config: RunConfig
    settings: DissectSettings
    model: nn.Module
    info: ModelInfo
    output: Output | None
    device: torch.device
    sources: Sources

    @classmethod
    def of(cls, config: RunConfig, settings: DissectSettings) -> Asked:
        """Load the network, and find the images."""
        model, info, output, device = load_network(config)
        how = {name: value for name, value in preparation(config, info.preprocessing).items() if value is not None}
        if isinstance(model, SmallCNN):
            known = model.architecture
            how = {"image_size": list(known["image_size"]), "channels": known["in_channels"]} | how
        spec = located_concepts(settings.concepts, config)
        sources = concept_sources(spec, how, config.batch_size, config.seed)
        return cls(config, settings, model, info, output, device, sources)

    @cached_property
    def key(self) -> str:
        """A digest of everything that the numbers depend on."""
        how = {**asdict(self.settings), "layers": list(self.config.layers), "seed": self.config.seed}
        for name in ("concepts", "best", "pictures"):
            del how[name]
        network = [self.info.fingerprint, self.info.code, self.info.output]
        return digest([interpnet.__version__, _FORMAT, network, sources_key(self.sources), how])

    def dissect(self) -> Dissection:
        """Run the passes."""
        settings = self.settings
        with readable_memory_errors():
            return dissect(
                self.model,
                self.sources,
                groups=film_groups(self.sources, settings.groups),
                layers=self.config.layers,
                quantile=settings.quantile,
                least=settings.least_iou,
                step=settings.step,
                draws=settings.draws,
                untrained=settings.control,
                top=_MOST_TOP,
                seed=self.config.seed,
                max_batch=self.config.batch_size,
                device=self.device,
                output=self.output,
            )

    def pictured(self, found: Dissection) -> Mapping[Channel, Strongest]:
        """Return the strongest images of the best channels of each concept."""
        channels = [channel for concept in found.concepts for channel, _ in self.best(found, concept)]
        if not channels:
            return {}
        return strongest(
            self.model,
            self.sources,
            found,
            [*dict.fromkeys(channels)],
            most=self.settings.pictures,
            max_batch=self.config.batch_size,
            device=self.device,
            output=self.output,
        )

    def best(self, found: Dissection, concept: str) -> list[tuple[Channel, float]]:
        """Return the best channels of a concept, as many as are pictured."""
        return found.detectors(concept)[: self.settings.best]


def known_numbers(folder: Path, key: str, *, fresh: bool) -> Dissection | None:
    """Return what the folder holds of the same dissection; ``None`` where it is empty, missing, or to start over.

    A :class:`RunFolderError` where it holds another dissection, or something else.
    """
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{str(folder)!r} is a file; choose a folder (--out)")
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    if not (folder / SUMMARY).is_file():
        raise RunFolderError(f"{str(folder)!r} is not empty and holds no dissection; choose another folder (--out)")
    if fresh:
        return None
    if read_object(folder / SUMMARY).get("key") != key:
        raise RunFolderError(
            f"{str(folder)!r} holds the dissection of another model or other concepts, layers or settings; give "
            "another folder (--out), or --fresh"
        )
    return Dissection.load(folder / NUMBERS)


def summary(asked: Asked, found: Dissection, notes: list[str]) -> dict[str, Any]:
    """Return what ``dissection.json`` holds and ``--json`` prints: settings, layers, the best channels of concepts."""
    concepts = []
    for c, concept in enumerate(found.concepts):
        detectors = found.detectors(concept)
        best = []
        for channel, iou in detectors[: asked.settings.best]:
            row = found.channels.position(channel)
            ends = {"low": float(found.low[row, c]), "high": float(found.high[row, c])}
            best.append({"layer": channel.layer, "index": channel.index, "iou": iou, **ends})
        concepts.append(
            {
                "concept": concept,
                "category": found.categories[c],
                "images": int(found.images_with[c]),
                "cover": float(found.cover[c]),
                "channels": len(detectors),
                "best": best,
            }
        )
    layers = [
        asdict(one) | {"floors": {name: None if math.isnan(floor) else floor for name, floor in one.floors.items()}}
        for one in found.layers()
    ]
    return {
        "format": _FORMAT,
        "key": asked.key,
        "model": asked.config.model,
        "settings": asdict(asked.settings) | {"layers": list(asked.config.layers), "seed": asked.config.seed},
        "images": found.images,
        "channels": len(found.channels),
        "named": int(found.named.sum()),
        "layers": layers,
        "concepts": concepts,
        "notes": notes,
    }


def noted(folder: Path) -> list[str]:
    """Return what a reader was told of the numbers in a folder."""
    return [str(note) for note in read_object(folder / SUMMARY).get("notes", [])]


def write_files(folder: Path, found: Dissection, summarised: Mapping[str, Any]) -> None:
    """Write the numbers, the table of every channel, and at last the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder / NUMBERS)
    rows = found.rows()
    write_csv(folder / TABLE, tuple(rows[0]), [tuple(row.values()) for row in rows])
    write_json(folder / SUMMARY, summarised)
