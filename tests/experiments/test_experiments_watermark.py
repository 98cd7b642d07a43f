"""S2 among field images: what the search says is what its second writing says; roles, controls and figures by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from experiments.watermark import field_table
from experiments.watermark.drawing import leaning, log_odds, threshold
from experiments.watermark.photographs import CONTROL, IN_PLACE, MARK, PARTS, PLAIN, Overlay, roles, versions
from experiments.watermark.repairs import Known, without_direction
from interpnet.shortcuts import find

CLASSES = 3


def images(n: int, seed: int) -> Tensor:
    made = torch.rand(n, CLASSES, 12, 12, generator=torch.Generator().manual_seed(seed))
    made[torch.arange(n), torch.arange(n) % CLASSES] += 0.3
    return made


def test_every_photograph_is_held_out_once_and_is_one_thing_at_a_time() -> None:
    held = []
    for part in range(PARTS):
        own = roles(43, part)
        assert sorted([*own.training, *own.field, *own.held]) == list(range(43))
        assert len(own.marked) == len(own.field) // 4
        assert own.marked.max() < len(own.field)
        held += own.held.tolist()
    assert sorted(held) == list(range(43))


def test_the_search_says_what_its_second_writing_says() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(3)[:, :, None, None])
        net[4].weight.copy_(9 * torch.eye(3))
    known, field = images(60, 0), images(50, 1)
    field[::2, 1, 3:6, 3:6] += 6.0
    labels = np.arange(60) % CLASSES
    with torch.no_grad():
        odds = [log_odds(net(x).double().numpy()) for x in (known, field)]
    found = leaning(odds[0], labels, odds[1])
    drawn = [
        one
        for one in find(net, [(known, torch.from_numpy(labels))], field=[field], progress=False).drawn
        if one.source == "field"
    ]
    assert [one.index for one in drawn] == [1]
    assert (found.n[1], found.place[1]) == (drawn[0].n, 1)
    assert found.p[1] == pytest.approx(drawn[0].p)
    rows = np.flatnonzero(odds[1][:, 1] > threshold(odds[0], labels, 1))
    assert rows.tolist() == sorted(drawn[0].images)


def test_log_odds_and_the_test_of_one_class() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(log_odds(logits), np.log(p / (1 - p)), rtol=1e-9)
    known, field = log_odds(logits[:10]), log_odds(logits[10:] + np.array([2, 0, 0, 0]))
    labels = np.array([3] * 9 + [2])
    found = leaning(known, labels, field)
    end = np.quantile(known[:, 0], 0.95)  # no image is of class 0
    n = int((field[:, 0] > end).sum())
    assert found.n[0] == n
    p_values = []
    for k in range(4):
        end = np.quantile(known[labels != k, k], 0.95)
        counts = [int((rows[:, k] > end).sum()) for rows in (field, known)]
        p_values.append(
            stats.fisher_exact([[counts[0], 10 - counts[0]], [counts[1], 10 - counts[1]]], "greater").pvalue
        )
    np.testing.assert_allclose(found.p, stats.false_discovery_control(p_values), rtol=1e-9)


def test_controls_are_the_overlay_s_own_pixels() -> None:
    opacity = torch.zeros(8, 8)
    opacity[2:4, 1:7] = 0.5
    overlay = Overlay(torch.rand(3, 8, 8), opacity)
    made = versions(torch.zeros(4, 3, 8, 8), overlay)
    assert list(made) == [PLAIN, MARK, CONTROL, IN_PLACE]
    for name in (CONTROL, IN_PLACE):
        for image in made[name]:
            torch.testing.assert_close(image.flatten(1).sort(1).values, made[MARK][0].flatten(1).sort(1).values)
    outside = made[IN_PLACE].abs().sum(1)
    outside[:, 2:4, 1:7] = 0
    assert float(outside.sum()) == 0
    assert not torch.equal(made[IN_PLACE][0], made[IN_PLACE][1])


def test_known_features_are_exchanged_in_any_order() -> None:
    before, after = torch.rand(5, 3), torch.rand(5, 3)
    order = torch.tensor([3, 0, 4])
    made = Known(before, after).exchange(before[order][:, :, None, None], order, torch.Generator())
    assert torch.equal(made[:, :, 0, 0], after[order])


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 3)

    def get_classifier(self) -> nn.Linear:
        return self.head


def test_a_direction_that_is_taken_out_no_longer_counts() -> None:
    net = Network()
    known = np.array([[0.0, 1.0], [2.0, 1.0]])
    head = without_direction(net, known + np.array([0.0, 5.0]), known)
    x = torch.tensor([[1.0, 1.0], [1.0, 8.0]])
    # As if the second feature were what it is on average, 1.
    torch.testing.assert_close(head(x), net.head(x[:1]).expand(2, 3))


def test_figures_are_over_photographs() -> None:
    def right(plain: str, mark: str, control: str) -> dict[str, dict[str, str]]:
        return {"right": {PLAIN: plain, MARK: mark, CONTROL: control, IN_PLACE: control}}

    lines = [
        {"what": "carton", "repairs": {"before": right("11", "00", "11"), "a": right("10", "01", "00")}},
        {"what": "carton", "repairs": {"before": right("01", "01", "01"), "a": right("01", "01", "00")}},
    ]
    assert list(field_table.repairs(lines)) == ["a"]
    assert field_table.answers(lines, "before", MARK).tolist() == [0, 0, 0, 1]
    assert field_table.drop(lines, "before").mean == 0.5
    assert field_table.drop(lines, "a").mean == 0.25
    assert field_table.cost(lines, "a").mean == 0.25
