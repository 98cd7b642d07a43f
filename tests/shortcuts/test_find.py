"""The search for shortcuts: toy networks that use one part only, images that it refuses, and what it leaves behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from interpnet.errors import DataError, InterpNetError
from interpnet.shortcuts import find

SIDE = 24


class Part(nn.Module):
    """Two logits: how bright a place is, and a constant; a channel for each."""

    def __init__(self, rows: slice, columns: slice) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=True)
        self.head = nn.Linear(2, 2)
        self.place = rows, columns
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, 0.0]).view(2, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.0, 1.0]))
            self.head.weight.copy_(torch.tensor([[0.0, 4.0], [12.0, 0.0]]))
            self.head.bias.zero_()

    def forward(self, x):
        maps = torch.relu(self.conv(x))
        rows, columns = self.place
        return self.head(maps[:, :, rows, columns].mean((2, 3)))


CORNER = Part(slice(0, 3), slice(0, 3))
MIDDLE = Part(slice(9, 15), slice(9, 15))


def images(place, n=120, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.rand(n, 1, SIDE, SIDE, generator=generator)
    y = torch.arange(n) % 2
    x[y == 1, :, place[0], place[1]] += 0.6
    return x, y


def search(model, x, y, **options):
    return find(model, [(x[i : i + 40], y[i : i + 40]) for i in range(0, len(x), 40)], progress=False, **options)


def test_a_network_that_looks_at_a_corner() -> None:
    found = search(CORNER, *images(CORNER.place))
    assert found.classes[0].part == "top left"
    one = found.of(1)
    assert one.share > 0.95
    assert one.low > 0.8
    assert one.suspicious
    assert one.confirmed
    assert one.raised > 0.9
    assert one.raised_before < 0.1
    assert (one.channels[0].channel.index, one.channels[0].top_classes) == (0, ((1, 10),))
    example = one.examples[0]
    assert (example.before, example.after) == (0, 1)
    assert example.odds_after > example.odds_before
    # The image with the part is the image, but for the corner, which is the donor's.
    image, donor, made = example.pictures
    torch.testing.assert_close(made[:, :4, :4], donor[:, :4, :4])
    torch.testing.assert_close(made[:, 4:], image[:, 4:])
    assert found.passes == pytest.approx(6.0, abs=0.1)
    assert found.suspicion == max(c.suspicion for c in found.classes)


def test_a_network_that_looks_at_its_subject_is_not_suspected() -> None:
    found = search(MIDDLE, *images(MIDDLE.place))
    outside = [i for i, name in enumerate(found.parts) if "disc" in name or name.split()[0] in {"top", "bottom"}]
    assert np.nanmax(found.shares[outside]) < 0.05


def test_with_masks_what_lies_outside_the_subject() -> None:
    # The subject is in a corner; the network looks at the middle, which is not it.
    x, y = images(MIDDLE.place)
    masks = torch.zeros(len(x), SIDE, SIDE, dtype=torch.bool)
    masks[:, :6, :6] = True
    found = search(MIDDLE, x, y, masks=masks)
    by_boxes = search(MIDDLE, x, y, boxes=np.tile([0.0, 0.0, 6.0, 6.0], (len(x), 1)))
    row = found.parts.index("outside the subject")
    assert found.shares[row, 1] > 0.95
    np.testing.assert_array_equal(found.shares, by_boxes.shares)


def test_the_same_seed_finds_the_same_and_nothing_is_left_behind() -> None:
    x, y = images(CORNER.place)
    before = {name: value.clone() for name, value in CORNER.state_dict().items()}
    CORNER.head.weight.requires_grad_(False)
    CORNER.train()
    one, other = (search(CORNER, x, y, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.shares, other.shares)
    assert CORNER.training
    assert [p.requires_grad for p in CORNER.parameters()] == [True, True, False, True]
    CORNER.head.weight.requires_grad_(True)
    CORNER.eval()
    assert all(torch.equal(before[name], value) for name, value in CORNER.state_dict().items())


def test_batches_of_any_size_find_the_same() -> None:
    x, y = images(CORNER.place)
    one, other = (search(CORNER, x, y, max_batch=size) for size in (7, 120))
    np.testing.assert_allclose(one.shares, other.shares, atol=1e-4)


def test_one_image_of_a_class_says_that_it_has_no_power() -> None:
    x, y = images(CORNER.place, n=30)
    keep = torch.cat([torch.nonzero(y == 0).flatten(), torch.nonzero(y == 1).flatten()[:1]])
    found = search(CORNER, x[keep], y[keep])
    assert found.of(1).n == 1
    tiny = search(CORNER, x[:2], y[:2])
    assert not tiny.suspicious
    assert all(not c.confirmed or np.isfinite(c.share) for c in tiny.classes)


def test_some_classes_only() -> None:
    found = search(CORNER, *images(CORNER.place), classes=[1])
    assert [c.index for c in found.classes] == [1]
    assert np.isnan(found.shares[:, 0]).all()
    with pytest.raises(InterpNetError, match=r"index=0 was not studied; studied were \[1\]"):
        found.of(0)


def test_an_exchange_gives_others_the_suspicious_part() -> None:
    x, y = images(CORNER.place)
    found = search(CORNER, x, y)
    made = found.exchange(x, y, torch.Generator().manual_seed(0))
    torch.testing.assert_close(made[:, :, 4:], x[:, :, 4:])
    with torch.no_grad():
        taken = CORNER(made).argmax(1)
    assert 0.3 < float((taken == 1).float().mean()) < 0.7
    assert float((taken == y).float().mean()) < 0.7  # what it says goes with the part, not with the rest


def test_of_some_classes_only_their_parts_are_exchanged() -> None:
    x, y = images(CORNER.place)
    found = search(CORNER, x, y)
    assert {one.index for one in found.suspicious} == {0, 1}
    some = found.among([1])
    assert [one.index for one in some.classes] == [1]
    draws = torch.Generator().manual_seed(0)
    moved = (some.exchange(x, y, draws) != x).any(0)[0]
    # Of class 1's part alone, the corner.
    assert moved[:3, :3].any()
    assert not moved[4:].any()
    with pytest.raises(InterpNetError, match="no class is suspicious"):
        found.among([]).exchange(x, y, draws)


def test_without_suspicion_there_is_nothing_to_exchange() -> None:
    flat = Part(slice(0, SIDE), slice(0, SIDE))
    with torch.no_grad():
        flat.head.weight.zero_()
    x, y = images(MIDDLE.place)
    found = search(flat, x, y)
    with pytest.raises(InterpNetError, match="no class is suspicious, so that there is no part to exchange"):
        found.exchange(x, y, torch.Generator())


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([(torch.rand(4, 1, 24, 24), torch.zeros(4, dtype=torch.long))], "the images are all of one class"),
        (
            [(torch.rand(2, 1, 24, 24), torch.arange(2)), (torch.rand(2, 1, 24, 20), torch.arange(2))],
            r"images of \(1, 24, 24\) and of \(1, 24, 20\) came; expected images of one size",
        ),
        ([(torch.rand(4, 1, 24, 24), torch.eye(2)[[0, 1, 0, 1]])], "an image can have several labels"),
    ],
)
def test_images_between_which_nothing_can_be_exchanged(batches, said: str) -> None:
    with pytest.raises(DataError, match=said):
        find(CORNER, batches, progress=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"boxes": np.tile([30.0, 30.0, 40.0, 40.0], (120, 1))}, "boxes: that of image 0 holds no pixel of the image"),
        ({"masks": torch.ones(120, 12, 12, dtype=torch.bool)}, r"expected bool \(images of the loader, 24, 24\)"),
        ({"boxes": np.ones((7, 4))}, "boxes: 7 came, and the loader's images reach number 119"),
        ({"boxes": np.ones((120, 4)), "masks": torch.ones(120, 24, 24, dtype=torch.bool)}, "boxes and masks came"),
    ],
)
def test_boxes_and_masks_that_do_not_fit(options, said: str) -> None:
    with pytest.raises(DataError, match=said):
        search(CORNER, *images(CORNER.place), **options)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA device"))])  # fmt: skip
def test_on_every_device(device: str) -> None:
    found = search(CORNER, *images(CORNER.place), device=device)
    assert found.classes[0].part == "top left"
