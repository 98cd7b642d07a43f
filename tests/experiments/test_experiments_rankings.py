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
from experiments.common.pages import END, begin
from experiments.common.subjects import Subject
from experiments.rankings import claims, contributions, oracles, orders, removal, run, table
from interpnet.engine import find_sites
from interpnet.gram import Gram
from interpnet.models import SmallCNN


def test_a_quick_trial_resumes_and_ranks_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "_RADII", 20)
    words = ["--quick", "--device", "cpu", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "results.json")]
    run.main(words)
    (line,) = json.loads((tmp_path / "results.json").read_text())
    assert line["ks"] == [1, 2]
    wanted = {orders.OURS, *orders.VARIANTS, *orders.VALUES, orders.RANDOM, *orders.ORACLES}
    assert set(line["curves"]) == wanted
    assert all(len(values) == 2 for row in line["curves"].values() for values in row.values())
    assert set(line["errors"]) == {orders.OURS, *orders.RELIANCES}
    assert set(line["errors"][orders.RELIANCE]) == wanted - {orders.RELIANCE}
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


#: Two images of class 0, two of class 1.
FOUR = torch.tensor([[[[1.0, 2.0]]], [[[2.0, 2.0]]], [[[-1.0, -3.0]]], [[[-2.0, 0.0]]]])


def test_contributions_by_hand() -> None:
    """Image [1, 2] of class 0: channel 0 is [1, 2], its logit 9; image [-1, 0] of class 1: channel 1 is [2, 0].

    With two classes the log-odds are the difference of the logits: 9 - 0, and 2 - (-2).
    """
    images = torch.tensor([[[[1.0, 2.0]]], [[[-1.0, 0.0]]]])
    found = contributions.known(subject_of(two_channels(), images, [0, 1], 2))
    np.testing.assert_allclose(found.means["activation"], [[1.5, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(found.means["squares"], [[2.25, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(found.means["gradient"], [[9.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(found.means["absolute"], [[9.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(found.contributions.mean, [[9.0, 0.0], [0.0, 4.0]])
    np.testing.assert_allclose(found.weight_norm, [1.0, 2.0])
    for rule in contributions.LRP_RULES:  # all of the logit, up to the stabiliser
        np.testing.assert_allclose(found.means[rule], [[9.0, 0.0], [0.0, 2.0]], rtol=0.1)


def test_relevance_and_first_order_removal_add_up_on_a_network() -> None:
    """LRP-epsilon's relevance of a layer is nearly the logit; gradient x activation of the last one is, with bias."""
    model = SmallCNN(1, 3, 8, 4, seed=0).eval()
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = [0, 1, 2, 0, 1]
    subject = subject_of(model, images, labels, 3)
    found = contributions.known(subject)
    with torch.no_grad():
        logits = model(images)[torch.arange(5), labels]
    last = found.table.channels.slice("blocks.2.relu")
    expected = removal.class_means((logits - model.classifier.bias.detach()[labels]).numpy(), subject.train_labels)
    np.testing.assert_allclose(found.means["gradient"][:, last].sum(1), expected, rtol=1e-4, atol=1e-5)
    weights = model.state_dict()
    scale = weights["blocks.0.bn.weight"] / (weights["blocks.0.bn.running_var"] + 1e-5).sqrt()
    norms = weights["blocks.0.conv.weight"].flatten(1).norm(dim=1) * scale
    np.testing.assert_allclose(found.weight_norm[:4], norms.numpy(), rtol=1e-6)
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
    subject = subject_of(two_channels(), FOUR, [0, 0, 1, 1], 2)
    found = oracles.greedy(subject, 2, each=2)
    assert found.tolist() == [[0, 1], [1, 0]]


def test_shapley_values_add_up_to_the_probability_that_all_channels_carry() -> None:
    """Without any channel both logits are 0; each class needs one channel, whatever was removed before it."""
    subject = subject_of(two_channels(), FOUR, [0, 0, 1, 1], 2)
    found = oracles.shapley(subject, 6, 2, seed=0)
    with torch.no_grad():
        whole = two_channels()(FOUR).softmax(1)[torch.arange(4), [0, 0, 1, 1]]
    np.testing.assert_allclose(found.sum(1), removal.class_means(whole.numpy(), subject.train_labels) - 0.5, atol=1e-6)
    np.testing.assert_allclose(found[[0, 1], [1, 0]], 0.0, atol=1e-6)


def test_what_is_lost_by_hand() -> None:
    """Without its channel a class has both logits 0, and the first class wins the tie; the other's costs nothing."""
    subject = subject_of(two_channels(), FOUR, [0, 0, 1, 1], 2)
    labels = subject.test_labels
    run_ = removal.Passes(subject, subject.test, labels)
    intact = run_.outcome([[]] * 4)
    np.testing.assert_allclose(intact.log_odds, [9.0, 12.0, 16.0, 8.0])
    order = np.array([[0, 1], [1, 0]])
    others = order[removal.foreign(labels, 2)]
    lost = removal.removed(run_, intact, order[labels], others, [1])
    np.testing.assert_allclose(lost.own[:, 0], [0.0, 0.0, 100.0, 100.0])
    np.testing.assert_allclose(lost.own_log_odds[:, 0], intact.log_odds)
    np.testing.assert_allclose(lost.others, 0.0)
    assert lost.curves(labels) == {
        "own": [50.0],
        "others": [0.0],
        "own_log_odds": [11.25],
        "others_log_odds": [0.0],
    }
    measures = lost.measures()
    assert measures["both"].tolist() == [0.0, 0.0, 200.0, 200.0]
    table_ = removal.errors({"a": measures, "b": dict.fromkeys(removal.MEASURES, np.zeros(4))}, labels, ["a"])
    assert table_["a"]["b"][:3] == [0.0, 0.0, 0.0]  # no spread within a class
    # Half the spread of two images (1.5 and 4) is the standard error of their mean; the mean of two classes has half.
    assert table_["a"]["b"][3] == pytest.approx(np.hypot(1.5, 4.0) / 2, abs=1e-4)


def line_of(kind: str, seed: int, **own: float) -> dict[str, Any]:
    """Return a network on which a ranking costs the class so many points, and the others 0."""
    losses = {name.replace("_", " "): value for name, value in own.items()}
    curves = {
        name: {"own": [v, v], "others": [0.0, 0.0], "own_log_odds": [v / 10] * 2, "others_log_odds": [0.0] * 2}
        for name, v in losses.items()
    }
    errors = {a: {b: [1.0, 1.0, 2.0, 0.1, 0.1] for b in losses if b != a} for a in losses}
    return {
        "network": kind,
        "seed": seed,
        "device": "cpu",
        "channels": 8,
        "classes": 2,
        "ks": [1, 2],
        "seconds": 60.0,
        "commit": "abc",
        "intact": {"recall": 98.0, "log-odds": 5.0},
        "images": {"ranking": 9, "removal": 5},
        "depth": dict.fromkeys(losses, 0.5),
        "curves": curves,
        "errors": errors,
    }


RIVALS = {"d′_of_scores": 20.0, "correlation_with_the_label": 20.0, "gradient_×_activation": 20.0}


def test_areas_and_gains_by_hand() -> None:
    lines = [line_of("mnist", s, x=10.0 + s, y=5.0) for s in (1, 2)]
    lines[0]["curves"]["x"]["others"] = [4.0, 0.0]
    assert [table.area(lines[0], "x", m) for m in removal.MEASURES] == [11.0, 9.0, 20.0, 1.1, 1.1]
    mean, low, high = table.gain(lines, "x", "y", "own")
    half = 12.7062047 * 0.5  # Student's t for two networks, times the standard error
    assert (mean, low, high) == (pytest.approx(6.5), pytest.approx(6.5 - half), pytest.approx(6.5 + half))
    # One network on two samples of images: the images' errors, 1 point each, of the mean of two.
    single = [line_of("cifar10", s, x=10.0, y=5.0) for s in (1, 2)]
    mean, low, high = table.gain(single, "x", "y", "own")
    assert (low, high) == (pytest.approx(5 - 1.95996 / 2**0.5, abs=1e-4), pytest.approx(5 + 1.95996 / 2**0.5, abs=1e-4))


def test_development_networks_do_not_report() -> None:
    lines = [line_of("mnist", s, x=10.0) for s in (0, 1, 2)]
    assert [line["seed"] for line in table.kinds(lines)["mnist"]] == [1, 2]
    assert [line["seed"] for line in table.kinds(lines, development=True)["mnist"]] == [0]


def test_every_image_has_two_random_orders_of_its_own() -> None:
    first, second = run.drawn(3, 5, seed=0)
    assert first.shape == second.shape == (3, 5)
    assert all(sorted(row) == [0, 1, 2, 3, 4] for row in [*first.tolist(), *second.tolist()])
    assert len({tuple(row) for row in [*first.tolist(), *second.tolist()]}) > 3


def test_claims_follow_from_the_intervals() -> None:
    low = [line_of("mnist", s, mu_lasso=10.0 + s / 10, reliance=60.0, random=1.0, **RIVALS) for s in (1, 2, 3)]
    for line in low:
        for part in (line["curves"], line["errors"], line["depth"]):
            part["mu-lasso"] = part.pop("mu lasso")
    own, selective, random, undominated, rivals = claims.claims(low)
    assert own.verdict == selective.verdict == "does not hold"
    assert own.short == "1 better, 4 worse of 5"
    assert random.verdict == "holds"
    assert (undominated.verdict, rivals.verdict) == ("holds", "holds")
    for line in low:
        line["curves"]["d′ of scores"]["own"] = [90.0 + line["seed"] / 10] * 2
    *_, undominated, rivals = claims.claims(low)
    assert (undominated.verdict, undominated.reason) == ("does not hold", "better in both: d′ of scores (mnist)")
    assert (rivals.verdict, rivals.short) == ("holds in part", "3 of 4 rivals")
    for line in low:
        line["curves"]["d′ of scores"]["others"] = [60.0] * 2  # it costs more, and is less selective
    assert claims.undominated(low).verdict == "holds"


def test_a_reason_says_what_each_test_changes() -> None:
    lines = [line_of("mnist", s, mu_lasso=10.0) for s in (1, 2)]
    for line in lines:
        line["curves"] = {"mu-lasso": line["curves"]["mu lasso"], "mu-lasso, w ≥ 0": line["curves"]["mu lasso"]}
    assert "no weight below 0: mnist −0.0" in claims.tested(lines, "own").replace("+0.0", "−0.0")


def test_the_page_is_written_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"words\n{begin(table.PAGE.command)}\nold\n{END}\nmore\n")
    lines = [line_of("cifar10", s, x=10.0, reliance=5.0, random=1.0) for s in (0, 1, 2)]
    for line in lines:
        for part in (line["curves"], line["errors"]):
            part["mu-lasso"] = part["x"]
        line["errors"]["mu-lasso"] = {**line["errors"]["x"], "x": [1.0] * 5}
        for errors in line["errors"].values():
            errors["mu-lasso"] = [1.0] * 5
    table.PAGE.write(page, lines)
    text = page.read_text()
    assert "| **reliance** | 5.0 |" in text
    assert "| x | 10.0: **−5.0 (−6.4 to −3.6)** |" in text
    assert "| *random* | 1.0: +4.0 (+2.6 to +5.4) |" in text
    assert "| x | 10.0, 10.0 |" in text  # the development network
    assert "old" not in text
    assert (tmp_path / "curves.png").stat().st_size > 1000
