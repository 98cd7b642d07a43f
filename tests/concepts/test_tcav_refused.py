"""Sets of images and layers that say nothing of a concept are refused by name."""

from __future__ import annotations

import pytest
import torch
from helpers.concepts import convolutional, sets
from torch import nn

from interpnet import concepts
from interpnet.errors import DataError, LayerError, ModelError

pytestmark = pytest.mark.filterwarnings("ignore::interpnet.concepts.ConceptWarning")

GOOD = {
    "concept": sets(1, 5, seed=1)[0], "random": sets(4, 5), "images": sets(1, 6, seed=2)[0], "target": 1, "layer": "1",
    "progress": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"concept": GOOD["concept"][:0]}, "concept 'concept' has no images; expected at least two"),
        ({"concept": {"dots": []}}, "concept 'dots' has no images"),
        ({"concept": GOOD["concept"][:1]}, "concept 'concept' has one image only, or one several times"),
        ({"concept": GOOD["concept"][[1, 1, 1]]}, "concept 'concept' has one image only, or one several times"),
        ({"concept": {}}, "concept is an empty dictionary"),
        ({"concept": {1: GOOD["concept"]}}, "a name in concept is 1"),
        ({"random": []}, "random: 0 sets of 5 images came"),
        ({"random": GOOD["random"][:2]}, "random: 2 sets of 5 images came"),
        ({"random": [*GOOD["random"], torch.zeros(0, 2, 6, 6)]}, "random set 4 has no images"),
        ({"random": [*GOOD["random"], GOOD["random"][0][3:]]}, "image 0 of random set 4 is image 3 of random set 0"),
        ({"random": [*GOOD["random"], GOOD["concept"]]}, "image 0 of concept 'concept' is image 0 of random set 4"),
        ({"against": GOOD["concept"] + 0}, "image 0 of concept 'concept' is image 0 of against as well"),
        ({"against": GOOD["random"][1]}, "image 0 of against is image 0 of random set 1 as well"),
        ({"random": sets(4, 5, side=7)}, r"random set 0: images of \(2, 7, 7\) came, and of \(2, 6, 6\) before"),
        ({"images": GOOD["images"][:1]}, "images: 1 of the class came; expected at least two"),
        ({"images": GOOD["images"][:0]}, "images: 0 of the class came; expected at least two"),
        ({"target": 3}, "target is 3; expected a whole number from 0 to 2"),
        ({"target": [0, 3], "images": [GOOD["images"]] * 2}, "target is 3; expected a whole number from 0 to 2"),
        ({"target": [0, 0], "images": [GOOD["images"]] * 2}, "every class once, in a list"),
        ({"target": [], "images": []}, "every class once, in a list"),
        ({"target": [[0]], "images": [GOOD["images"]]}, "every class once, in a list"),
        ({"target": [0, 1]}, "images: a Tensor came for 2 classes; expected a list with the images of each"),
        ({"target": [0, 1], "images": [GOOD["images"]]}, "images: a list of 1 came for 2 classes"),
        ({"target": [0, 1], "images": [GOOD["images"], GOOD["images"][:1]]}, "images of class 1: 1 of the class came"),
        ({"concept": GOOD["concept"].numpy()}, "concept 'concept': loader: a ndarray came"),
        ({"concept": GOOD["concept"] * float("nan")}, "NaN or infinite"),
    ],
)
def test_sets_that_say_nothing_are_refused(wrong, message):
    with pytest.raises((DataError, ValueError), match=message):
        concepts.tcav(convolutional(), **{**GOOD, **wrong})


def test_layers_that_cannot_be_read_are_refused():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.Linear(72, 3)
            self.aside = nn.Linear(72, 4)

        def forward(self, x):
            self.kept = torch.relu(self.aside(x.flatten(1)))
            return self.used(x.flatten(1))

    with pytest.raises(LayerError, match="log-odds do not depend on layer 'aside'"):
        concepts.tcav(Aside(), **{**GOOD, "layer": "aside"})
    with pytest.raises(LayerError, match="no layer matches 'nothing'"):
        concepts.tcav(convolutional(), **{**GOOD, "layer": "nothing"})

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 6)
            self.head = nn.Linear(3, 3)

        def forward(self, x):
            return self.head(self.conv(x).detach().flatten(1))

    with pytest.raises(ModelError, match="no gradient comes back to layer 'conv'"):
        concepts.tcav(Cut(), **{**GOOD, "layer": "conv"})


def test_a_layer_without_channels_and_a_dead_one_are_refused_by_name():
    class Packed(nn.Module):
        """Sorting each image's numbers leaves no channel axis."""

        def forward(self, x):
            return torch.relu(x.flatten().reshape(len(x), -1, 4)).flatten(1)[:, :3]

    with pytest.raises(LayerError, match=r"layer 'relu' cannot be used: its channel axis is not known"):
        concepts.tcav(Packed(), **{**GOOD, "layer": "relu"})
    dead = convolutional()
    with torch.no_grad():
        dead[0].bias.fill_(-99.0)
    with pytest.raises(DataError, match="have the same maps on average at layer '1'"):
        concepts.tcav(dead, **GOOD)
