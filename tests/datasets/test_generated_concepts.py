"""Generated images of colours, edges, gratings and shapes: exact masks, the same again, and channels made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from interpnet.concepts import dissect
from interpnet.datasets import generated_concepts
from interpnet.datasets._drawn_concepts import KINDS, Spot, shape
from interpnet.errors import DataError, InterpNetError

pytestmark = pytest.mark.filterwarnings("ignore::interpnet.concepts.ConceptWarning")


def test_every_image_has_its_concept_and_masks_do_not_overlap() -> None:
    for name, one in generated_concepts(48, images=16).items():
        pairs = list(one)
        masks = torch.cat([marks for _, marks in pairs])
        images = torch.cat([batch for batch, _ in pairs])
        k = len(one.concepts)
        assert masks.shape == (16, k, 48, 48)
        assert images.shape == (16, 3, 48, 48)
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1
        assert all(bool(masks[i, i % k].any()) for i in range(16)), name
        assert int(masks.sum(1).max()) == 1, name
        assert len(one) == len(pairs) == 1


def test_the_same_again_and_another_seed_differs() -> None:
    one, again, other = (generated_concepts(32, images=16, seed=seed)["shapes"] for seed in (3, 3, 4))
    first, second, third = (next(iter(source))[0] for source in (one, again, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    # The number of an image says what it shows, whatever the batches and however many there are.
    more = torch.cat([batch for batch, _ in generated_concepts(32, images=20, seed=3, batch_size=7)["shapes"]])
    assert torch.equal(more[:16], first)


def test_inputs_are_those_of_the_network() -> None:
    plain = next(iter(generated_concepts((32, 40), kinds=["colours"], images=16)["colours"]))[0]
    moved = generated_concepts((32, 40), kinds=["colours"], images=16, mean=(0.5, 0.4, 0.3), std=0.5)["colours"]
    torch.testing.assert_close(moved.preprocessing.undo(next(iter(moved))[0]), plain)
    assert plain.shape == (16, 3, 32, 40)
    grey = generated_concepts(32, images=16, channels=1)
    assert list(grey) == ["edges", "gratings", "shapes"]
    assert next(iter(grey["edges"]))[0].shape == (16, 1, 32, 32)


def test_colours_are_theirs() -> None:
    images, masks = next(iter(generated_concepts(64, kinds=["colours"], images=16)["colours"]))
    names = KINDS["colours"].concepts
    red = images[masks[:, names.index("red")].unsqueeze(1).expand_as(images)].view(-1)
    pixels = images.movedim(1, 3)[masks[:, names.index("red")]]
    assert len(red) == pixels.numel() > 0
    assert bool((pixels[:, 0] > pixels[:, 1:].amax(1) + 0.5).all())
    # Nothing else is so red.
    rest = images.movedim(1, 3)[~masks[:, : names.index("yellow") + 1].any(1)]
    assert float((rest[:, 0] - rest[:, 1:].amax(1)).max()) < 0.5


def test_shapes_have_the_areas_of_their_formulas() -> None:
    y, x = np.mgrid[-120:121, -120:121].astype(float)
    spot = Spot(x, y, 100.0)
    draws = np.random.default_rng(0)
    areas = {name: shape(name, spot, draws).sum() / 100.0**2 for name in ("disc", "square", "triangle", "star")}
    tip = np.deg2rad(36)
    expected = {"disc": np.pi, "square": 2.0, "triangle": 0.75 * np.sqrt(3), "star": 5 * 0.4 * np.sin(tip)}
    assert areas == pytest.approx(expected, rel=0.02)


def made_by_hand() -> nn.Sequential:
    """Channels: red beyond green and blue; Sobel's filter for vertical edges; for horizontal ones; always on."""
    first = nn.Conv2d(3, 4, 3, padding=1, padding_mode="replicate")
    net = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 48 * 48, 2))
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    with torch.no_grad():
        weight = torch.zeros(4, 3, 3, 3)
        weight[0, :, 1, 1] = torch.tensor([1.0, -1.0, -1.0])
        weight[1] = sobel
        weight[2] = sobel.T
        first.weight.copy_(weight)
        first.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    return net.eval()


def test_channels_made_by_hand_have_their_names() -> None:
    sources = generated_concepts(48, kinds=["colours", "edges"], images=64)
    found = dissect(made_by_hand(), sources, untrained=False, quantile=0.01, step=1, progress=False)
    names = [[name.concept for name in found.names(row)] for row in range(4)]
    assert names[0] == ["red"]
    # Squares and discs of strong colours have such edges, too.
    assert [names[1][0], names[2][0]] == ["vertical edge", "horizontal edge"]
    assert "horizontal edge" not in names[1]
    assert "vertical edge" not in names[2]
    assert names[3] == []
    assert found.names(0)[0].iou > 0.4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"image_size": 15}, DataError, "image_size is 15; expected at least 16 pixels along each side"),
        ({"image_size": (32, 8)}, DataError, r"image_size is \(32, 8\); expected at least 16"),
        ({"channels": 4}, DataError, r"channels is 4; generated images have 1 \(grey\) or 3"),
        ({"kinds": ["colors"]}, InterpNetError, "kinds has 'colors', which is none; expected some of colours.*colours"),
        ({"kinds": ["colours"], "channels": 1}, InterpNetError, "kinds has 'colours', which is none of grey images"),
        ({"kinds": []}, InterpNetError, "kinds is empty; expected some of colours"),
        ({"kinds": "edges"}, InterpNetError, "kinds"),
        ({"images": 15}, InterpNetError, "images is 15"),
        ({"seed": -1}, InterpNetError, "seed is -1"),
        ({"batch_size": 0}, InterpNetError, "batch_size is 0"),
        ({"mean": "x"}, InterpNetError, "mean"),
        ({"std": 0.0}, DataError, "std"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        generated_concepts(**{"image_size": 32, "images": 16, **options})
