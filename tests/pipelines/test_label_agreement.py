"""What a first look says of images with several labels: figures by hand, chance, exchanged outputs, preparations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.labelled_run import PLANTED, Finder, labelled_session
from helpers.tiny_run import said
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.stages.collect import run_collect
from interpnet.pipelines.stages.label_agreement import LabelAgreement
from sklearn.metrics import roc_auc_score
from torch import nn

from interpnet.errors import DataError


def test_figures_by_hand() -> None:
    targets = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=bool)
    now = LabelAgreement(targets, np.array([[2.0, -1.0], [-1.0, 3.0], [-2.0, 1.0], [1.0, 2.0]]))
    # Label 0: one of 2 is found, one of 2 is given; its pairs are 2 > -2, 2 > 1, -1 > -2, not -1 > 1. Label 1: 2, 1.
    assert now.recall == 0.75
    assert now.false_alarms == 0.5
    assert now.known == pytest.approx((0.5 + 1.0) / 2)
    assert (now.n, now.tells, now.finite) == (4, False, True)


def test_what_is_known_is_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((80, 5)) < 0.3
    logits = (rng.normal(size=(80, 5)) + targets).round(1)  # with ties
    areas = [roc_auc_score(targets[:, j], logits[:, j]) for j in range(5)]
    assert LabelAgreement(targets, logits).known == pytest.approx(np.mean(2 * np.array(areas) - 1))
    # A label that all images have, or none, tells nothing.
    targets[:, 0] = True
    targets[:, 1] = False
    assert LabelAgreement(targets, logits).known == pytest.approx(np.mean(2 * np.array(areas[2:]) - 1))


def test_chance_is_told_from_a_threshold_that_is_far_off() -> None:
    rng = np.random.default_rng(1)
    targets = rng.random((250, 6)) < 0.3
    noise = rng.normal(size=targets.shape)
    assert LabelAgreement(targets, noise).at_chance
    knowing = LabelAgreement(targets, noise + 2 * targets - 9)
    assert (knowing.recall, knowing.at_chance) == (0.0, False)
    few = LabelAgreement(targets[:6], noise[:6])
    assert not few.at_chance
    habits = [LabelAgreement(targets, noise + shift).habit("abcdef") for shift in (-9, 0, 9)]
    assert habits[1] == ""
    assert habits[0] == "it gives hardly any label to any image"
    assert habits[2] == "it gives nearly every one of the 6 labels to nearly every image"


def test_of_many_networks_at_chance_and_of_none_that_knows_half_is_accused() -> None:
    rng = np.random.default_rng(2)
    accused = {0.0: 0, 0.9: 0}
    for shift in accused:
        for _ in range(200):
            targets = rng.random((120, 4)) < 0.3
            logits = rng.normal(size=targets.shape) + shift * targets
            accused[shift] += LabelAgreement(targets, logits).at_chance
    assert accused[0.0] > 150
    assert accused[0.9] == 0


def turned(session: Session) -> None:
    """Exchange the outputs of the first two labels."""
    out = session.loaded.model.out
    out.weight.data = out.weight.data[[1, 0, 2]]
    out.bias.data = out.bias.data[[1, 0, 2]]


def mute(session: Session) -> None:
    session.loaded.model.out.weight.data.zero_()


def of_bytes(session: Session) -> None:
    """Make it a network that was trained on pixels from 0 to 255."""

    class ForBytes(Finder):
        def __init__(self) -> None:
            super().__init__()
            self.load_state_dict(Finder().state_dict())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x / 255)

    session.__dict__["loaded"] = replace(session.loaded, model=ForBytes().eval())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (turned, r"'red square' is called 'green bar', 'green bar' is called 'red square'.*did you mean --classes"),
        (mute, r"finds 0 % of the labels .*, no more than chance. Usual causes: .*hardly any label to any image"),
        (of_bytes, r"curve 0.\d\d\), and with pixels .*divided by 0.003922 .* 0.9\d"),
    ],
)
def test_slips_are_stopped_with_their_cause(change: Any, match: str, tmp_path: Path) -> None:
    session = labelled_session(tmp_path / "run", n=120)
    change(session)
    with pytest.raises(DataError, match=match):
        run_collect(session)


def test_a_network_that_knows_the_labels_is_let_through_with_a_word(tmp_path: Path) -> None:
    session = labelled_session(tmp_path / "run")
    run_collect(session)
    entry = session.run.stage("collect")
    assert entry["accuracy"] is None
    assert entry["first_look"]["images"] == 60
    assert entry["first_look"]["recall"] > 0.7
    assert "81 % of the labels of 60 images found, 4 % of those that they lack given" in said(session)


def test_the_planted_channels_are_what_the_outputs_see() -> None:
    """The fixture is what it says: the weights of the planted channels dwarf all others."""
    model: nn.Module = Finder()
    weights = model.out.weight.detach().abs()
    assert weights.argmax(1).tolist() == list(PLANTED)
