"""S6's comparison with the literature: areas, thresholds and the table, on networks made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments.common.runner import Results
from experiments.cues import compared
from experiments.cues.plan import CHOOSE, chooses
from experiments.cues.rivals import STATISTICS
from experiments.shortcuts.table import auc


def cases(n: int, gap: float, seed: int = 0) -> list[compared.Case]:
    """Return networks of five classes; in every second one class relies, whose number lies ``gap`` above the others.

    A third of the networks is for choosing.
    """
    rng = np.random.default_rng(seed)
    made = []
    for number in range(CHOOSE - n // 3, CHOOSE - n // 3 + n):
        found = rng.random(5)
        own = (number % 5,) if number % 2 else ()
        found[list(own)] += gap
        made.append(compared.Case(number, bool(own), own, found))
    return made


def test_what_always_lies_above_is_told_without_false_alarms() -> None:
    told = compared.told(cases(60, 2.0))
    assert told.chosen == told.networks.mean == told.classes.mean == 1.0
    assert told.power.mean == 1.0
    assert told.false.mean == pytest.approx(0.05, abs=0.05)  # the threshold comes from other networks


def test_areas_and_thresholds_as_counted_elsewhere() -> None:
    made = cases(90, 0.3)
    told = compared.told(made)
    first, rest = ([case for case in made if chooses(case.number) == choose] for choose in (True, False))
    for part, area in ((first, told.chosen), (rest, told.networks.mean)):
        assert area == pytest.approx(roc_auc_score([c.relies for c in part], [c.found.max() for c in part]))
    truth = np.array([[i in case.classes for i in range(5)] for case in rest]).ravel()
    values = np.concatenate([case.found for case in rest])
    assert told.classes.mean == pytest.approx(roc_auc_score(truth, values))
    quiet = np.concatenate([np.delete(case.found, case.classes) for case in first])
    threshold = np.quantile(quiet, 0.95)
    assert (quiet > threshold).mean() <= 0.05 + 1 / len(quiet)
    assert told.false.mean == pytest.approx((values[~truth] > threshold).mean())
    assert told.power.mean == pytest.approx((values[truth] > threshold).mean())


def test_classes_of_a_network_are_drawn_together() -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat(rng.random(30) > 0.5, 10)
    values = np.repeat(rng.random(30), 10)  # a network's classes are all alike
    alone, together = (
        auc(truth.tolist(), values.tolist()),
        auc(truth.tolist(), values.tolist(), np.repeat(range(30), 10)),
    )
    assert alone.mean == pytest.approx(together.mean)
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_the_images_are_chosen_and_the_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, poor = cases(240, 0.9), cases(240, 0.0, seed=1)
    networks: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    for one, other in zip(good, poor, strict=True):
        networks.append({"number": one.number, "behaviour": {"relies": one.relies, "classes": list(one.classes)}})
        numbers = {"train": other.found.tolist(), "validation": one.found.tolist()}
        line: dict[str, Any] = {"number": one.number}
        for split, values in numbers.items():
            line[split] = {name: values if name == "random" else [0.5] * 5 for name in STATISTICS}
        lines.append(line)
    split, told = compared.best(lines, networks, "random")
    assert split == "validation"
    assert told.networks.mean > 0.9
    page = compared.text(lines, networks)
    assert page.splitlines()[4].startswith("| random | validation |")  # the best comes first
    assert "| 0.50 (0.50 to 0.50) |" in page.splitlines()[5]
    assert "240 networks, of which 160 report" in page
    # What is there is not computed again.
    out = tmp_path / "rivals.json"
    results = Results(out)
    results.lines = lines
    results.write()
    readme = tmp_path / "README.md"
    readme.write_text(f"<!-- begin: written by python -m {compared.COMMAND} -->\n<!-- end -->\n")
    monkeypatch.setattr(compared, "network", None)
    monkeypatch.setattr(compared, "committed", lambda *_: networks)
    compared.main(["--out", str(out), "--page", str(readme), "--only", "230-249"])
    assert page in readme.read_text()
