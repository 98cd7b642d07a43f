"""The images in which channels are strongest, and a dissection as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from interpnet.concepts import Dissection, dissect, strongest
from interpnet.datasets import generated_concepts
from interpnet.engine import Channel
from interpnet.errors import DataError, InterpNetError, RunFolderError

pytestmark = pytest.mark.filterwarnings("ignore::interpnet.concepts.ConceptWarning")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()


SOURCES = generated_concepts(24, kinds=["colours", "shapes"], images=16, batch_size=5)


@pytest.fixture(scope="module")
def found() -> Dissection:
    return dissect(network(), SOURCES, groups={"shapes": [i // 2 for i in range(16)]}, top=3, progress=False)


def test_images_and_maps_of_the_strongest(found: Dissection) -> None:
    net = network()
    channels = [Channel("1", 2), Channel("3", 0)]
    seen = strongest(net, SOURCES, found, channels, most=3, max_batch=2)
    images = torch.cat([batch for one in SOURCES.values() for batch, _ in one])
    with torch.no_grad():
        maps = {"1": net[:2](images), "3": net[:4](images)}
    for channel in channels:
        one = seen[channel]
        every = maps[channel.layer][:, channel.index]
        assert list(one.numbers) == every.amax((1, 2)).argsort(descending=True, stable=True)[:3].tolist()
        torch.testing.assert_close(one.images, images[list(one.numbers)])
        expected = functional.interpolate(every[list(one.numbers)][:, None], size=(24, 24), mode="bilinear")[:, 0]
        torch.testing.assert_close(one.maps, expected)
        assert one.threshold == found.thresholds[found.channels.position(channel)]


def test_what_cannot_be_shown(found: Dissection) -> None:
    with pytest.raises(InterpNetError, match="7"):
        strongest(network(), SOURCES, found, [Channel("1", 7)])
    fewer = {"colours": SOURCES["colours"]}
    with pytest.raises(DataError, match=r"the loader yields no image \d+, which the dissection saw"):
        strongest(network(), fewer, found, list(found.channels))


def test_a_file_gives_the_same_dissection(found: Dissection, tmp_path: Path) -> None:
    found.save(tmp_path / "found.npz")
    again = Dissection.load(tmp_path / "found.npz")
    assert again.rows() == found.rows() or str(again.rows()) == str(found.rows())
    for name, value in vars(found).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    assert again.images == {"colours": 16, "shapes": 16}


def test_damaged_and_foreign_files(found: Dissection, tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    with pytest.raises(RunFolderError, match=r"found\.npz"):
        Dissection.load(path)
    found.save(path)
    held = dict(np.load(path))
    np.savez(path, **(held | {"iou": held["iou"] + 0.1}))
    with pytest.raises(RunFolderError, match="the checksum of iou does not fit"):
        Dissection.load(path)
    np.savez(path, **(held | {"meta": np.array('{"format": "other-1"}')}))
    with pytest.raises(RunFolderError, match="has format 'other-1'; expected 'interpnet-dissection-2'"):
        Dissection.load(path)


def test_names_come_with_the_loaders() -> None:
    with pytest.raises(InterpNetError, match=r"concepts is None, and a loader \(list\) has no attribute concepts"):
        dissect(network(), [(torch.rand(2, 3, 24, 24), torch.tensor([0, 1]))], progress=False)
