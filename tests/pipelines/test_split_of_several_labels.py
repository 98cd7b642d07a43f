"""Splits and batches whose images can have several labels: numbered as the outputs, balanced, and told from others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_run import tiny_session
from interpnet.pipelines.run.folder import digest
from interpnet.pipelines.run.split import Batches, Split, balanced, belong
from torch.utils.data import TensorDataset

from interpnet.datasets import ImageData, make_loader
from interpnet.errors import DataError

TARGETS = np.array([[1, 0], [1, 1], [0, 0], [1, 0], [0, 1], [1, 0]])
OUTPUTS = np.array([2, 0])  # of four


def data(labels: Any = TARGETS) -> ImageData:
    labels = torch.as_tensor(labels)
    return ImageData.from_dataset(TensorDataset(torch.rand(len(labels), 3, 4, 4), labels), ["a", "b"], spec="six")


def test_targets_are_numbered_as_the_outputs() -> None:
    split = Split(data(), OUTPUTS, 4)
    expected = np.zeros((6, 4), dtype=bool)
    expected[:, 2] = TARGETS[:, 0]
    expected[:, 0] = TARGETS[:, 1]
    np.testing.assert_array_equal(split.targets, expected)
    assert split.present.tolist() == [0, 2]
    batches = Batches(make_loader(split.data, batch_size=4), torch.from_numpy(OUTPUTS), 4)
    np.testing.assert_array_equal(torch.cat([batch.labels for batch in batches]), expected)
    with pytest.raises(DataError, match="an image of 'six' can have several labels: targets says which"):
        _ = split.labels
    with pytest.raises(DataError, match="an image of 'six' has one label: labels says which"):
        _ = Split(data([0, 1]), OUTPUTS).targets


def test_class_numbers_and_single_labels_can_be_read_either_way() -> None:
    numbers = data([0, 1, 1])
    matrix = data([[1, 0], [0, 1], [0, 1]])
    for one in (numbers, matrix):
        assert Split(one, OUTPUTS).labels.tolist() == [2, 0, 0]
        assert Split(one, OUTPUTS, 3).targets.tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 0]]
        loader = make_loader(one)
        single = next(iter(Batches(loader, torch.from_numpy(OUTPUTS)))).labels
        several = next(iter(Batches(loader, torch.from_numpy(OUTPUTS), 3))).labels
        assert single.tolist() == [2, 0, 0]
        assert several.tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 0]]


def test_samples_are_balanced_over_the_rarest_label_of_each_image() -> None:
    split = Split(data(), OUTPUTS, 4)
    # Output 0, the rarer one, stands for the image that has both; 4 for the image without a label.
    assert split.strata.tolist() == [2, 0, 4, 2, 0, 2]
    assert sorted(split.strata[balanced(split.strata, 3, 0)].tolist()) == [0, 2, 4]


def test_how_outputs_belong_together_is_told_by_the_labels() -> None:
    assert belong("auto", data(), data([0, 1])) == "independent"
    assert belong("auto", data([0, 1]), data([[0, 1], [1, 0]])) == "exclusive"
    assert belong("independent", data([0, 1])) == "independent"
    assert belong("exclusive", data([[0, 1], [1, 0]])) == "exclusive"
    with pytest.raises(
        DataError, match=r"--outputs is exclusive, but image 'TensorDataset/1' has 2 labels; expected one"
    ):
        belong("exclusive", data([0, 1]), data())


def test_a_run_whose_images_have_one_label_is_the_run_of_before(tmp_path: Path) -> None:
    subject = tiny_session(tmp_path / "run").loaded
    identity = subject.identity(subject.describe({}))
    settings = {"layers": ["default"], "norm": "l2", "max_images": None}
    assert identity["configuration of collect (layers, norm, max-images)"] == digest(settings)
    assert "outputs" not in subject.describe({})["model"]
