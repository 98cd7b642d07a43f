"""What checking a score table costs: seconds to verify a folder, against reading its files twice.

    python -m experiments.benchmarks.checksums [--gb 1] [--channels 4096] [--out FILE]

Both read the same files in the same process, alternating, with the files in the page cache: from a disk both take
longer, by the same time for each reading. ``checksums / writing`` is their share of the time of writing the table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from interpnet.engine import ChannelIndex
from interpnet.scores import ScoreTable
from interpnet.support.checksums import checksum
from interpnet.support.io import write_json

_PIECE = 2**22  # bytes, as many as the verification reads at a time
_ROUNDS = 5


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read(folder: Path) -> None:
    """Read every file of a folder and do nothing with it."""
    piece = bytearray(_PIECE)
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as handle:
            while handle.readinto(piece):
                pass


def measure(folder: Path, gigabytes: float, channels: int) -> dict[str, float]:
    """Write a table of so many gigabytes, and return the medians in seconds."""
    rows = int(gigabytes * 1e9 / (4 * channels))
    X = np.random.default_rng(0).random((rows, channels), dtype=np.float32)
    numbers = np.zeros(rows, np.int64)
    table = ScoreTable(X, numbers, numbers, ChannelIndex((("layer", channels),)), np.arange(rows), 2)
    writing = seconds(lambda: table.save(folder))
    summing = seconds(lambda: checksum(X.reshape(-1).view(np.uint8).data))
    pairs = [(seconds(lambda: read(folder)), seconds(lambda: ScoreTable.load(folder))) for _ in range(_ROUNDS)]
    reading, verifying = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(checked / (2 * plain) for plain, checked in pairs)
    return {
        "gigabytes": X.nbytes / 1e9,
        "read once": reading,
        "verify": verifying,
        "verify / read twice": ratio,
        "checksums / writing": summing / writing,
        "verify 10 GB": verifying * 1e10 / X.nbytes,
    }


def main() -> None:
    """Print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1.0, help="size of X")
    parser.add_argument("--channels", type=int, default=4096)
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.gb, given.channels)
    for name, value in found.items():
        print(f"{name:20} {value:8.3f}")
    if given.out is not None:
        write_json(given.out, found)


if __name__ == "__main__":
    main()
