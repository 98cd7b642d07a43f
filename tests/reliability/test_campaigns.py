"""A few cases of every campaign of experiments/reliability, the same each time, and how they are judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.reliability.campaign import BAD, GOOD, Draw, verdict
from experiments.reliability.processes import Ended
from experiments.reliability.run import CAMPAIGNS

ROOT = Path(__file__).resolve().parents[2]
# Half a second for each of the first four, a tenth for the others.
CASES = {
    "corruptions": 4,
    "kills": 1,
    "signals": 1,
    "concurrency": 1,
    "odd_inputs": 12,
    "odd_commands": 6,
    "hostile_files": 2,
    "leaks": 1,
    "determinism": 1,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """What a small run of each campaign found. It forks, so it has a process of its own with one thread."""
    out = tmp_path_factory.mktemp("campaigns")
    code = "import json, sys; from experiments.reliability.run import CAMPAIGNS, run\n"
    code += "sys.exit(run(CAMPAIGNS, json.loads(sys.argv[1]), 4, sys.argv[2]))"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(CASES), str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return {name: json.loads((out / f"{name}.json").read_text()) for name in CASES}


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_nothing_bad_happens(name, records):
    assert len(records[name]) == CASES[name]
    assert [record for record in records[name] if record["verdict"] not in GOOD] == []


def test_cases_depend_on_campaign_seed_and_number_only():
    table = list("abcdef")
    first = [Draw("kills", 0, number).of(table) for number in range(12)]
    assert sorted(first[:6]) == sorted(first[6:]) == table  # all of them before one comes again
    assert first[:6] != first[6:]
    assert [Draw("kills", 0, number).of(table) for number in reversed(range(12))] == first[::-1]
    assert Draw("kills", 0, 3).random.random() == Draw("kills", 0, 3).random.random()
    assert len({Draw(name, seed, 3).random.random() for name in ("kills", "leaks") for seed in (0, 1)}) == 4


@pytest.mark.parametrize(
    ("code", "out", "err", "fate"),
    [
        (0, "report: x\n", "", "done"),
        (2, "", "error: --mu is 0\n", "refused"),
        (130, "", "interrupted\n", "interrupted"),
        (2, "", "", "unclear"),
        (2, "", "error: one\nand another line\n", "unclear"),
        (1, "", "error: this is a bug\n", "unclear"),
        (0, "", "Exception ignored in: x\nTraceback (most recent call last):\n", "internal error"),
        (-11, "", "", "internal error"),
    ],
)
def test_how_a_command_ended(code, out, err, fate):
    assert Ended(code, out, err).fate == fate


def test_a_process_that_hangs_is_ended_and_said_to_hang(tmp_path):
    assert Ended(-9, "", "", hung=True).fate == "hang"


def test_a_word_that_is_no_verdict_is_refused():
    assert not set(GOOD) & set(BAD)
    with pytest.raises(ValueError, match="'fine' is no verdict"):
        verdict("kills", "fine")
