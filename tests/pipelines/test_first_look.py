"""A first look before the long pass: slips that an audit used to run over, each stopped with its cause."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_run import OUTPUTS, Tiny, said, tiny_session
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.run.split import Split
from interpnet.pipelines.stages import first_look
from interpnet.pipelines.stages.collect import run_collect
from interpnet.pipelines.stages.first_look import USUAL
from torch import Tensor

from interpnet.errors import DataError, InterpNetError

MANY = (90, 70, 80)


def session_of(
    path: Path, network: torch.nn.Module | None = None, outputs: np.ndarray = OUTPUTS, **given: Any
) -> Session:
    """Return a session with another network, or other outputs for the classes."""
    session = tiny_session(path, counts=MANY, **given)
    train = Split(session.loaded.train.data, outputs)
    session.__dict__["loaded"] = replace(session.loaded, model=(network or Tiny()).eval(), train=train)
    return session


class ForWholeNumbers(Tiny):
    """A network that was trained on pixels from 0 to 255."""

    def __init__(self) -> None:
        super().__init__()
        self.load_state_dict(Tiny().state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 255)


def empty() -> Tiny:
    """Return a network that says the same of every image."""
    model = Tiny()
    model.out.weight.data.zero_()
    model.out.bias.data = torch.tensor([0.0, 0.1, 0.0])
    return model


def test_a_network_that_knows_the_classes_is_let_through_with_a_word(tmp_path: Path) -> None:
    session = session_of(tmp_path / "run")
    run_collect(session)
    seen = session.run.stage("collect")["first_look"]
    assert seen["images"] == 240
    assert seen["accuracy"] > 0.5 > seen["chance"]
    assert re.search(r"first look: 1\d\d of 240 images right, \d\d % by chance", said(session))


@pytest.mark.parametrize(
    ("make", "given", "match"),
    [
        (empty, {}, r"right about 80 of 240 .*, no more than chance \(33 %\).* calls 100 % of them 'second'"),
        (empty, {"weights": "random"}, r"Usual causes: its weights are random \(--weights random\)"),
        (empty, {"model": "nets/mine.py:make"}, r"no weights were given \(--weights FILE\), so nets/mine.py:make must"),
        (ForWholeNumbers, {}, r"right about \d+ of 240 .*, and with pixels less 0, divided by 0.003922 .*about 1\d\d"),
    ],
)
def test_slips_are_stopped_with_their_cause(tmp_path: Path, make: Any, given: dict[str, Any], match: str) -> None:
    session = session_of(tmp_path / "run", make(), **given)
    with pytest.raises(DataError, match=match + r".*To audit it all the same: --anyway"):
        run_collect(session)
    assert not (session.run.path / "scores" / "X.f32").exists()


def test_classes_in_another_order_are_named(tmp_path: Path) -> None:
    # The data's classes in the order of the outputs, which is another one.
    session = session_of(tmp_path / "run", outputs=np.array([0, 1, 2]))
    match = (
        r"another order of the classes fits 1\d\d of 240 images: 'first' is called 'third', .* did you mean --classes"
    )
    with pytest.raises(DataError, match=match):
        run_collect(session)


def test_anyway_goes_on_and_says_so(tmp_path: Path) -> None:
    session = session_of(tmp_path / "run", empty(), anyway=True)
    run_collect(session)
    stage = session.run.stage("collect")
    assert any(n.startswith("The audit went on by --anyway, although the network is right") for n in stage["notes"])


def test_few_images_accuse_nobody(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", counts=(2, 2, 2))
    session.__dict__["loaded"] = replace(session.loaded, model=empty().eval())
    run_collect(session)


def test_what_is_resumed_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_collect(session_of(tmp_path / "run"))
    monkeypatch.setattr(first_look, "_sample", lambda _: pytest.fail("it is done"))
    run_collect(session_of(tmp_path / "run"))


def test_other_preparations_are_those_of_the_command_line(tmp_path: Path) -> None:
    session = session_of(tmp_path / "run")
    # As of images that a run prepares itself.
    session.loaded.train.data.__dict__["finished"] = False
    images, _ = first_look._sample(session)
    now = first_look.Agreement(np.zeros(240, dtype=int), np.zeros(240, dtype=int))
    seen: list[Tensor] = []
    session.loaded.model.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    words = [words for words, _ in first_look._otherwise(session, images, now)]
    # Without the preparation that the images have: none.
    assert words == [
        "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        "--mean 0.5 --std 0.5",
        "--mean 0 --std 0.003922",
    ]
    mean, std = (torch.tensor(row).view(-1, 1, 1) for row in USUAL[0])
    torch.testing.assert_close(seen[0], (images[0] - mean) / std)
    session.loaded.train.data.__dict__["finished"] = True
    words = [words for words, _ in first_look._otherwise(session, images, now)]
    assert words[1] == "pixels less 0.5, divided by 0.5 (in the data's own transform)"


@pytest.mark.parametrize("name", ["mean", "std"])
def test_numbers_for_pixels_up_to_255_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["audit", "torchvision:resnet18", "digits", f"--{name}", "123.675,116.28,103.53"])
    shown = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert f"--{name} is 123.675,116.28,103.53, as if pixels went from 0 to 255" in shown
    assert f"--{name} 0.485,0.456,0.406 (or --anyway)" in shown
    assert RunConfig(**{name: (123.0,)}, anyway=True)
    with pytest.raises(InterpNetError, match="expected numbers up to 1"):
        RunConfig(**{name: (1.5,)})
    assert RunConfig(mean=(1.0,), std=(1.0,))
