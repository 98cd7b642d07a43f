"""Q1's script: a trial of seconds, resumed; rankings, contributions and areas against hand-computed values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from experiments.common import paths
from experiments.common.claims import Tally
from experiments.common.pages import END, begin
from experiments.common.subjects import Subject
from experiments.rankings import claims, contributions, orders, removal, run, table
from interpnet.engine import find_sites
from interpnet.gram import Gram
from interpnet.models import SmallCNN


def test_a_quick_trial_resumes_and_ranks_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RADII", 60)
    words = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "results.json")]
    run.main(words)
    (line,) = json.loads((tmp_path / "results.json").read_text())
    assert line["ks"][0] == 0
    assert line["ks"][-1] <= line["channels"] / 4
    assert {orders.OURS, *orders.VARIANTS, "random 4", orders.GREEDY} <= set(line["curves"])
    assert len(line["curves"]) >= 7 + len(orders.VARIANTS) + orders.DRAWS
    starts = {(row["own"][0], row["others"][0]) for row in line["curves"].values()}
    assert len(starts) == 1  # k = 0 removes nothing, whatever the ranking
    assert all(len(row["own"]) == len(line["ks"]) for name, row in line["curves"].items() if name != orders.GREEDY)
    monkeypatch.setattr(run, "measured", None)  # what is there is not done again
    run.main(words)


def subject_of(model: nn.Module, images: torch.Tensor, labels: list[int], n_classes: int) -> Subject:
    y = np.array(labels)
    return Subject("hand", 0, model, tuple("abcdefgh"[:n_classes]), images, y, images, y, 1.0)


def two_channels() -> nn.Sequential:
    """Channel 0 is the image, channel 1 its negative; class 0 has logit 3 x sum of 0, class 1 that of channel 1."""
    conv = nn.Conv2d(1, 2, 1, bias=False)
    linear = nn.Linear(4, 2, bias=False)
    conv.weight.data = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
    linear.weight.data = torch.tensor([[3.0, 3.0, -1.0, -1.0], [0.0, 0.0, 1.0, 1.0]])
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), linear).eval()


def test_contributions_by_hand() -> None:
    """Image [1, 2] of class 0: channel 0 is [1, 2], its logit 9; image [-1, 0] of class 1: channel 1 is [2, 0]."""
    images = torch.tensor([[[[1.0, 2.0]]], [[[-1.0, 0.0]]]])
    found = contributions.contributions(subject_of(two_channels(), images, [0, 1], 2))
    np.testing.assert_allclose(found.means, [[1.5, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(found.taylor, [[9.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(found.weight_norm, [1.0, 2.0])
    for relevance in found.relevance.values():  # all of the logit, up to the stabiliser
        np.testing.assert_allclose(relevance, [[9.0, 0.0], [0.0, 2.0]], rtol=0.1)


def test_relevance_and_first_order_removal_add_up_on_a_network() -> None:
    """LRP-epsilon's relevance of a layer is nearly the logit; gradient x activation of the last one is, with bias."""
    model = SmallCNN(1, 3, 8, 4, seed=0).eval()
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = [0, 1, 2, 0, 1]
    found = contributions.contributions(subject_of(model, images, labels, 3))
    with torch.no_grad():
        logits = model(images)[torch.arange(5), labels]
    last = found.table.channels.slice("blocks.2.relu")
    bias = model.classifier.bias.detach()[labels]
    np.testing.assert_allclose(found.taylor[:, last].sum(1), (logits - bias).numpy(), rtol=1e-4, atol=1e-5)
    weights = model.state_dict()
    scale = weights["blocks.0.bn.weight"] / (weights["blocks.0.bn.running_var"] + 1e-5).sqrt()
    expected = weights["blocks.0.conv.weight"].flatten(1).norm(dim=1) * scale
    np.testing.assert_allclose(found.weight_norm[:4], expected.numpy(), rtol=1e-6)
    assert len(find_sites(model, images).select()) == 3


def test_orders_put_weights_first_then_entry_then_correlation() -> None:
    weight = np.array([[0.0, -3.0, 1.0, 0.0, 0.0]])
    radius = np.array([[2.0, 0.1, 9.0, np.inf, np.inf]])
    last = np.array([[0.0, 0.0, 0.0, 0.1, 0.4]])
    assert orders.behind(np.abs(weight), radius, last).tolist() == [[1, 2, 0, 4, 3]]


def test_entry_follows_the_path() -> None:
    """With G = diag(1, 4), B = (1, 2): correlations 1 and 2, so column 1 comes in at 0 and column 0 at mu = 1/4."""
    gram = Gram(np.diag([1.0, 4.0]), np.array([[1.0], [2.0]]), np.array([2.0]), 2)
    radii, coefs = paths.along(gram, 2)
    assert radii[-1] / radii[0] == pytest.approx(paths.SPAN)
    assert np.count_nonzero(coefs[-1, 0]) == 2
    found = paths.entry(radii, coefs)[0]
    assert found[1] == radii[0]
    assert 0.25 <= found[0] <= 0.26


def test_a_path_ends_where_no_more_channels_can_come() -> None:
    gram = Gram(np.diag([1.0, 4.0]), np.array([[1.0], [0.0]]), np.array([2.0]), 2)
    radii, coefs = paths.along(gram, 2)  # column 1 says nothing about the class
    assert np.count_nonzero(coefs[-1, 0]) == 1
    assert radii[-1] < 10


def test_correlation_is_numpys_and_a_constant_column_has_none() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((30, 4))
    target = np.eye(2)[rng.integers(0, 2, 30)]
    X[:, 3] = 5.0
    found = orders.correlations(X, target)
    assert found[1, 2] == pytest.approx(np.corrcoef(X[:, 2], target[:, 1])[0, 1])
    assert found[:, 3].tolist() == [0.0, 0.0]


def test_twins_follow_their_channel() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((200, 5))
    X[:, 4] = X[:, 1] + 0.01 * rng.random(200)  # 4 is 1's twin
    order = np.array([[1, 0, 2, 3, 4], [0, 4, 1, 2, 3]])
    assert orders.with_twins(order, X).tolist() == [[1, 4, 0, 2, 3], [0, 4, 1, 2, 3]]


def test_ridge_and_logistic_weights_find_the_column_that_tells() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((90, 6))
    labels = np.arange(90) % 3
    X[:, 2] += labels == 1
    for weights in (orders.ridge(X, np.eye(3)[labels]), orders.logistic(X, labels, 3)):
        assert weights.shape == (3, 6)
        assert np.abs(weights[1]).argmax() == 2
        assert weights[1, 2] > 0


def test_greedy_takes_the_channel_that_costs_the_class_most() -> None:
    images = torch.tensor([[[[1.0, 2.0]]], [[[2.0, 2.0]]], [[[-1.0, -3.0]]], [[[-2.0, 0.0]]]])
    subject = subject_of(two_channels(), images, [0, 0, 1, 1], 2)
    found = removal.greedy(subject, 2, 2, each=2)
    assert found.tolist() == [[0, 1], [1, 0]]
    channels = find_sites(subject.model, images).index()
    rows = removal.recalls(subject, channels, {"greedy": found, "reversed": found[:, ::-1]}, [0, 1])
    # Without any signal both logits are 0, and the first class wins the tie.
    assert rows["greedy"] == {"own": [1.0, 0.5], "others": [1.0, 1.0]}
    assert rows["reversed"] == {"own": [1.0, 1.0], "others": [1.0, 0.5]}


def test_areas_and_gains_by_hand() -> None:
    def line(own: list[float], others: list[float]) -> dict[str, Any]:
        rows = {orders.OURS: {"own": [1.0, 0.0, 0.0], "others": [1.0, 1.0, 1.0]}, "x": {"own": own, "others": others}}
        return {"ks": [0, 1, 3], "curves": rows}

    lines = [line([1.0, 1.0, 0.0], [1.0, 1.0, 0.0]), line([1.0, 0.5], [1.0, 0.5])]
    # log2(1 + k) = 0, 1, 2: ours is 0.25 over both steps and 0.5 over the first.
    assert table.areas(lines, orders.OURS, "own") == [25.0, 25.0]
    assert table.areas(lines, "x", "own") == [75.0, 75.0]
    assert table.areas(lines, orders.OURS, "selective") == [75.0, 75.0]
    mean, low, high = table.gain(lines, "x", "own")
    assert mean == pytest.approx((-50 - 25) / 2)  # the second curve ends at k = 1, where ours is 50
    assert low < mean < high
    assert table.gain(lines, "x", "selective")[0] == pytest.approx((75 + 50) / 2)


def test_random_is_the_mean_of_its_draws() -> None:
    rows = {f"random {i}": {"own": [1.0, i / 4], "others": [1.0, 1.0]} for i in range(orders.DRAWS)}
    line: dict[str, Any] = {"ks": [0, 1], "curves": rows}
    assert table.curve(line, orders.RANDOM, "own") == [100.0, 50.0]
    assert table.names([line]) == [orders.RANDOM]


def lines_of(ours: list[float], other: list[float]) -> list[dict[str, Any]]:
    """Networks whose own class has these recalls without one channel; nothing happens to the others."""
    return [
        {
            "network": "mnist",
            "seed": i,
            "channels": 8,
            "ks": [0, 1],
            "seconds": 60.0,
            "commit": "abc",
            "images": {"ranking": 9, "removal": 5},
            "depth": {orders.OURS: 0.5, "filter norm": 0.25, "random 0": 0.5},
            "curves": {
                orders.OURS: {"own": [1.0, a], "others": [1.0, 1.0]},
                "filter norm": {"own": [1.0, b], "others": [1.0, 1.0]},
                **{f"random {d}": {"own": [1.0, 1.0], "others": [1.0, 1.0]} for d in range(orders.DRAWS)},
            },
        }
        for i, (a, b) in enumerate(zip(ours, other, strict=True))
    ]


@pytest.mark.parametrize(
    ("other", "counts", "verdict"),
    [
        ([0.9, 0.8, 0.9], (2, 0, ()), "holds"),
        ([0.2, 0.5, 0.2], (1, 1, ()), "holds"),
        ([0.0, 0.0, 0.1], (1, 0, ("filter norm (mnist)",)), "does not hold"),
    ],
)
def test_verdicts_follow_from_the_intervals(
    other: list[float], counts: tuple[int, int, tuple[str, ...]], verdict: str
) -> None:
    lines = lines_of([0.2, 0.3, 0.4], other)
    assert claims.tallied(lines, "own") == Tally(*counts)
    assert claims.tallied(lines, "selective") == Tally(*counts)
    own, selective, random = claims.claims(lines)
    assert own.verdict == selective.verdict == verdict
    assert (random.verdict, random.figure) == ("holds", "area, ours less theirs: mnist −35.0 (−47.4 to −22.6)")
    assert ("beaten by" in own.figure) == bool(counts[2])


def test_a_reason_says_what_each_test_changes() -> None:
    lines = lines_of([0.2, 0.3, 0.4], [0.0, 0.0, 0.1])
    for line in lines:
        line["curves"]["mu-lasso, w ≥ 0"] = {"own": [1.0, 0.1], "others": [1.0, 1.0]}
    assert "no weight below 0: mnist −10.0" in claims.tested(lines, "own")
    assert "no weight below 0: mnist +10.0" in claims.tested(lines, "selective")


def test_the_page_is_written_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"words\n{begin(table.PAGE.command)}\nold\n{END}\nmore\n")
    table.PAGE.write(page, lines_of([0.2, 0.3, 0.4], [0.0, 0.0, 0.1]))
    text = page.read_text()
    assert "| **mu-lasso** | 65.0 |" in text
    assert "| filter norm | 51.7: **+13.3 (+6.2 to +20.5)** |" in text  # differences 10, 15, 15 points
    assert "| *random* | 100.0: −35.0 (−47.4 to −22.6) |" in text
    assert "old" not in text
    assert (tmp_path / "curves.png").stat().st_size > 1000
