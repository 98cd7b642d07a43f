"""Figures of filters, maps, pictures and embeddings: their words, and classes told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.figures import words
from torch import nn

from interpnet import plot
from interpnet.errors import DataError
from interpnet.pictures import filters


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 2, stride=2, groups=2))


def test_figures_of_filters_and_maps_are_labelled() -> None:
    found = filters(net(), torch.zeros(1, 3, 8, 8))
    assert {"0: 4 filters of 3×3", "filter 0", "filter 3"} <= set(words(plot.filters(found["0"])))
    assert {"2: 2 of 6 filters of 2×2", "input", "filter 0"} <= set(words(plot.filters(found["2"], most=2)))
    drawn = words(plot.activation_maps(np.stack([np.eye(3), 2 * np.eye(3)]), "a$b", image=np.zeros((1, 3, 3))))
    assert {"a$b", "image", "channel 0", "channel 1", "max 2"} <= set(drawn)
    with pytest.raises(DataError, match="the maps of one image"):
        plot.activation_maps(np.zeros((2, 3)), "a")


def test_a_figure_of_pictures_has_their_titles() -> None:
    assert {"one", "$two", "all"} <= set(
        words(plot.pictures([np.zeros((3, 4, 4))] * 2, ["one", "$two"], heading="all"))
    )
    with pytest.raises(DataError, match="1 pictures and 2 titles"):
        plot.pictures([np.zeros((3, 4, 4))], ["a", "b"])


def test_a_map_tells_classes_apart_by_colour_and_mark() -> None:
    points = np.random.default_rng(0).normal(size=(40, 2))
    labels = np.arange(40) % 20
    figure = plot.embedding(points, labels, [f"class {c}" for c in range(20)], predictions=np.zeros(40, int))
    assert {"class 0", "class 19", "misclassified", "t-SNE, first axis (no unit)"} <= set(words(figure))
    marks = {
        (tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes())
        for c in figure.axes[0].collections
        if len(c.get_facecolor())
    }
    assert len(marks) == 20


def test_many_classes_are_shown_as_right_and_wrong() -> None:
    points = np.random.default_rng(0).normal(size=(60, 2))
    labels = np.arange(60)
    names = [str(c) for c in range(60)]
    drawn = words(plot.embedding(points, labels, names, predictions=labels // 2))
    assert {"correct", "wrong"} <= set(drawn)
    assert "misclassified" not in drawn, "said once"
    assert "image" in words(plot.embedding(points, labels, names))
    with pytest.raises(DataError, match=r"expected \(N, 2\), \(N,\) and \(N,\)"):
        plot.embedding(points, labels[:3], names)


def test_an_image_without_a_label_is_neither_right_nor_wrong() -> None:
    points = np.random.default_rng(0).normal(size=(30, 2))
    few = np.array([-1, 0, 1] * 10)
    drawn = plot.embedding(points, few, ["cat", "dog"], predictions=np.maximum(few, 0))
    assert {"cat", "dog", "no label"} <= set(words(drawn))
    assert "misclassified" not in words(drawn)
    many = np.arange(-1, 29)
    drawn = plot.embedding(points, many, [str(c) for c in range(29)], predictions=np.zeros(30, int))
    counts = {c.get_label(): len(c.get_offsets()) for c in drawn.axes[0].collections}
    assert counts == {"correct": 1, "wrong": 28, "no label": 1}
