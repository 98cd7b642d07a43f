"""Kill processes of an audit at random moments, go on with another number of them, and compare with an undisturbed run.

    PYTHONPATH=tests python -m helpers.kills --kills 30 --out experiments/benchmarks/kills.json
    PYTHONPATH=tests python -m helpers.kills --kills 5 --torchrun --out experiments/benchmarks/kills_torchrun.json

Each time one of the processes, or all of them at once, ends after a random time as ``kill -9`` ends it: every stage of
a network of a few numbers in forked processes, or an audit of digits that torchrun starts. A run that comes to its end
is compared with that of one process: the same files, numbers to 1e-12.
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

from helpers.processes import in_processes
from helpers.same_runs import check_same
from helpers.tiny_run import through, tiny_session
from interpnet.errors import LostRankError
from interpnet.support.ranks import ranks_of

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


def tiny(folder: str, victims: list[int], after: float) -> str:
    """Run every stage but the report in the processes of a group; the victims end after so many seconds."""
    session = tiny_session(Path(folder), identify="both", contribution_images=100, repeats=2, examples=1, top=4)
    if victims:
        session.run.ranks = ranks_of("default")
    session.console.quiet = True
    if session.ranks.rank in victims and after > 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # no Python runs any more
        signal.setitimer(signal.ITIMER_REAL, after)
    try:
        # As a command does, which deletes what killed ones left half-written.
        with session.run.locked():
            through(session)
    except LostRankError as error:
        return str(error)
    return "complete"


def kill_forked(kills: int, draw: np.random.Generator, longest: float) -> dict[str, Any]:
    """Kill forked processes so many times; return what happened."""
    folder = Path(tempfile.mkdtemp())
    tiny(str(folder / "alone"), [], 0.0)
    runs: list[dict[str, Any]] = []
    out = folder / "run"
    while True:
        world = int(draw.integers(2, 5))
        victims = [int(draw.integers(world))]
        if draw.random() < 0.3:
            victims = list(range(world))
        # In the end a run goes through.
        last = sum(run["killed"] for run in runs) >= kills
        after = float(draw.uniform(0.05, longest)) * (not last)
        begun = time.monotonic()
        done = in_processes(world, tiny, str(out), victims, after)
        hit = [rank for rank, outcome in enumerate(done) if outcome.exit_code == -signal.SIGALRM]
        said = [outcome.result or outcome.error for rank, outcome in enumerate(done) if rank not in hit]
        stages = {}
        if (out / "manifest.json").exists():
            stages = json.loads((out / "manifest.json").read_text())["stages"]
        open_stages = [name for name, entry in stages.items() if entry["state"] != "complete"]
        run = {"processes": world, "after": round(after, 2), "ended": round(time.monotonic() - begun, 2)}
        runs.append({**run, "killed": len(hit) > 0, "ranks": hit, "stage": open_stages, "said": said[:1]})
        print(runs[-1], flush=True)
        if said and set(said) == {"complete"}:
            check_same(folder / "alone", out)
            runs[-1]["compared"] = True
            shutil.rmtree(out)
            if last:
                break
    shutil.rmtree(folder)
    killed_runs = [run for run in runs if run["killed"]]
    return {
        "kills": len(killed_runs),
        "stages that were hit": sorted({stage for run in killed_runs for stage in run["stage"]}),
        "runs compared": sum("compared" in run for run in runs),
        "seconds from a kill to the end, at most": max(run["ended"] - run["after"] for run in killed_runs),
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=3.0, help="seconds until a kill, at most")
    parser.add_argument("--torchrun", action="store_true", help="kill audits that torchrun started")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    kill = kill_torchrun if given.torchrun else kill_forked
    found = kill(given.kills, np.random.default_rng(given.seed), given.longest)
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


def kill_torchrun(most: int, draw: np.random.Generator, longest: float) -> dict[str, Any]:
    """Kill audits that torchrun started so many times; return what happened."""
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
    while kills < most:
        world = int(draw.integers(1, 5))
        after = float(draw.uniform(5.0, longest))
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
        if how == "complete" or kills == most:
            if how != "complete":
                subprocess.run(command(weights, out, int(draw.integers(1, 4))), check=True, capture_output=True)
            check_same(alone, out, _REPORT)
            compared += 1
            shutil.rmtree(out)
    shutil.rmtree(folder)
    return {
        "kills": kills,
        "runs compared": compared,
        "slowest end after a kill, s": max(run["ended"] for run in runs if run["killed"] == "one"),
        "unexpected": [run for run in runs if run["killed"] not in {"one", "all", "complete"}],
        "runs": runs,
    }


if __name__ == "__main__":
    main()
