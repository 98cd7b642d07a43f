"""Kill processes of an audit at random moments, go on with another number of them, and compare with an undisturbed run.

    PYTHONPATH=tests python -m helpers.kills --kills 30 --out experiments/benchmarks/kills.json

Every process is started by torchrun. Each time one of them, or all of them with torchrun, gets ``kill -9`` after a
random time. A run that comes to its end is compared with that of one process: the same files, numbers to 1e-12.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from helpers.same_runs import check_same

_SETTINGS = ["--max-images", "800", "--repeats", "4", "--batch-size", "16", "--examples", "3", "--seed", "1"]
_ENDS_WITHIN = 60.0  # seconds after the kill of one of them
_REPORT = frozenset({"manifest.json", "report/index.html"})  # which hold times


def command(weights: Path, out: Path, world: int) -> list[str]:
    """Return the words that start an audit in so many processes."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    audit = ["-m", "interpnet", "audit", "smallcnn", "digits", "--weights", str(weights), "--out", str(out)]
    return [sys.executable, *start, *audit, *_SETTINGS]


def workers(agent: int) -> list[int]:
    """Return the processes that torchrun started."""
    path = Path(f"/proc/{agent}/task/{agent}/children")
    if not path.exists():
        return []
    return [int(number) for number in path.read_text().split()]


def killed(words: list[str], after: float, which: str, draw: np.random.Generator) -> tuple[str, float, str]:
    """Start a command and kill a process of it; return how that ended, how long it took to end, and what was said."""
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as printed:
        agent = subprocess.Popen(words, stdout=printed, stderr=printed, start_new_session=True)
        while agent.poll() is None and time.monotonic() - begun < after:
            time.sleep(0.05)
        how = "complete"
        if agent.poll() is None:
            how = which
            if which == "all":
                for process in workers(agent.pid):
                    os.kill(process, signal.SIGKILL)
                agent.kill()
            else:
                os.kill(int(draw.choice(workers(agent.pid))), signal.SIGKILL)
        hit = time.monotonic()
        code = agent.wait(_ENDS_WITHIN)
        if (code == 0) != (how == "complete"):
            how = f"exit code {code} after {how}"
        printed.seek(0)
        said = [line for line in printed.read().splitlines() if "ended early" in line or line.startswith("error:")]
    return how, time.monotonic() - hit, said[0] if said else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=25.0, help="seconds until a kill, at most")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    draw = np.random.default_rng(given.seed)
    folder = Path(tempfile.mkdtemp())
    weights = folder / "digits.safetensors"
    words = ["train", "digits", "--out", str(weights), "--epochs", "4", "--seed", "0"]
    subprocess.run([sys.executable, "-m", "interpnet", *words], check=True, stdout=subprocess.DEVNULL)
    alone = folder / "alone"
    subprocess.run(command(weights, alone, 1), check=True, capture_output=True)
    runs: list[dict[str, Any]] = []
    kills = 0
    compared = 0
    out = folder / "run"
    while kills < given.kills:
        world = int(draw.integers(1, 5))
        after = float(draw.uniform(5.0, given.longest))
        which = str(draw.choice(["one", "one", "all"]))
        stage = ""
        how, seconds, said = killed(command(weights, out, world), after, which, draw)
        if (out / "manifest.json").exists():
            stages = json.loads((out / "manifest.json").read_text())["stages"]
            stage = " ".join(name for name, entry in stages.items() if entry["state"] != "complete")
        runs.append({"processes": world, "after": round(after, 1), "killed": how, "ended": round(seconds, 1)})
        runs[-1] |= {"stage": stage, "said": said}
        print(runs[-1], flush=True)
        kills += how in {"one", "all"}
        if how == "complete" or kills == given.kills:
            if how != "complete":
                subprocess.run(command(weights, out, int(draw.integers(1, 4))), check=True, capture_output=True)
            check_same(alone, out, _REPORT)
            compared += 1
            shutil.rmtree(out)
    found = {
        "kills": kills,
        "runs compared": compared,
        "slowest end after a kill, s": max(run["ended"] for run in runs if run["killed"] == "one"),
        "unexpected": [run for run in runs if run["killed"] not in {"one", "all", "complete"}],
        "runs": runs,
    }
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
