"""What the untouched network says of each image: kept by a study, paired with another network's, and read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from interpnet.ablation import AblationResult, Answers, ablation_study
from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.interpretation import Interpretation


def answers(images: list[int], labels: list[int], right: list[bool], log_odds: list[float]) -> Answers:
    return Answers(np.array(images), np.array(labels), np.array(right), np.array(log_odds, np.float32))


FIRST = answers([3, 1, 2, 9], [0, 0, 1, 1], [True, False, True, True], [1.0, -1.0, 2.0, 5.0])
SECOND = answers([1, 2, 3, 7], [0, 1, 0, 1], [True, False, True, True], [0.5, -1.0, 3.0, 5.0])


def test_rows_of_the_same_image_and_class_are_paired() -> None:
    a, b = FIRST.paired(SECOND)
    for one in (a, b):
        assert (one.images.tolist(), one.labels.tolist()) == ([1, 2, 3], [0, 1, 0])
    # By hand: image 1 is recognised now, image 2 no longer, image 3 still.
    recall = a.change_to(b, "recall", 2)
    assert (recall.mean.tolist(), recall.count.tolist(), recall.share) == ([0.5, -1.0], [2, 1], True)
    odds = a.change_to(b, "log_odds", 2)
    np.testing.assert_allclose(odds.mean, [(1.5 + 2.0) / 2, -3.0])
    assert a.change_to(b, "recall", 1, by_class=False).mean.tolist() == [0.0]


def test_a_change_between_infinite_log_odds_is_not_known() -> None:
    """A network of a single class is sure of everything."""
    sure = answers([0, 1], [0, 0], [True, True], [np.inf, 1.0])
    odds = sure.change_to(sure, "log_odds", 1)
    assert (odds.mean.tolist(), odds.count.tolist()) == ([0.0], [1])


def test_another_label_of_the_same_image_is_another_row() -> None:
    a, b = FIRST.paired(answers([3, 1], [1, 0], [True, True], [0.0, 0.0]))
    assert (a.images.tolist(), b.images.tolist()) == ([1], [1])


def test_labels_of_one_image_are_one_sample() -> None:
    """Two labels of each image that change together say no more than one."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(40), 2)
    labels = np.tile([0, 1], 40)
    right = np.repeat(rng.random(40) < 0.5, 2)
    before = Answers(images, labels, np.ones(80, bool), np.zeros(80, np.float32))
    after = Answers(images, labels, right, np.zeros(80, np.float32))
    alike = before.change_to(after, "recall", 2)
    apart = Answers(np.arange(80), labels, before.right, before.log_odds).change_to(
        Answers(np.arange(80), labels, right, after.log_odds), "recall", 2
    )
    assert alike.stderr() > 1.3 * apart.stderr()


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    FIRST.save(tmp_path / "answers.npz")
    found = Answers.load(tmp_path / "answers.npz")
    for name in ("images", "labels", "right", "log_odds"):
        np.testing.assert_array_equal(getattr(found, name), getattr(FIRST, name))
    with pytest.raises(RunFolderError, match="does not exist"):
        Answers.load(tmp_path / "absent.npz")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: answers([1, 2], [0], [True], [0.0]),
            r"labels has shape \(1,\); expected a row for each of the images",
        ),
        (lambda: FIRST.change_to(SECOND, "recall", 2), r"are of other images or classes; pair them first"),
        (lambda: FIRST.change_to(FIRST, "recal", 2), r"measure is 'recal'; expected 'recall'.*"),
        (lambda: FIRST.change_to(FIRST, "recall", 0), r"n_classes is 0; expected a whole number of at least 1"),
    ],
)
def test_wrong_arguments(call, message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        call()


def test_a_study_keeps_what_a_pass_says() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
    images = torch.randn(10, 1, 4, 4)
    labels = torch.arange(10) % 3
    found = Interpretation(ChannelIndex((("1", 3),)), np.eye(3), ("a", "b", "c"))
    batches = [(images[:6], labels[:6]), (images[6:], labels[6:])]
    study = ablation_study(net, batches, found, repeats=1, progress=False)
    kept = study.answers
    assert kept is not None
    logits = net(images).double()
    own = logits.gather(1, labels[:, None])[:, 0]
    rest = logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
    np.testing.assert_allclose(kept.log_odds, (own - rest).detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(kept.right, (logits.argmax(1) == labels).numpy())
    assert (kept.images.tolist(), kept.labels.tolist()) == (list(range(10)), labels.tolist())
    # A table of its own: the JSON of a study does not grow with the images.
    text = json.dumps(study.to_json())
    assert "answers" not in text
    assert AblationResult.from_json(json.loads(text)).answers is None
