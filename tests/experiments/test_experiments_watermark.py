"""S2 among field images: roles, controls, what the network gives, and figures by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from experiments.watermark import field_table
from experiments.watermark.drawing import place_of
from experiments.watermark.photographs import (
    CONTROL,
    IN_PLACE,
    MARK,
    PARTS,
    PLAIN,
    Overlay,
    answers,
    features_of,
    roles,
    versions,
)
from experiments.watermark.repairs import Known, without_direction
from interpnet.shortcuts import Leaning

CLASSES = 3


def test_every_photograph_is_held_out_once_and_is_one_thing_at_a_time() -> None:
    held = []
    for part in range(PARTS):
        own = roles(43, part)
        assert sorted([*own.training, *own.field, *own.held]) == list(range(43))
        assert len(own.marked) == len(own.field) // 4
        assert own.marked.max() < len(own.field)
        held += own.held.tolist()
    assert sorted(held) == list(range(43))


def test_the_place_of_a_class_counts_from_the_most_surprising() -> None:
    none = np.zeros((1, 3))
    found = Leaning(none > 0, np.array([2, 5, 4]), none[0], np.array([0.5, 0.01, 0.01]))
    assert [place_of(found, k) for k in range(3)] == [3, 1, 2]


def test_what_the_last_layer_gets_and_gives() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    x = torch.rand(25, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    given = answers(net, x)
    with torch.no_grad():
        np.testing.assert_allclose(given.features, net[:4](x).double(), rtol=1e-5)
        np.testing.assert_allclose(given.logits, net(x).double(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(features_of(net, x).double(), given.features)
    assert given.scores.shape == (25, 4)


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
