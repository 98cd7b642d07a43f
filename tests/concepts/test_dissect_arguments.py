"""What dissect refuses, with the remedy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from interpnet.concepts import ConceptWarning, dissect
from interpnet.engine import Channel
from interpnet.errors import DataError, InterpNetError, LayerError, ModelError

pytestmark = pytest.mark.filterwarnings("ignore::interpnet.concepts.ConceptWarning")
NET = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)).eval()
IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
DENSE = torch.zeros(4, 2, 8, 8, dtype=torch.bool)
DENSE[:, 0, 0:2, 0:2] = True
DENSE[:, 1, 4:6, 4:6] = True


def run(loader: Any, **options: Any) -> Any:
    return dissect(NET, loader, **{"concepts": ["a", "b"], "progress": False, "untrained": False, **options})


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.zeros(4, 2, 7, 8), r"masks: shape \(4, 2, 7, 8\) came with 4 images of 8 x 8 pixels and 2 concepts"),
        (torch.zeros(3, 2, 8, 8), r"masks: shape \(3, 2, 8, 8\) came with 4 images"),
        (torch.full((4, 8, 8), 2), r"masks: 2 came in image 0; expected 0 to 1"),
        (torch.full((4, 8, 8), -3), r"masks: -3 came in image 0; expected 0 to 1, the number of a concept, or one of"),
        (torch.zeros(4, 8, 8), r"masks: torch.float32 of shape \(4, 8, 8\) came; expected whole numbers"),
        (0.5 * torch.ones(4, 2), r"masks: 0.5 came in image 0; expected 0 and 1, one mask for each concept"),
        (torch.tensor([0, 0, 0, -1]), r"no image shows 'b' at any pixel looked at \(every 2 along each side\)"),
        ("masks", r"masks: 'masks' came with the images from number 0; expected a Tensor"),
    ],
)
def test_masks_that_do_not_fit(masks: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        run([(IMAGES, masks)])


def test_one_image_with_two_concepts_comes_once() -> None:
    images = torch.cat([IMAGES, IMAGES[:1]])
    with pytest.raises(
        DataError, match="images 0 and 4 are the same and show different concepts; give each image once"
    ):
        run([(images, torch.tensor([0, 1, 0, 1, 1]))])


def test_one_image_is_too_few() -> None:
    with pytest.raises(DataError, match="one image came; expected at least two"):
        run([(IMAGES[:1], DENSE[:1])])


def test_no_image() -> None:
    with pytest.raises(DataError, match="yielded no image"):
        run([])


def test_other_images_in_the_second_pass() -> None:
    class Shuffled:
        def __iter__(self) -> Any:
            order = torch.randperm(4)
            while torch.equal(order, torch.arange(4)):
                order = torch.randperm(4)
            yield IMAGES[order] + torch.rand(1), DENSE[order]

    with pytest.raises(DataError, match="images 0 to 3 are not those of the first pass; expected the same images"):
        run(Shuffled())


def test_what_can_be_read_once() -> None:
    with pytest.raises(DataError, match="dissect"):
        run(iter([(IMAGES, DENSE)]))


def test_sizes() -> None:
    other = torch.rand(4, 1, 16, 16)
    with pytest.raises(DataError, match=r"images of \(1, 8, 8\) and of \(1, 16, 16\) came; expected one size"):
        run([(IMAGES, DENSE), (other, torch.zeros(4, 2, 16, 16))])
    loaders = {"one": [(IMAGES, DENSE)], "two": [(other, torch.tensor([0, 0, 0, 0]))]}
    with pytest.raises(DataError, match=r"came in category 'one' and of \(1, 16, 16\) in 'two'; expected one size"):
        run(loaders, concepts={"one": ["a", "b"], "two": ["c"]})


@pytest.mark.parametrize(
    ("concepts", "message"),
    [
        ([], "concepts of 'concepts' is empty"),
        (["a", "a"], "concepts has 'a' 2 times"),
        ({"one": ["a", "b"]}, "one came as a dictionary and the other not"),
    ],
)
def test_names(concepts: Any, message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        run([(IMAGES, DENSE)], concepts=concepts)


def test_categories_of_different_names() -> None:
    with pytest.raises(InterpNetError, match=r"loader has the categories \['one'\] and concepts \['two'\]"):
        run({"one": [(IMAGES, DENSE)]}, concepts={"two": ["a", "b"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantile": 0.0}, "quantile"),
        ({"quantile": 0.7}, "quantile"),
        ({"least": -0.1}, "least"),
        ({"step": 0}, "step"),
        ({"draws": 0}, "draws"),
        ({"top": 0}, "top"),
        ({"max_batch": 0}, "max_batch"),
        ({"seed": -1}, "seed"),
        ({"untrained": 1}, "untrained"),
    ],
)
def test_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        run([(IMAGES, DENSE)], **options)


def test_a_layer_without_a_map_over_the_image() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(1, 3, 4, 4)
            self.mix = nn.Linear(3, 3)
            self.act = nn.ReLU()
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # In an order of its own: no position is a place of the image.
            tokens = self.embed(x).flatten(2).transpose(1, 2).flip(1)
            mixed: torch.Tensor = self.act(self.mix(tokens))
            out: torch.Tensor = self.head(mixed.mean(1))
            return out

    with pytest.raises(LayerError, match="cannot be compared with masks"):
        dissect(Tokens().eval(), [(IMAGES, DENSE)], concepts=["a", "b"], layers=["act"], progress=False)


def test_infinity_in_a_map() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)).eval()
    with torch.no_grad():
        net[0].bias[:] = 3e38
        net[0].weight[:] = 3e38
        net[3].weight[:] = 0.0
    with pytest.raises(ModelError, match="NaN or infinity"):
        dissect(net, [(IMAGES + 1, DENSE)], concepts=["a", "b"], untrained=False, progress=False)


def test_unknown_names_of_a_result() -> None:
    found = run([(IMAGES, DENSE)])
    with pytest.raises(InterpNetError, match="unknown concept 'c'; known are 'a', 'b'"):
        found.detectors("c")
    with pytest.raises(InterpNetError, match="channel 9 is none of the 2"):
        found.names(9)
    assert found.names(Channel("1", 0)) == ()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([1, 1, 1, 1], "groups of 'concepts': all 4 images are of one group; expected several"),
        ([1, 2], "groups of 'concepts': 2 values came, and the loader has 4 images"),
        ([0.5, 1.5, 1.5, 1.5], "groups of 'concepts' holds 0.5 among others; expected whole numbers"),
        ("abcd", "groups of 'concepts' is 'abcd'; expected a value for each image"),
    ],
)
def test_groups_that_do_not_fit(groups: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        run([(IMAGES, DENSE)], groups=groups)


def test_groups_by_category() -> None:
    loaders, names = {"one": [(IMAGES, DENSE)]}, {"one": ["a", "b"]}
    with pytest.raises(
        InterpNetError, match=r"groups is \[1, 1, 2, 2\], and loader a dictionary; expected one of groups"
    ):
        run(loaders, concepts=names, groups=[1, 1, 2, 2])
    with pytest.raises(InterpNetError, match=r"groups has the category 'two', and loader \['one'\]"):
        run(loaders, concepts=names, groups={"two": [1, 1, 2, 2]})


@pytest.mark.filterwarnings("error::interpnet.concepts.ConceptWarning")
def test_few_groups_are_said() -> None:
    with pytest.warns(ConceptWarning, match="groups of 'concepts': 2 came, and intervals over so few say little"):
        run([(IMAGES, DENSE)], groups=[1, 1, 2, 2])
