"""S6: train the 400 networks, and see what each does with its cue.

    python -m experiments.cues.train [--device cuda] [--work FOLDER] [--only 0-59]
    python -m experiments.cues.train --pack OUT      # all weights in a few files
    python -m experiments.cues.train --unpack FROM   # and back into the working folder

Each network is a file of the working folder, in whose metadata its behaviour stands; one that is there is not trained
again. Several processes may train disjoint parts.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from experiments.common.runner import command
from experiments.cues.plan import Subject, build, split_of, subjects
from experiments.cues.truth import behaviour
from interpnet.errors import DataError
from interpnet.models import train
from interpnet.support.io import atomic_path

WORK = Path("runs/cues")
_BATCH = 128
EPOCHS = {"flowers": 10, "cifar10": 24, "photographs": 24, "fashion": 16, "mnist": 12}
RATE = 5e-3
_PACKS = 6  # files


class Shuffled:
    """Batches of images that stay where they are, in another order at every pass."""

    def __init__(self, images: Tensor, labels: Tensor, seed: int) -> None:
        self.images = images
        self.labels = labels.numpy()
        self.rng = np.random.default_rng([seed, 50])

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / _BATCH)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.rng.permutation(len(self.labels))
        for rows in np.array_split(order, len(self)):
            yield self.images[torch.from_numpy(rows).to(self.images.device)], torch.from_numpy(self.labels[rows])


def file_of(subject: Subject, work: Path) -> Path:
    """Return where a network is kept."""
    return work / f"network-{subject.number:03}.safetensors"


def kept_file(subject: Subject, work: Path, what: str) -> Path:
    """Return where something that was measured of a network is kept."""
    return work / f"{what}-{subject.number:03}.json"


def trained(subject: Subject, work: Path, *, device: str = "cpu", n: int | None = None) -> nn.Module:
    """Train a network and keep it, with its behaviour; one that is there is read. In evaluation mode, on ``device``."""
    file = file_of(subject, work)
    if file.exists():
        return network(subject, work).to(device)
    began = time.perf_counter()
    images, labels, _ = split_of(subject, "train", work, n=n)
    side = images.shape[2]
    model = build(subject, len(subject.pool(work).classes), side)
    # A shift would hide the place that is the cue.
    shift = 0 if subject.kind == "position" else side // 16
    loader = Shuffled(images.to(device), labels, subject.seed)
    epochs = EPOCHS[subject.source]
    train(model, loader, epochs=epochs, lr=RATE, max_shift=shift, seed=subject.seed, device=device, progress=False)
    seconds = time.perf_counter() - began
    facts = {**vars(subject), "behaviour": behaviour(model, subject, work, n=n), "seconds": round(seconds, 1)}
    _write(file, {name: value.cpu() for name, value in model.state_dict().items()}, {"subject": json.dumps(facts)})
    return model


def network(subject: Subject, work: Path) -> nn.Module:
    """Return a network that has been trained, in evaluation mode; a DataError says how to train it."""
    state, _ = _read(file_of(subject, work))
    source = subject.pool(work)
    model = build(subject, len(source.classes), source.images.shape[2])
    model.load_state_dict(state)
    return model.eval()


def facts_of(subject: Subject, work: Path) -> dict[str, Any]:
    """Return what was found when a network was trained: its plan, its behaviour, and the seconds it took."""
    _, metadata = _read(file_of(subject, work), weights=False)
    found: dict[str, Any] = json.loads(metadata["subject"])
    return found


def pack(work: Path, out: Path) -> None:
    """Write all networks of a working folder into a few files, which :func:`unpack` takes apart."""
    there = [s for s in subjects() if file_of(s, work).exists()]
    for number in range(_PACKS):
        state: dict[str, Tensor] = {}
        metadata = {}
        for subject in there[number::_PACKS]:
            own, about = _read(file_of(subject, work))
            state |= {f"{subject.number}/{name}": value for name, value in own.items()}
            metadata[str(subject.number)] = about["subject"]
        if state:
            _write(out / f"networks-{number}.safetensors", state, metadata)


def unpack(packed: Path, work: Path) -> None:
    """Write every network of packed files into a working folder."""
    for file in sorted(packed.glob("networks-*.safetensors")):
        state, metadata = _read(file)
        for subject in subjects():
            if str(subject.number) in metadata:
                start = f"{subject.number}/"
                own = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
                _write(file_of(subject, work), own, {"subject": metadata[str(subject.number)]})


def _read(file: Path, *, weights: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not file.exists():
        raise DataError(f"{file} is not here: train it with python -m experiments.cues.train --work {file.parent}")
    with safe_open(str(file), framework="pt") as handle:
        names = handle.keys() if weights else ()
        return {name: handle.get_tensor(name) for name in names}, handle.metadata()


def _write(file: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = save({name: value.contiguous() for name, value in state.items()}, metadata=metadata)
    with atomic_path(file) as part:
        part.write_bytes(content)


def chosen(only: str) -> list[Subject]:
    """Return the networks of numbers such as ``0-59`` or ``3,7,9-12``.

    Examples
    --------
    >>> [subject.number for subject in chosen("3,7-9")]
    [3, 7, 8, 9]
    """
    ranges = [part.partition("-") for part in only.split(",")]
    wanted = {number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)}
    return [subject for subject in subjects() if subject.number in wanted]


@command(
    device="where to train",
    only="the numbers of the networks, such as 0-59 or 3,7,9",
    pack_="folder to write all trained networks to, in a few files",
    unpack_="folder to read them from",
)
def main(
    *,
    device: str = "cpu",
    work: Path = WORK,
    only: str = "0-399",
    pack_: Path | None = None,
    unpack_: Path | None = None,
) -> None:
    """Train what is missing, or pack or unpack what is there."""
    if pack_ or unpack_:
        if pack_:
            pack(work, pack_)
        if unpack_:
            unpack(unpack_, work)
        return
    for subject in chosen(only):
        if not file_of(subject, work).exists():
            trained(subject, work, device=device)
            facts = facts_of(subject, work)
            found = facts["behaviour"]
            print(
                subject.number, subject.source, subject.kind, "decoy" * subject.decoy, subject.strength,
                "every" if subject.everyone else "one", subject.architecture,
                f"natural {found['natural']:.2f} absent {found['absent']:.2f} reliance {found['reliance']:+.2f}",
                f"classes {found['classes']} {facts['seconds']} s", flush=True,
            )  # fmt: skip
