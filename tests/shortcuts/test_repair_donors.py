"""Whose parts a repair takes: half of the time of the classes that are suspicious for the part, however many others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from interpnet.errors import InterpNetError
from interpnet.scores import RepeatedLoader
from interpnet.shortcuts._by_class import by_class
from interpnet.shortcuts._exchanger import Exchanger, drawn_donors
from interpnet.shortcuts._parts import parts_of
from interpnet.shortcuts._repair_images import RepairImages

SIDE = 16
PARTS = {part.name: part for part in parts_of((SIDE, SIDE))}
CLASSES = 20


class Counting(nn.Module):
    """A linear network that says how many images it has run."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(SIDE * SIDE, CLASSES)
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        out: Tensor = self.head(x.flatten(1))
        return out


def exchanger(parts: dict[str, set[int]], model: nn.Module | None = None) -> Exchanger:
    common = by_class(torch.zeros(CLASSES, 1, SIDE, SIDE), torch.arange(CLASSES), CLASSES)
    return Exchanger(model or Counting(), [PARTS[name] for name in parts], list(parts.values()), common, None)


def images(n: int) -> tuple[Tensor, Tensor]:
    """Return images (n, 1, 16, 16) whose every pixel is the image's number, and classes in turn."""
    return torch.arange(float(n)).view(n, 1, 1, 1).expand(n, 1, SIDE, SIDE).clone(), torch.arange(n) % CLASSES


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_donor_by_hand() -> None:
    labels = torch.tensor([3, 7, 3, 9, 3, 2])
    # Of the class 7 there is row 1 alone: the donor is row 1 where the coin says so, else any row.
    found = drawn_donors(labels, {7}, draws(4))
    same = draws(4)
    anyone = torch.randint(6, (6,), generator=same).tolist()
    coin = (torch.rand(6, generator=same) < 0.5).tolist()
    assert found.tolist() == [1 if heads else row for heads, row in zip(coin, anyone, strict=True)]
    assert 0 < sum(coin) < 6


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), classes=st.sets(st.integers(0, 9), min_size=1), few=st.integers(1, 900))
def test_half_of_the_donors_and_their_share_of_the_others_are_of_the_classes(
    seed: int, classes: set[int], few: int
) -> None:
    # Class 0 has fewer images than the others, or more.
    labels = torch.cat([torch.zeros(few, dtype=torch.int64), torch.arange(1, 10).repeat(300)])
    found = drawn_donors(labels, classes, draws(seed)).numpy()
    of_classes = np.isin(labels.numpy(), list(classes))
    expected = 0.5 + 0.5 * of_classes.mean()
    # Five standard errors.
    assert of_classes[found].mean() == pytest.approx(expected, abs=5 * 0.5 / np.sqrt(len(labels)))


def test_where_no_image_is_of_the_classes_any_gives_its_part() -> None:
    found = drawn_donors(torch.zeros(100, dtype=torch.int64), {5}, draws())
    # Each of 100 rows is drawn at least once with probability 0.63.
    assert 50 < len(set(found.tolist())) < 75


def test_the_part_of_one_class_of_twenty_comes_half_of_the_time() -> None:
    pixels, labels = images(400)
    made = exchanger({"the frame": {11}}).exchange(pixels, labels, draws())
    assert torch.equal(made[:, 0, 8, 8], pixels[:, 0, 8, 8])  # the rest stays
    givers = labels[made[:, 0, 0, 0].long()]
    share = float((givers == 11).double().mean())
    assert share == pytest.approx(0.5 + 0.5 / 20, abs=0.1)
    assert len(set(givers.tolist())) > 15  # any class among the others


def test_parts_by_hand() -> None:
    both = exchanger({"top left": {1}, "bottom right": {1, 2}, "the frame": {3}})
    rests = torch.tensor([1, 2, 0, 0, 3])
    givers = torch.tensor([1, 3, 2, 0, 0])
    found = both._wanted(rests, givers, draws())
    assert found[:, :3].T.tolist() == [[True, True, False], [False, True, True], [False, True, False]]
    assert found[:, 3].sum() == 1  # neither is suspicious: any one
    assert found[:, 4].tolist() == [False, False, True]
    chosen = both._wanted(torch.zeros(600, dtype=torch.int64), torch.zeros(600, dtype=torch.int64), draws())
    assert chosen.sum(0).tolist() == [1] * 600
    assert all(150 < n < 250 for n in chosen.sum(1).tolist())


def test_two_parts_come_from_the_same_image_as_its_class_and_the_rest_say() -> None:
    pixels, labels = images(400)
    made = exchanger({"top left": {11}, "bottom right": {4}}).exchange(pixels, labels, draws())
    assert torch.equal(made[:, 0, 8, 8], pixels[:, 0, 8, 8])
    here = torch.stack([made[:, 0, 0, 0], made[:, 0, -1, -1]], 1)
    came = here != pixels[:, 0, :1, 0]
    two = came.all(1)
    assert torch.equal(here[two][:, 0], here[two][:, 1])
    givers = labels[here[two][:, 0].long()]
    # Only where one class has the one part, and the other class the other.
    assert {tuple(sorted(pair)) for pair in zip(labels[two].tolist(), givers.tolist(), strict=True)} == {(4, 11)}
    for at, own in ((0, 11), (1, 4)):
        givers = labels[here[came[:, at]][:, at].long()]
        assert 0.3 < float((givers == own).double().mean()) < 0.7


def test_a_later_part_is_exchanged_in_what_an_earlier_one_made() -> None:
    generator = draws(1)
    pixels, labels = torch.rand(12, 1, SIDE, SIDE, generator=generator), torch.arange(12)
    made = exchanger({"the mean colour": set(range(12)), "top left": set(range(12))}).exchange(pixels, labels, draws())
    corner = pixels[:, 0, :2, :2].flatten(1)
    # The corner is a donor's as it was; the rest of the image has that donor's mean colour.
    donors = (made[:, 0, :2, :2].flatten(1)[:, None] == corner).all(2).double().argmax(1)
    moved = pixels - pixels.mean((2, 3), keepdim=True) + pixels[donors].mean((2, 3), keepdim=True)
    limits = [torch.stack([pixels, pixels[donors]]).flatten(3)]
    low, high = (getattr(limits[0], what)((0, 3))[:, :, None, None] for what in ("amin", "amax"))
    expected = torch.maximum(torch.minimum(moved, high), low)
    torch.testing.assert_close(made[:, :, 8, 8], expected[:, :, 8, 8])


def test_among_some_classes_only_theirs_is_exchanged() -> None:
    both = exchanger({"the frame": {11, 12}, "a patch": {4}})
    kept = both.among([12, 4, 19])
    assert [part.name for part in kept.parts] == ["the frame", "a patch"]
    assert kept.classes == (frozenset({12}), frozenset({4}))
    assert [part.name for part in both.among([4]).parts] == ["a patch"]
    with pytest.raises(InterpNetError, match="no class is suspicious"):
        both.among([19]).exchange(*images(4), draws())


def test_where_the_evidence_of_an_image_is_is_sought_once() -> None:
    model = Counting()
    found = exchanger({"a patch": {4}}, model)
    pixels, labels = images(40)
    first = found.exchange(pixels, labels, draws())
    assert model.seen == 40
    assert torch.equal(found.exchange(pixels, labels, draws()), first)
    assert model.seen == 40
    order = torch.randperm(40, generator=draws())
    again = found.exchange(
        torch.cat([pixels[order], pixels[:5] + 0.5]), torch.cat([labels[order], labels[:5]]), draws()
    )
    assert model.seen == 45
    fresh = exchanger({"a patch": {4}}, model).exchange(
        torch.cat([pixels[order], pixels[:5] + 0.5]), torch.cat([labels[order], labels[:5]]), draws()
    )
    assert torch.equal(again, fresh)


@pytest.mark.parametrize(("most", "seen"), [(0, 80), (30, 50)])
def test_no_more_is_remembered_than_fits(monkeypatch: pytest.MonkeyPatch, most: int, seen: int) -> None:
    monkeypatch.setattr("interpnet.shortcuts._exchanger._MOST_PEAKS", most)
    model = Counting()
    found = exchanger({"a patch": {4}}, model)
    pixels, labels = images(40)
    first = found.exchange(pixels, labels, draws())
    assert torch.equal(found.exchange(pixels, labels, draws()), first)
    assert model.seen == seen


@pytest.mark.parametrize(("carriers", "least"), [((), 0), ((3,), 8)])
def test_a_quarter_of_the_partners_is_of_the_classes_that_carry_a_part(carriers: tuple[int, ...], least: int) -> None:
    pixels = torch.rand(1000, 1, 2, 2, generator=draws())
    labels = torch.arange(1000)  # a thousand classes of one image
    seen: list[Tensor] = []

    def exchange(both: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
        del generator
        seen.append(classes)
        return both

    loader = RepeatedLoader([(pixels, labels)], 1000, keep=10**9, use="repair", inputs=None, labels=None)
    source = RepairImages(loader, exchange, hold=False, seed=0, carriers=carriers)
    source.exchanged(pixels[100:132], labels[100:132], draws())
    (classes,) = seen
    assert len(classes) == 64
    assert int((classes == 3).sum()) == least
