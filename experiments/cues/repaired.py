"""S6: repair the networks that rely on their cue, without group labels, beside what the literature does.

    python -m experiments.cues.repaired [--work FOLDER] [--only 240-319]

Of the networks that report and rely on their cue thirty were drawn for the first round, before any was repaired; the
others report the second, whose exchanges were changed after the first had been looked at. The same of those that rely
on none: would a repair harm them? What is found of one is kept in the working folder, so that a second run goes on and
several may share the work; ``repaired.json`` and the page are written from what is there. Everything was fixed on
networks for choosing.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.pages import fill
from experiments.common.runner import Results, command, rounded
from experiments.cues.plan import Split, Subject, build, split_of
from experiments.cues.repaired_table import COMMAND, SHOWN, text
from experiments.cues.repairs import Images, afr, dfr, jtt
from experiments.cues.train import EPOCHS, RATE, WORK, chosen, facts_of, kept_file, network
from experiments.cues.truth import predictions
from interpnet.shortcuts import Findings, find, repair
from interpnet.support.io import write_text

HERE = Path(__file__).parent
_BATCH = 100
_BOUND = 0.01  # of accuracy on images without the cue
_RELYING, _QUIET = 30, 15  # networks of the first round
_JTT = 4  # is trained for the first networks of the second round that rely
_DRAW = 17  # seed of which networks
_FIRST = 4  # JTT's first network is trained for a fourth of the epochs
_UPWEIGHT = 20  # of JTT's mistakes


class Work(NamedTuple):
    """A network to repair."""

    subject: Subject
    round: int  # 1 or 2
    relies: bool
    jtt: bool  # whether JTT is trained for it


def worked_on(work: Path, only: str) -> list[Work]:
    """Return the networks in the order of the work: the second round, then the first."""
    reporting = [subject for subject in chosen("0-999") if subject.split == "report"]
    behaviour = {subject.number: facts_of(subject, work)["behaviour"] for subject in reporting}
    relies = _mixed([subject for subject in reporting if behaviour[subject.number]["relies"]])
    quiet = _mixed([s for s in reporting if not behaviour[s.number]["relies"] and not behaviour[s.number]["classes"]])
    found = []
    for turn, those, others in (
        (2, relies[_RELYING:], quiet[_QUIET : 2 * _QUIET]),
        (1, relies[:_RELYING], quiet[:_QUIET]),
    ):
        own = []
        rest = iter(others)
        # Two that rely, one that does not, images of 32 pixels first: a run that is cut short leaves both.
        for at, subject in enumerate(those):
            own.append(Work(subject, turn, True, False))
            if at % 2:
                own += [Work(other, turn, False, False) for other in itertools.islice(rest, 1)]
        own.sort(key=lambda one: one.subject.source in {"flowers", "photographs"})
        if turn == 2:
            named = [one.subject.number for one in own if one.relies][:_JTT]
            own = [one._replace(jtt=one.subject.number in named) for one in own]
        found += own
    wanted = {subject.number for subject in chosen(only)}
    return [one for one in found if one.subject.number in wanted]


def _mixed(these: list[Subject]) -> list[Subject]:
    return [these[i] for i in np.random.default_rng(_DRAW).permutation(len(these))]


def repaired_line(subject: Subject, work: Path, *, relies: bool) -> dict[str, Any]:
    """Return a network's accuracies before and after repairs, by how the cue of the test images is drawn."""
    began = time.perf_counter()
    model = network(subject, work)
    shown = list(_shown(subject, work))
    train = split_of(subject, "train", work)
    findings = find(model, _batches(train), images=200, seed=subject.seed, max_batch=_BATCH, progress=False)
    line: dict[str, Any] = {"number": subject.number, "relies": relies, "source": subject.source, "kind": subject.kind}
    line |= {"strength": subject.strength, "everyone": subject.everyone}
    line["parts"] = sorted({one.part for one in findings.suspicious})
    line["before"] = _accuracies(model, shown)
    if findings.suspicious:
        line |= _ours(model, subject, findings, train, shown, work)
    line["seconds"] = time.perf_counter() - began
    if relies:
        line |= _with_groups(model, subject, shown, work)
    return line


def _ours(
    model: nn.Module, subject: Subject, findings: Findings, train: Split, shown: list[Split], work: Path
) -> dict[str, Any]:
    """Return what a repair within the bound reaches."""
    made = repair(
        model,
        _batches(train),
        findings,
        how="exchanged",
        validation=_batches(split_of(subject, "validation", work, draw="absent")),
        max_clean_loss=_BOUND,
        seed=subject.seed,
        progress=False,
    )
    line: dict[str, Any] = {"ours": _accuracies(made.model, shown), "accepted": made.accepted, "why": made.why}
    if made.control is not None:
        held = {"before": made.before, "after": made.after, "control": made.control}
        line["exchanged"] = {what: figures.exchanged for what, figures in held.items()}
    return line


def _with_groups(model: nn.Module, subject: Subject, shown: list[Split], work: Path) -> dict[str, Any]:
    """Return what DFR and AFR reach.

    DFR has validation images whose cue is drawn independently of the class, so that every group is there, and once
    more those that come with the training images, few of whose cues disagree. AFR chooses its settings by groups.
    """
    balanced = split_of(subject, "validation", work, draw="independent")
    natural = _grouped(subject, split_of(subject, "validation", work))
    half = torch.arange(len(natural.labels)) % 2 == 0
    fit, choose = (Images(*(part[rows] for part in natural)) for rows in (half, ~half))
    # Where every class has a cue, the draw has balanced them; a group of two numbers has a handful of images.
    groups = balanced.labels if subject.everyone else _grouped(subject, balanced).groups
    made = {
        "dfr": dfr(model, Images(balanced.images, balanced.labels, groups), seed=subject.seed),
        "dfr_natural": dfr(model, natural, seed=subject.seed),
        "afr": afr(model, fit, choose),
    }
    return {name: _accuracies(one, shown) for name, one in made.items()}


def jtt_line(subject: Subject, work: Path) -> dict[str, Any]:
    """Return what JTT reaches, and its seconds: trained as long as the network was, with its usual larger weight."""
    began = time.process_time()
    train = split_of(subject, "train", work)
    side = train.images.shape[2]
    n_classes = len(subject.pool(work).classes)
    epochs = EPOCHS[subject.source]
    made = jtt(
        lambda: build(subject, n_classes, side),
        train.images,
        train.labels,
        _grouped(subject, split_of(subject, "validation", work)),
        first=max(1, epochs // _FIRST),
        epochs=epochs,
        lr=RATE,
        max_shift=0 if subject.kind == "position" else side // 16,
        upweights=(_UPWEIGHT,),
        seed=subject.seed,
    )
    seconds = time.process_time() - began
    return {**_accuracies(made, list(_shown(subject, work))), "seconds": seconds}


def _grouped(subject: Subject, split: Split) -> Images:
    """Return images with their groups: the class, and whether its own cue is there (any, where one class has it)."""
    cue = torch.from_numpy(split.cue)
    bears = cue == split.labels if subject.everyone else cue >= 0
    return Images(split.images, split.labels, 2 * split.labels + bears)


def _shown(subject: Subject, work: Path) -> Iterator[Split]:
    for draw in SHOWN:
        if subject.kind is None and draw in {"agree", "disagree"}:
            draw = "absent"
        yield split_of(subject, "test", work, draw=draw)


def _accuracies(model: nn.Module, shown: list[Split]) -> dict[str, float]:
    right = [float((predictions(model, part.images) == part.labels).double().mean()) for part in shown]
    return dict(zip(SHOWN, right, strict=True))


def _batches(split: Split) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(split.images, _BATCH), torch.split(split.labels, _BATCH), strict=True))


def _kept(file: Path, make: Callable[[], dict[str, Any]]) -> None:
    if not file.exists():
        found = rounded(make())
        write_text(file, json.dumps(found))
        print(file.stem, json.dumps(found), flush=True)


def written(work: Path, out: Path, page: Path) -> None:
    """Write the results and the page from what is there."""
    results = Results(out)
    results.lines = []
    for one in worked_on(work, "0-999"):
        kept = {what: kept_file(one.subject, work, what) for what in ("repaired", "jtt")}
        if kept["repaired"].exists():
            line = {"round": one.round, **json.loads(kept.pop("repaired").read_text())}
            line |= {what: json.loads(file.read_text()) for what, file in kept.items() if file.exists()}
            results.lines.append(line)
    results.write()
    fill(page, COMMAND, text(results.lines))


@command(only="the numbers of the networks, such as 240-259 or 241,250")
def main(
    *, work: Path = WORK, only: str = "0-999", out: Path = HERE / "repaired.json", page: Path = HERE / "README.md"
) -> None:
    """Repair what is missing of the second round, then write the results and the page."""
    those = [one for one in worked_on(work, only) if one.round == 2]
    for one in those:
        subject = one.subject
        _kept(kept_file(subject, work, "repaired"), partial(repaired_line, subject, work, relies=one.relies))
    for one in those:
        if one.jtt:
            _kept(kept_file(one.subject, work, "jtt"), partial(jtt_line, one.subject, work))
    written(work, out, page)
