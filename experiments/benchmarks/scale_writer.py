"""What a score table of very many rows costs beside its rows: memory, and the bytes of state.json.

``python -m experiments.benchmarks.scale_writer`` writes ``scale_writer.json``. Ten million rows of a few channels are
written in the blocks that a collection commits, read again with their checksums, and their column means taken: what
grows with the number of rows, and not with that of the channels, shows at any width.
"""

from __future__ import annotations

import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.measuring import kibibytes
from experiments.common.runner import command
from interpnet.engine import ChannelIndex
from interpnet.scores import ScoreTable
from interpnet.support.io import write_json

OUT = Path(__file__).with_suffix(".json")
_COMMIT = 2048


def _measured(folder: Path, rows: int, m: int) -> dict[str, Any]:
    # What a collection writes with; no part of the library's face.
    scores: Any = import_module("interpnet.scores._table")
    writer = scores.ScoreWriter(folder, ChannelIndex((("a", m),)), 1000, key="k", info={})
    block = np.random.default_rng(0).random((_COMMIT, m), dtype=np.float32)
    before = kibibytes("VmHWM")
    state_bytes = 0
    clock = time.perf_counter()
    for start in range(0, rows, _COMMIT):
        indices = np.arange(start, min(start + _COMMIT, rows))
        n = len(indices)
        writer.append(block[:n], indices % 1000, indices % 1000, indices)
        writer.commit(start + n)
        state_bytes += (folder / "state.json").stat().st_size
    writer.finish()
    written = time.perf_counter() - clock
    after = kibibytes("VmHWM")
    clock = time.perf_counter()
    table = ScoreTable.load(folder)
    loaded = time.perf_counter() - clock
    opened = kibibytes("VmHWM")
    clock = time.perf_counter()
    table.channel_means()
    means = time.perf_counter() - clock
    return {
        "rows": rows,
        "channels": m,
        "rows_of_a_commit": _COMMIT,
        "writing": {
            "seconds": round(written, 1),
            "memory_beside_the_block_mib": round((after - before) / 1024, 1),
            "bytes_of_state_json_at_the_end": (folder / "state.json").stat().st_size,
            "bytes_of_state_json_of_all_commits": state_bytes,
            "bytes_of_rows": rows * (4 * m + 24),
        },
        "opening_with_checksums": {"seconds": round(loaded, 1), "memory_mib": round((opened - after) / 1024, 1)},
        "channel_means": {
            "seconds": round(means, 1),
            "memory_mib": round((kibibytes("VmHWM") - opened) / 1024, 1),
        },
    }


@command(rows="of the table", channels="numbers in a row")
def main(*, rows: int = 10_000_000, channels: int = 16) -> None:
    """Measure and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        found = _measured(Path(folder), rows, channels)
    write_json(OUT, found)
    print(found)
