"""The parts of a repair: figures and directions beside numpy and by hand, the reactive layer, and the split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.cued import RightHalf, batches, cued
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from interpnet.models import Layer
from interpnet.scores import RepeatedLoader
from interpnet.shortcuts._repair_bench import Predictions
from interpnet.shortcuts._repair_choice import change, figures
from interpnet.shortcuts._repair_images import CONTROL, EXCHANGED, PLAIN, RepairImages
from interpnet.shortcuts._repair_ways import ReactiveLinear, directions, projected


def test_figures_by_hand() -> None:
    found = Predictions(np.array([0, 1, 1, 1]), np.array([[0, 0, 1, 0], [1, 0, 1, 0]]), np.array([0, 0, 1, 1]))
    got = figures(found, 3)
    assert got.clean == 0.75
    assert got.exchanged == pytest.approx(5 / 8)  # 1/2, 1, 1, 0 of the two rounds
    np.testing.assert_array_equal(got.recall, [0.5, 1.0, np.nan])
    np.testing.assert_array_equal(got.recall_exchanged, [0.75, 0.5, np.nan])
    assert (got.n, got.worst) == (4, 0.5)


def test_changes_are_paired_by_image() -> None:
    labels = np.zeros(4, dtype=np.int64)
    before = Predictions(np.array([0, 0, 1, 1]), np.array([[1, 1, 0, 0]]), labels)
    after = Predictions(np.array([0, 1, 0, 0]), np.array([[0, 0, 0, 1]]), labels)
    clean, gain, error = change(before, after)
    assert (clean, gain) == (0.25, 0.25)
    # Changes of 1, 1, 0 and -1: a deviation of sqrt(11/12) over four images.
    assert error == pytest.approx(np.sqrt(11 / 12) / 2)


def test_images_that_the_part_moves_do_not_count_as_unmoved() -> None:
    labels = np.zeros(4, dtype=np.int64)
    # Right both ways; right by the part alone; wrong by the part alone; wrong both ways.
    before = Predictions(np.array([0, 0, 1, 1]), np.array([[0, 1, 0, 1], [0, 0, 1, 1]]), labels)
    after = Predictions(np.array([1, 1, 1, 0]), np.zeros((2, 4), dtype=np.int64), labels)
    assert change(before, after)[0] == -0.25
    assert change(before, after, "unmoved")[0] == 0.0  # one lost, one gained, of the first and the last
    assert change(before, Predictions(np.array([1, 0, 0, 1]), after.exchanged, labels), "unmoved")[0] == -0.5


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 4))
def test_directions_are_numpys_singular_vectors_of_the_classes_differences(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(3), rng.integers(0, 3, 17)]
    plain, one, two = rng.normal(size=(3, 20, 6))
    found, centre = directions(
        torch.from_numpy(plain), [torch.from_numpy(one), torch.from_numpy(two)], torch.from_numpy(labels), k
    )
    without = (one + two) / 2
    rows = [np.sqrt((labels == c).sum()) * (plain - without)[labels == c].mean(0) for c in range(3)]
    expected = np.linalg.svd(np.stack(rows))[2][: min(k, 3)].T
    # A direction has no sign.
    np.testing.assert_allclose(found.numpy() @ found.numpy().T, expected @ expected.T, atol=1e-9)
    np.testing.assert_allclose(centre.numpy(), without.mean(0))


def test_a_projected_layer_is_the_old_one_on_projected_features() -> None:
    rng = np.random.default_rng(0)
    layer = Layer(torch.from_numpy(rng.normal(size=(3, 5))), torch.from_numpy(rng.normal(size=3)))
    found = torch.from_numpy(np.linalg.qr(rng.normal(size=(5, 2)))[0])
    centre = torch.from_numpy(rng.normal(size=5))
    z = torch.from_numpy(rng.normal(size=(9, 5)))
    expected = layer(z - (z - centre) @ found @ found.T)
    torch.testing.assert_close(projected(layer, found, centre)(z), expected)
    # Along the directions it sees nothing.
    torch.testing.assert_close(projected(layer, found, centre)(z + 7 * found[:, 0]), expected)


def test_differences_that_span_less_give_fewer_directions() -> None:
    z = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    found, _ = directions(z, [torch.zeros(2, 2)], torch.tensor([0, 1]), 2)
    assert tuple(found.shape) == (2, 1)
    # Nothing moves: nothing is projected out.
    found, _ = directions(z, [z], torch.tensor([0, 1]), 2)
    assert tuple(found.shape) == (2, 0)


def test_the_reactive_layer_projects_only_what_lies_far_along() -> None:
    linear = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(2))
    layer = ReactiveLinear(linear, torch.tensor([[1.0], [0.0]]), torch.tensor([1.0, 0.0]), torch.tensor([2.0]))
    # The first lies 1 along the direction, the second 4: it is set to the centre, and the other axis stays.
    with torch.no_grad():
        assert layer(torch.tensor([[2.0, 3.0], [5.0, 3.0]])).tolist() == [[2.0, 3.0], [1.0, 3.0]]


IMAGES, LABELS = cued(60)


def source(*, hold: bool = True, size: int = 20) -> RepairImages:
    loader = RepeatedLoader(batches(IMAGES, LABELS, size), 3, keep=10**9, use="repair", inputs=None, labels=None)
    return RepairImages(loader, RightHalf().exchange, hold=hold, seed=0)


def test_every_class_is_split_alike_and_held_out_images_are_no_partners() -> None:
    images = source()
    for c in range(3):
        assert np.bincount(images.parts[LABELS.numpy() == c]).tolist() == [4] * 5
    assert images.held.sum() == 12
    assert not images.held[images.pool_positions].any()
    assert len(images.pool) == 48
    assert not source(hold=False).held.any()


def test_exchanged_images_keep_their_left_half_and_controls_get_parts_of_their_class() -> None:
    images = source()
    rows = images.rows(lambda x: x.flatten(1), (PLAIN, EXCHANGED, CONTROL))
    assert rows.positions.tolist() == list(range(60))
    plain = rows.rows[PLAIN][0].view(IMAGES.shape)
    assert torch.equal(plain, IMAGES)
    right = {tuple(image[:, :, 4:].flatten().tolist()): int(label) for image, label in zip(IMAGES, LABELS, strict=True)}
    for kind in (EXCHANGED, CONTROL):
        assert len(rows.rows[kind]) == 2
        others = []
        for made in rows.rows[kind]:
            made = made.view(IMAGES.shape)
            assert torch.equal(made[..., :4], IMAGES[..., :4])
            others += [right[tuple(image[:, :, 4:].flatten().tolist())] for image in made]
        same = float((torch.tensor(others) == LABELS.repeat(2)).double().mean())
        assert same == 1.0 if kind == CONTROL else 0.15 < same < 0.6


def test_a_later_run_meets_the_same_exchanged_images() -> None:
    images = source()
    one, two = (images.rows(lambda x: x.flatten(1), (EXCHANGED,)).rows[EXCHANGED] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0], one[1])
    wanted = images.held
    some = images.rows(lambda x: x.flatten(1), (PLAIN,), wanted)
    assert some.positions.tolist() == np.flatnonzero(wanted).tolist()
    assert torch.equal(some.rows[PLAIN][0].view(-1, 3, 4, 8), IMAGES[torch.from_numpy(wanted)])
