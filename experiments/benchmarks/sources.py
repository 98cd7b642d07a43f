"""The same images from a folder, from tar shards and from rows of Hugging Face: images per second of one processor.

    python -m experiments.benchmarks.sources [--images 600] [--size 224] [--repeats 5] [--out results.json]

Photographs of noise and colour (JPEG, larger than ``--size``) are written to a folder, and the same bytes to shards and
rows. Each round reads all images from every source in turn: their bytes alone, and decoded, resized and normalised as
an audit does. webdataset's own reader, which decodes by the same code here, stands beside ours. The second part indexes
a shard of many tiny images: microseconds and bytes for each. Times are those of the processor: other work on the
machine disturbs the clock.
"""

from __future__ import annotations

import io
import statistics
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from experiments.benchmarks.measuring import seconds
from experiments.common.runner import command
from interpnet.datasets import ImageData, load_dataset
from interpnet.support.io import write_json

_PER_SHARD = 100
_CLASSES = 4
_INDEXED = 200_000


def photographs(folder: Path, n: int, size: int) -> list[Path]:
    """Write ``n`` JPEG files of ``size * 4 / 3`` by ``size * 5 / 3`` pixels, smooth with some noise, in classes."""
    rng = np.random.default_rng(0)
    height, width = size * 4 // 3, size * 5 // 3
    files = []
    for i in range(n):
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / f"class{i * _CLASSES // n}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)
        files.append(path)
    return files


def member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Write bytes to a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def shards(files: Sequence[Path], folder: Path) -> None:
    """Write files as shards."""
    folder.mkdir()
    for start in range(0, len(files), _PER_SHARD):
        with tarfile.open(folder / f"part-{start // _PER_SHARD:04d}.tar", "w") as tar:
            for file in files[start : start + _PER_SHARD]:
                member(tar, f"{file.stem}.jpg", file.read_bytes())
                member(tar, f"{file.stem}.cls", file.parent.name.encode())


def rows(files: Sequence[Path], folder: Path) -> None:
    """Write files as a data set of Hugging Face."""
    import datasets

    datasets.disable_progress_bars()
    names = sorted({file.parent.name for file in files})
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    made = [{"image": {"bytes": file.read_bytes(), "path": None}, "label": file.parent.name} for file in files]
    datasets.Dataset.from_list(made, features=kinds).save_to_disk(str(folder))


def reading(data: ImageData) -> Callable[[], object]:
    """Return what reads the bytes of every image, and nothing else."""
    source: Any = data._source  # noqa: SLF001 - what is measured is inside

    def read() -> None:
        for i in range(len(data)):
            content = source.encoded(i)
            if isinstance(content, Path):
                content.read_bytes()

    return read


def preparing(data: ImageData) -> Callable[[], object]:
    """Return what reads, decodes and normalises every image."""

    def read() -> None:
        for i in range(len(data)):
            data[i]

    return read


def streaming(folder: Path) -> Callable[[], object]:
    """Return what reads the shards by webdataset's own reader."""
    import webdataset

    paths = sorted(str(path) for path in folder.glob("*.tar"))

    def read() -> None:
        for _sample in webdataset.WebDataset(paths, shardshuffle=False, empty_check=False):
            pass

    return read


def indexed(folder: Path) -> dict[str, float]:
    """Index many images of 20 bytes; return microseconds and bytes for each, labels beside."""
    path = folder / "many.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(_INDEXED):
            member(tar, f"n{i % 1000:08d}_{i:07d}.jpg", b"x" * 20)
            member(tar, f"n{i % 1000:08d}_{i:07d}.cls", str(i % 1000).encode())
    found: list[Any] = []
    _, processor = seconds(lambda: found.append(_index(path)))
    index = found[0]
    return {
        "images": float(len(index)),
        "microseconds": processor / len(index) * 1e6,
        "bytes": index.nbytes / len(index),
        "bytes of labels": index.labels.values.nbytes / len(index),
    }


def _index(path: Path) -> Any:
    from importlib import import_module

    index: Any = import_module("interpnet.datasets._index")
    samples: Any = import_module("interpnet.datasets._samples")
    return samples.index_of((index.Shard.at(path),), index.Wanted())


@command(repeats="rounds, of which the median counts", images="photographs", size="pixels that an audit resizes to")
def main(images: int = 600, size: int = 224, repeats: int = 5, out: Path | None = None) -> None:
    """Print images per second of each source, and what an index costs."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        files = photographs(work / "folder", images, size)
        shards(files, work / "shards")
        rows(files, work / "rows")
        specs = {"folder": "imagefolder:", "shards": "webdataset:", "rows": "hf:"}
        data = {word: load_dataset(f"{spec}{work / word}", image_size=size) for word, spec in specs.items()}
        same = all(torch.equal(data["folder"][i][0], other[i][0]) for other in data.values() for i in range(20))
        work_of = {f"{word}, bytes": reading(one) for word, one in data.items()}
        work_of["webdataset's reader, bytes"] = streaming(work / "shards")
        work_of |= {f"{word}, prepared": preparing(one) for word, one in data.items()}
        times: dict[str, list[float]] = {word: [] for word in work_of}
        for number in range(repeats):
            for word in sorted(work_of, reverse=number % 2 == 1):
                times[word].append(seconds(work_of[word])[1])
        rates = {word: images / statistics.median(took) for word, took in times.items()}
        for word, rate in rates.items():
            print(f"{word:>28}: {rate:10,.0f} images/s")
        index = indexed(work)
        print(f"an index: {index}; the same pixels: {same}")
        size_of = statistics.mean(file.stat().st_size for file in files)
    if out is not None:
        results = {"images": images, "size": size, "bytes": size_of, "rates": rates, "seconds": times}
        write_json(out, results | {"index": index, "same": same})
