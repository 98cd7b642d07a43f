"""M2's script: every measure on a small network, resumed and merged; ranks, Kendall's tau and the pages by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.common.flower_networks import flower_network, masks_of
from experiments.measures import run, settings, subjects
from experiments.measures.agreement import (
    NAMES,
    Network,
    between_networks,
    networks_of,
    tau,
    told_apart,
    within_and_between,
)
from experiments.measures.claims import claims
from experiments.measures.measure import MEASURES, ON_MASKS
from experiments.measures.packed import packed, unpacked
from experiments.measures.sheet import sheet
from experiments.measures.table import agreement_figure, mean_with_others, order_of, text
from interpnet.attribution import methods
from interpnet.evaluate import measures


def small(work: Path) -> subjects.Subject:
    """A network of few small images."""
    found = flower_network("single-6c", 0, work, options="?size=32&n=60", epochs=2)
    images, _ = found.tested(found.first(12))
    labels = found.model(images).argmax(1)  # it has learned little; what it says counts as right
    return subjects.Subject(found.model, images, labels, masks_of(found.test_on, found.first(12)))


def lines() -> list[dict[str, Any]]:
    """Made-up values of two networks: three methods and a control, two measures of images and a game."""
    rng = np.random.default_rng(0)
    found = []
    for network in ("resnet20", "resnet56"):
        for place, method in enumerate(("a", "b", "c", "random")):
            for name in ("deletion", "sparseness", "grid_pointing_game"):
                n = 4 if name == "grid_pointing_game" else 6
                values = (rng.random(n) + place).round(3).tolist()
                line = {"network": network, "method": method, "measure": name, "values": values, "seconds": 1.0}
                found.append(line | {"commit": "abc"})
    found[0]["values"][2] = None
    refused = {"network": "resnet20", "method": "c", "measure": "infidelity", "refused": "ModelError: no | good"}
    return [*found, refused | {"seconds": 0.1, "commit": "abc"}]


def test_what_is_planned() -> None:
    assert set(MEASURES) <= {m.name for m in measures()}
    assert {name for own in settings.QUESTIONS.values() for name in own} == set(MEASURES)
    assert set(settings.method_names()) == {m.name for m in methods()} | {settings.CHANNELS}
    assert len(run.planned("smallcnn", "lime")) == len(MEASURES) >= 12
    assert {cell["measure"] for cell in run.planned("resnet20", "lime")} == set(MEASURES) - set(ON_MASKS)
    assert settings.options_of("occlusion", 32) == {"patch": 4, "stride": 4}
    assert settings.options_of("gradcam", 32) == {}


def test_every_measure_on_a_small_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = small(tmp_path)
    kind = replace(subjects.KINDS["smallcnn"], load=lambda work: subject, images=4)
    monkeypatch.setitem(subjects.KINDS, "smallcnn", kind)
    monkeypatch.setattr(settings, "DRAWS", 1)
    given = ["--networks", "smallcnn", "--device", "cpu", "--work", str(tmp_path)]
    first, second = (tmp_path / f"{name}.json" for name in "ab")
    run.main([*given, "--methods", "gradient", "--out", str(first)])
    run.main([*given, "--methods", "gradient", settings.CHANNELS, "--parts", "2", "--part", "2", "--out", str(second)])
    found = unpacked(first)
    assert [line["measure"] for line in found] == list(MEASURES)
    for line in found:
        games = line["measure"].endswith("pointing_game") and line["measure"] != "pointing_game"
        if "values" in line:
            assert len(line["values"]) == (settings.GRIDS if games else 4), line
    refused = [line for line in found if "refused" in line]
    assert all("classes have images" in line["refused"] for line in refused), refused
    assert {line["method"] for line in unpacked(second)} == {settings.CHANNELS}
    before = first.read_text()
    run.main([*given, "--methods", "gradient", "--out", str(first)])
    assert first.read_text() == before
    run.main(["--merge", str(second), str(second), "--out", str(first)])
    assert len(unpacked(first)) == 2 * len(MEASURES)


def test_a_packed_file_gives_its_lines_back(tmp_path: Path) -> None:
    given = [line | {"device": "cpu"} for line in lines()]
    given[1]["constant"] = 2
    file = tmp_path / "results.json"
    file.write_text(packed([given[0] | {"constant": 0}, *given[1:]]))
    assert {str(sorted(line.items())) for line in unpacked(file)} == {str(sorted(line.items())) for line in given}
    assert len(file.read_text().splitlines()) == 2 + 8


def test_ranks_by_hand() -> None:
    # deletion: low is good. The second image has no value of b, the third two that are equal.
    values = np.array([[1.0, 1.0, 0.0], [2.0, np.nan, 0.0], [3.0, 5.0, 9.0]])
    network = Network(("a", "b", "c"), {"deletion": values})
    expected = [[1.0, 1.0, 0.75], [0.5, np.nan, 0.75], [0.0, 0.0, 0.0]]
    np.testing.assert_array_equal(network.ranks("deletion"), expected)
    order = network.orders[0, :, NAMES.index("deletion")]
    np.testing.assert_allclose(order, [2.75 / 3, 0.625, 0.0])
    assert np.isnan(network.orders[:, :, NAMES.index("sparseness")]).all()
    assert network.orders[1:, :, NAMES.index("deletion")][:, 0].std() > 0


def test_tau_is_scipys() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 5, (2, 3, 9, 4)).astype(float)
    found = tau(a, b)
    for d in range(3):
        for i in range(4):
            for j in range(4):
                expected = stats.kendalltau(a[d, :, i], b[d, :, j]).statistic
                assert found[d, i, j] == pytest.approx(expected, abs=1e-12)
    a[0, 2, 0] = np.nan
    kept = np.arange(9) != 2
    expected = stats.kendalltau(a[0, kept, 0], b[0, kept, 1]).statistic
    assert tau(a, b)[0, 0, 1] == pytest.approx(expected, abs=1e-12)


def test_pages() -> None:
    made = lines()
    found = networks_of(made)
    assert found["resnet20"].methods == ("a", "b", "c")
    # sparseness rises from a to c, deletion is worse from a to c, on both networks.
    assert list(order_of(found)["sparseness"]) == ["c", "b", "a"]
    assert list(order_of(found)["deletion"]) == ["a", "b", "c"]
    carried = between_networks(found)
    assert carried[0, NAMES.index("sparseness")] == 1.0
    words = text(made)
    assert "`deletion`" in words
    assert "ModelError: no / good" in words
    assert "24 of 25 cells" in words
    page = sheet(made)
    data = json.loads(page.split("const data = ", 1)[1].split(";\n", 1)[0])
    assert set(data["networks"]["ResNet-20, CIFAR-10"]) == {"a", "b", "c", "random"}
    mean = data["networks"]["ResNet-20, CIFAR-10"]["b"][data["measures"].index("sparseness")][0]
    assert mean == pytest.approx(float(np.mean(made[4]["values"])), abs=0.01)


def test_pairs_told_apart_and_questions() -> None:
    steps = np.arange(3.0)[:, None] + 0.01 * np.arange(5)
    values = {"sparseness": steps, "complexity": np.tile([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], (1, 3))}
    apart = told_apart({"a": Network(("x", "y", "z"), values)})
    assert apart[NAMES.index("sparseness")] == 1.0
    assert apart[NAMES.index("complexity")] == 0.0
    assert np.isnan(apart[NAMES.index("deletion")])
    taus = np.zeros((2, len(NAMES), len(NAMES)))
    i, j = NAMES.index("sparseness"), NAMES.index("complexity")
    taus[:, i, j] = taus[:, j, i] = 1.0
    within, between = within_and_between(taus, settings.QUESTIONS.values())
    pairs = sum(len(own) * (len(own) - 1) // 2 for own in settings.QUESTIONS.values())
    assert within.tolist() == pytest.approx([1 / pairs] * 2)
    assert between.tolist() == [0.0, 0.0]


def test_claims_by_rule() -> None:
    both = claims(lines())
    assert [claim.key for claim in both] == ["M2", "M2"]
    effects = dict(both[1].effects)
    assert effects["sparseness"].mean == pytest.approx(100.0)


def test_figure(tmp_path: Path) -> None:
    agreement_figure(lines(), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    taus = np.zeros((2, len(NAMES), len(NAMES)))
    taus[:, 0, 1] = 0.5
    taus[:, 0, 2] = np.nan
    assert mean_with_others(taus, NAMES[0], NAMES[:4]).tolist() == [0.25, 0.25]
