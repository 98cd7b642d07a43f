"""S2: the watermark found blind among field images, its channels and itself named, and the last layer repaired.

    pip install imagenet-w -e '.[photos]'
    OMP_NUM_THREADS=2 python -m experiments.watermark.field [--quick]

Photographs go to five parts in turn: two are training images, two come from the field, a quarter of these with the
watermark, and one is held out. The five turns hold every photograph out once. What the network gives is kept in the
working folder, results in ``field.json``; the page's tables are written from them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.imagenet import Images, networks
from experiments.common.pages import fill
from experiments.common.runner import Results, command, rounded
from experiments.common.tables import Line
from experiments.watermark.drawing import LEVEL, log_odds, place_of, splits
from experiments.watermark.field_table import COMMAND, text
from experiments.watermark.naming import first, named, precision
from experiments.watermark.photographs import (
    CONTROL,
    MARK,
    PARTS,
    PLAIN,
    VERSIONS,
    Roles,
    answers,
    kept_answers,
    photographs,
    roles,
    versions,
    watermark,
)
from experiments.watermark.repairs import DIRECTION, repairs, right, without_direction
from experiments.watermark.run import CARTON
from interpnet.shortcuts import CommonOverlay, Leaning, common_overlay, leaning

HERE = Path(__file__).parent
_TRIED = 2  # classes of a field whose images are looked at for something in common
_SPLITS = 40  # at random


class Bench:
    """The photographs in all versions, what the network gives for them, and the network."""

    def __init__(self, model: nn.Module, given: Images, work: Path, name: str) -> None:
        self.model = model
        self.labels = given.labels
        self.images = versions(given.images, watermark(work))
        self.answers = {
            version: kept_answers(work, f"{name}-{version}", lambda: answers(model, self.images[version]))  # noqa: B023
            for version in VERSIONS
        }
        self.odds = {version: log_odds(one.logits) for version, one in self.answers.items()}

    def field(self, own: Roles, version: str) -> Tensor:
        """Return the field images, a quarter of them of a version."""
        pixels = self.images[PLAIN][own.field].clone()
        pixels[torch.from_numpy(own.marked)] = self.images[version][own.field[own.marked]]
        return pixels

    def of_field(self, own: Roles, version: str, what: str) -> np.ndarray:
        """Return the logits, scores or features of the field images."""
        rows: np.ndarray = getattr(self.answers[PLAIN], what)[own.field].copy()
        rows[own.marked] = getattr(self.answers[version], what)[own.field[own.marked]]
        return rows

    def leaning(self, own: Roles, version: str) -> Leaning:
        """Return which classes the field images lean to."""
        field = log_odds(self.of_field(own, version, "logits"))
        return leaning(self.odds[PLAIN][own.training], self.labels[own.training], field)

    def drawn(self, own: Roles, version: str, k: int) -> np.ndarray:
        """Return the positions of the field images that lean to class k, the strongest first."""
        odds = log_odds(self.of_field(own, version, "logits"))[:, k]
        return first(odds, np.flatnonzero(self.leaning(own, version).images[:, k]))

    def common(self, own: Roles, version: str, k: int) -> CommonOverlay:
        """Return what these have in common."""
        rows = torch.from_numpy(self.drawn(own, version, k))
        return common_overlay(self.field(own, version), rows, self.images[PLAIN][own.training])


def seen(bench: Bench, own: Roles, version: str) -> Line:
    """Return the carton's place, and what the images drawn to the first classes have in common.

    This is what the search does, whether or not its test names the classes.
    """
    found = bench.leaning(own, version)
    first_classes = found.order[:_TRIED].tolist()
    return {
        "carton": {"place": place_of(found, CARTON), "n": int(found.n[CARTON]), "p": float(found.p[CARTON])},
        "named": int((found.p < LEVEL).sum()),
        "first": [{"class": k, **common_line(own, bench.common(own, version, k))} for k in first_classes],
    }


def common_line(own: Roles, one: CommonOverlay) -> Line:
    """Return how many images are said to bear it, and how many of them do."""
    bearing = np.isin(own.marked, one.images)
    return {
        "n": len(one.images),
        "right": int(bearing.sum()),
        "of": len(own.marked),
        "agreement": one.agreement,
        "p": one.p,
        "covered": one.covered,
    }


def carton(bench: Bench, own: Roles) -> Line:
    """Return what is said of the images drawn to the carton: the channels, what they have in common, and repairs."""
    rows = bench.drawn(own, MARK, CARTON)
    pixels = bench.field(own, MARK)[rows]
    known = bench.answers[PLAIN]
    found = named(bench.model, pixels, CARTON, bench.of_field(own, MARK, "scores")[rows], known.scores[own.training])
    common = bench.common(own, MARK, CARTON)
    done = dict(repairs(bench.model, bench.images[PLAIN], bench.labels, bench.answers, own, common))
    head = without_direction(bench.model, bench.of_field(own, MARK, "features")[rows], known.features[own.training])
    done[DIRECTION] = {"right": right(head, bench.labels, bench.answers, own)}
    return {
        "drawn": len(rows),
        "marked": int(np.isin(rows, own.marked).sum()),
        "named": precision(found, bench.answers, own),
        "common": common_line(own, common),
        "repairs": done,
    }


@command(work="where what the network gives is kept")
def main(*, work: Path = Path("runs/watermark"), out: Path = HERE / "field.json", quick: bool = False) -> None:
    """Measure what is missing, and write the page."""
    results = Results(out)
    work.mkdir(parents=True, exist_ok=True)
    keys: list[Line] = [{"what": "carton", "turn": part} for part in range(1 if quick else PARTS)]
    keys += [{"what": "splits"}, *({**key, "what": "seen"} for key in keys)]
    if results.todo(keys):
        model, prepare = networks("efficientnet")
        bench = Bench(model, photographs(prepare, quick=quick), work, "quick" if quick else "all")
        for line in results.missing(keys):
            if line["what"] == "splits":
                said = {version: one.logits for version, one in bench.answers.items()}
                line["n"] = len(bench.labels)
                line["right"] = {v: int((rows.argmax(1) == bench.labels).sum()) for v, rows in said.items()}
                line["splits"] = rounded(splits(said, bench.labels, 3 if quick else _SPLITS))
                continue
            own = roles(len(bench.labels), line["turn"])
            if line["what"] == "carton":
                line.update(rounded(carton(bench, own)))
                continue
            line.update({version: rounded(seen(bench, own, version)) for version in (PLAIN, CONTROL, MARK)})
    if not quick:
        fill(HERE / "README.md", COMMAND, text(results.lines))
