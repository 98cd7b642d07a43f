"""S5: the classes' outputs, what shape and texture add, which channels follow them, and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments.common.pages import END, begin
from experiments.common.tables import proportion
from experiments.cue_conflict import claims, run, table
from experiments.cue_conflict.effects import (
    Effects,
    Followed,
    both_resampled,
    class_effects,
    decisions,
    drawn_alike,
    mean_of,
    own_effects,
    products,
    shape_share,
    told_apart,
)
from experiments.cue_conflict.images import CLASSES, halves, members, parsed
from interpnet.errors import DataError


def crossed(n: int, n_classes: int, seed: int = 0) -> tuple[Any, Any]:
    """Return classes of shape and texture that always disagree."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(0, n_classes, n)
    return shape, (shape + rng.integers(1, n_classes, n)) % n_classes


def test_the_sixteen_classes_share_no_output() -> None:
    groups = members()
    every = [i for group in groups for i in group]
    assert len(CLASSES) == 16
    assert list(CLASSES) == sorted(CLASSES)
    assert len(every) == len(set(every)) == 207
    assert {name: len(group) for name, group in zip(CLASSES, groups, strict=True)} == {
        "airplane": 1,
        "bear": 4,
        "bicycle": 2,
        "bird": 49,
        "boat": 5,
        "bottle": 7,
        "car": 3,
        "cat": 6,
        "chair": 4,
        "clock": 3,
        "dog": 109,
        "elephant": 2,
        "keyboard": 2,
        "knife": 1,
        "oven": 1,
        "truck": 8,
    }


def test_names_of_files() -> None:
    assert parsed("bear/bear10-oven3.jpg") == (1, 14, 1010, 14003)
    assert halves([1010, 1003, 14002]).tolist() == [0, 1, 0]
    with pytest.raises(DataError, match=r"whale1-oven3\.jpg: expected SHAPE NUMBER-TEXTURE NUMBER"):
        parsed("whale1-oven3.jpg")


def test_a_class_of_many_outputs_has_no_advantage() -> None:
    probabilities = np.array([[0.3, 0.2, 0.2, 0.2, 0.1], [0.1, 0.4, 0.4, 0.0, 0.1]])
    assert decisions(probabilities, [[0], [1, 2, 3]]).tolist() == [0, 1]  # 0.3 against 0.2, and 0.1 against 0.27


def test_what_a_classs_own_cues_add_by_hand() -> None:
    shape, texture = np.array([0, 0, 1, 2, 1, 2]), np.array([1, 2, 0, 0, 2, 1])
    z = np.zeros((6, 3))
    z[:, 0] = [3.0, 3.0, 2.0, 2.0, 1.0, 1.0]  # 1, plus 2 with its shape, plus 1 with its texture
    found = own_effects(z, shape, texture)
    np.testing.assert_allclose([found.shape[0], found.texture[0]], [2.0, 1.0])
    np.testing.assert_allclose(shape_share(found), [2 / 3, np.nan, np.nan])
    # An image that counts twice is there twice.
    weights = np.array([1.0, 2, 1, 3, 1, 1])
    z = np.random.default_rng(0).random((6, 3))
    rows = np.repeat(np.arange(6), weights.astype(int))
    np.testing.assert_allclose(
        own_effects(z, shape, texture, weights), own_effects(z[rows], shape[rows], texture[rows]), atol=1e-12
    )
    none = own_effects(z, shape, texture, np.array([0.0, 0, 1, 1, 1, 1]))
    assert np.isnan(none.shape[0])  # no image of its shape is left


def test_effects_of_all_classes_by_contrasts() -> None:
    shape, texture = crossed(200, 4)
    x = np.random.default_rng(1).random((200, 3)) + (shape == 2)[:, None] * [1.0, 0.0, 0.0]
    found = class_effects(x, shape, texture, 4)
    contrasts = np.vstack([np.eye(3), -np.ones(3)])
    design = np.hstack([np.ones((200, 1)), contrasts[shape], contrasts[texture]])
    solved = np.linalg.solve(design.T @ design, design.T @ x)
    np.testing.assert_allclose(found.shape, contrasts @ solved[1:4], atol=1e-9)
    np.testing.assert_allclose(found.texture, contrasts @ solved[4:], atol=1e-9)


def test_noise_and_pictures_follow_nothing_and_a_cue_is_followed() -> None:
    shape, texture = crossed(6000, 5)
    rng = np.random.default_rng(2)
    shape_picture, texture_picture = 100 * shape + rng.integers(1, 11, 6000), 100 * texture + rng.integers(1, 4, 6000)
    levels = np.array([2.0, -2.0, 1.0, -1.0, 0.0])
    noise = rng.standard_normal((6000, 40))
    looks = rng.standard_normal((600, 200))[texture_picture]  # each texture's picture has its own, whatever its class
    x = np.column_stack([noise, levels[shape] + noise[:, 0], levels[texture] + noise[:, 1], np.ones(6000), looks])
    squares = products(x, shape_picture, texture_picture, 5, 100)
    found = Followed.of(squares, x.std(0))
    assert abs(found.shape[:40].mean()) < 1e-3
    assert abs(found.texture[:40].mean()) < 1e-3
    # Five levels of mean square 2, over the variance of the score.
    assert found.shape[40] == pytest.approx(2.0 / x[:, 40].var(), rel=0.1)
    assert abs(found.texture[40]) < 0.01
    assert found.texture[41] == pytest.approx(2.0 / x[:, 41].var(), rel=0.1)
    assert found.both[42] == 0.0  # a constant
    assert abs(found.texture[43:].mean()) < 0.1  # the mean of squared effects of classes would be a third
    # Class 0 without its pictures of one part: the others' products stand, and its own are of the two parts left.
    kept = ~((texture == 0) & (texture_picture % 3 == 0))
    fewer = products(x[kept] + 100, shape_picture[kept], texture_picture[kept], 5, 100)
    np.testing.assert_allclose(fewer.texture[:, 41], squares.texture[:, 41], rtol=0.3, atol=0.3)
    some = Followed.of(squares, x.std(0), np.array([0, 4]))
    assert some.shape[40] == pytest.approx(2.0 / x[:, 40].var(), rel=0.1)  # 4 and 0
    share = Followed(np.array([1.0, -1.0, 0.0, 3.0]), np.array([3.0, 2.0, -1.0, -1.0])).texture_share
    np.testing.assert_array_equal(share, [0.75, 1.0, np.nan, 0.0])


def test_textures_told_apart_as_scikit_learn_counts() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 60)
    x = rng.integers(0, 9, (60, 4)) + labels[:, None] * np.array([0, 1, 3, -9])
    areas = [[roc_auc_score(labels == kind, column) for column in x.T] for kind in range(3)]
    np.testing.assert_allclose(told_apart(x, labels), np.mean(np.maximum(areas, 1 - np.array(areas)), axis=0))


def test_intervals_of_images_that_share_pictures_are_wider() -> None:
    rng = np.random.default_rng(4)
    shape_picture, texture_picture = np.repeat(np.arange(20), 20), np.tile(np.arange(1000, 1020), 20)
    value = rng.standard_normal(20)[shape_picture] + 0.1 * rng.standard_normal(400)

    def mean(weights: Any) -> Any:
        return np.array([weights @ value / weights.sum()])

    low, high = both_resampled(mean, shape_picture, texture_picture, 1000)
    assert low[0] < value.mean() < high[0]
    expected = 2 * 1.96 * value.reshape(20, 20).mean(1).std() / np.sqrt(20)
    assert high[0] - low[0] == pytest.approx(expected, rel=0.15)  # 20 pictures, not 400 images
    found = mean_of(value)
    assert found.mean == pytest.approx(value.mean())
    assert found.high - found.low < (high[0] - low[0]) / 3


def test_random_channels_come_from_the_same_layers() -> None:
    layer = np.repeat([0, 1], [50, 20])
    drawn = drawn_alike(np.array([0, 1, 60]), layer, np.random.default_rng(0))
    assert layer[drawn].tolist() == [0, 0, 1]
    assert not {0, 1, 60} & set(drawn.tolist())


def planted(n: int = 640) -> dict[str, Any]:
    """Return a network's arrays: its answers go by shape, 600 of its channels by shape and as many by texture."""
    rng = np.random.default_rng(5)
    shape, texture = crossed(n, 16, 5)
    logits = 4.0 * np.eye(16)[shape] + 1.0 * np.eye(16)[texture] + 0.1 * rng.standard_normal((n, 16))
    probabilities = np.zeros((n, 1000))
    for c, group in enumerate(members()):
        probabilities[:, group] = np.exp(logits[:, c])[:, None]
    gains = rng.standard_normal((16, 600))
    scores = np.hstack([gains[shape], gains[texture]]) + rng.standard_normal((n, 1200))
    contribution = np.hstack([gains, -9 * np.ones((16, 600))])  # a class relies on those that its shape raises
    return {
        "shape": shape,
        "texture": texture,
        "shape_picture": 1000 * shape + rng.integers(1, 11, n),
        "texture_picture": 1000 * texture + rng.integers(1, 4, n),
        "logits": logits,
        "probabilities": probabilities / probabilities.sum(1, keepdims=True),
        "scores": scores[:, np.argsort(np.tile(np.arange(600) // 100, 2), kind="stable")].astype(np.float32),
        "layers": np.array(list("abcdef")),
        "layer": np.repeat(np.arange(6), 200),
        "apart": np.tile(np.repeat([0.5, 0.9], 100), 6),
        **{
            name: contribution[:, np.argsort(np.tile(np.arange(600) // 100, 2), kind="stable")]
            for name in ("natural", "used0", "used1")
        },
        **{f"{name}_counts": np.full(16, 5) for name in ("natural", "used0", "used1")},
    }


def test_a_network_that_goes_by_shape_says_so_on_every_line(tmp_path: Path) -> None:
    a = planted()
    line = {"network": "squeezenet", "seconds": 60.0, "commit": "abc", "behaviour": run.behaviour(a)}
    line |= {"channels": run.channels(a), "named": run.named(a)}
    b = line["behaviour"]
    assert b["shape"] == b["images"] == 640
    share, low, high = b["share of log-odds"]
    assert low < share < high
    assert 0.7 < share < 1.0
    assert sum(row["shape"] for row in b["classes"]) == b["shape"]
    groups = line["channels"]["groups"]
    assert groups["texture"]["texture"] > 9 * max(groups["texture"]["shape"], 0.0)
    assert groups["shape"]["shape"] > 9 * max(groups["shape"]["texture"], 0.0)
    assert line["channels"]["apart within layers"] == pytest.approx([0.4, 0.4, 0.4])
    assert line["channels"]["same on other classes"] > 0.5
    for found in line["named"].values():
        assert found["classes"] == 16
        assert found["shape"][1] > 0.5
        assert abs(found["texture"][0]) < 0.2
        assert abs(found["shape, random"][0]) < 0.1
        assert found["texture's share"][2] < 0.3
    (tmp_path / "README.md").write_text(f"words\n{begin(table.COMMAND)}\nstale\n{END}\n")
    table.PAGE.write(tmp_path / "README.md", [line])
    page = (tmp_path / "README.md").read_text()
    assert "stale" not in page
    assert table.percent(table.interval(b["share of decisions"])) == "100 (100 to 100)"
    assert f"| {CLASSES[0]} |" in page
    assert (tmp_path / "shares.png").stat().st_size > 1000
    verdicts = {claim.claim: claim.verdict for claim in claims.claims([line])}
    assert set(verdicts.values()) <= {"holds", "does not hold", "holds in part", "open"}
    assert claims.claims([line])[0].verdict == "does not hold"  # texture decides more often than shape


def test_a_share_that_nothing_gives_is_a_dash() -> None:
    assert table.percent(table.answers({"shape": 0, "texture": 0})) == "–"
    assert table.answers({"shape": 3, "texture": 1}) == proportion(3, 4)
    assert np.isnan(shape_share(Effects(np.array([1.0]), np.array([-1.0])))[0])
