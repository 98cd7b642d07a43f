"""Write a small folder with what M2 reads of the shared one, to run it on another machine.

    python -m experiments.measures.carry FOLDER

Archives keep the names of all their files, and the contents of those that are read.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from experiments.common.runner import command
from experiments.common.shared_data import shared_data
from experiments.measures.subjects import CIFAR, SAMPLES, TINY, names_in

WHOLE = (
    "imagenet/squeezenet1_0.safetensors",
    "cifar10/resnet20.safetensors",
    "cifar10/resnet56.safetensors",
    "tiny_imagenet/boxes.csv",
    "tiny_imagenet/classes.csv",
)


@command(folder="where the small copy is written")
def main(*, folder: Path) -> None:
    """Write the folder and say how large each file is."""
    for name in WHOLE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared_data() / name, folder / name)
    for name in (SAMPLES, TINY, CIFAR):
        read = {file for file, _ in names_in(name)}
        with tarfile.open(shared_data() / name) as archive, tarfile.open(folder / name, "w") as copy:
            for member in archive.getmembers():
                if member.isfile() and member.name not in read:
                    member.size = 0
                    copy.addfile(member)
                else:
                    copy.addfile(member, archive.extractfile(member) if member.isfile() else None)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            print(f"{file.stat().st_size / 2**20:8.2f} MiB", file.relative_to(folder))
