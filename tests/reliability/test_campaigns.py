"""A few cases of every campaign, the same each time; experiments/reliability has the long run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.reliability.campaign import BAD, GOOD, Draw, verdict
from experiments.reliability.processes import Ended
from experiments.reliability.run import CAMPAIGNS, campaign

ROOT = Path(__file__).resolve().parents[2]
# Seconds count: the cases of all campaigns together take as long as five commands a user would start.
CASES = {
    "corruptions": 12,
    "kills": 2,
    "signals": 1,
    "concurrency": 1,
    "odd_inputs": 30,
    "odd_commands": 12,
    "hostile_files": 5,
    "leaks": 1,
    "determinism": 1,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """What a small run of each campaign found; it forks, so it has a process of its own, with one thread."""
    out = tmp_path_factory.mktemp("campaigns")
    found = {}
    for names, n in ((list(CAMPAIGNS), 0),):
        del names, n
    for name, n in CASES.items():
        found[name] = n
    plan = json.dumps(found)
    code = (
        "import json, sys\n"
        "from experiments.reliability.run import run\n"
        "for name, n in json.loads(sys.argv[1]).items():\n"
        "    run([name], n, 1, sys.argv[2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, plan, str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: json.loads((out / f"{name}.json").read_text()) for name in CASES}
