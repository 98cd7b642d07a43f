"""The stage that repairs: what the library is asked, masks, groups of a planted cue, and settings of the next audit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_run import CLASSES, again, recorded, said, through, tiny_session
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.repair import load_repair
from interpnet.pipelines.run.repair_settings import RepairSettings
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.stages import repair as stage
from interpnet.pipelines.stages import shortcuts

from interpnet.errors import InterpNetError
from interpnet.models import SmallCNN, save_smallcnn, smallcnn_extra

SETTINGS: dict[str, Any] = {"mu": 1.0, "seed": 3}
MANY = SETTINGS | {"counts": (60, 50, 40), "batch_size": 16}
# So that what is asked is asked of a search that always finds something.
SUSPICIOUS = "interpnet.shortcuts._findings.ClassFinding.suspicious"


def repaired(session: Session, **settings: Any) -> dict[str, Any]:
    return stage.run_repair(session, RepairSettings(**settings))


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(SUSPICIOUS, True)
    return through(tiny_session(tmp_path / "run", **MANY), "collect")


def test_the_library_gets_the_settings_and_the_images(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch, stage, "repair")
    session.run.manifest["data"]["train"]["skipped"] = [[4, "a", "b"]]
    facts = repaired(session, how="ridge", max_clean_loss=0.1, clean="unmoved", epochs=2)
    (call,) = calls
    assert call["args"][0] is session.loaded.model
    batches = list(call["args"][1])
    assert torch.cat([batch.indices for batch in batches]).tolist() == [i for i in range(150) if i != 4]
    assert (call["how"], call["max_clean_loss"], call["clean"], call["epochs"]) == ("ridge", 0.1, "unmoved", 2)
    assert call["seed"] == 3
    # Nine test images choose nothing.
    assert call["validation"] is None
    assert facts["images"] == {"train": 149, "test": 0, "held": "train"}
    assert facts["classes"] == list(CLASSES)


def test_a_search_that_has_just_run_is_not_run_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch, shortcuts, "find")
    repaired(session, how="ridge")
    assert len(calls) == 1
    other = again(session, **MANY)
    repaired(other, how="projection")
    assert len(calls) == 2
    assert "the search runs again, for a file of findings holds no images" in said(other)


def test_masks_are_left_out_of_the_search(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tiny_session(session.run.path, masks=True, **MANY)
    made = np.zeros((150, 16, 16), dtype=bool)
    made[:, 4:9, 3:9] = True
    other.loaded.train.data._source.known = {"plant": made}  # type: ignore[attr-defined]
    calls = recorded(monkeypatch, shortcuts, "find")
    repaired(other, how="ridge")
    assert [call["masks"] is not None for call in calls] == [True, False]
    assert "and new images no masks" in said(other)
    assert any("without the masks" in note for note in other.run.stage("repair")["notes"])


@pytest.mark.parametrize(
    "changed", [{"how": "projection"}, {"max_clean_loss": 0.2}, {"epochs": 5}, {"only": ("second",)}]
)
def test_every_setting_is_in_the_key(changed: dict[str, Any], session: Session) -> None:
    repaired(session, how="ridge")
    before = session.run.stage("repair")["key"]
    repaired(session, **{"how": "ridge"} | changed)
    assert session.run.stage("repair")["key"] != before


def test_only_must_be_suspicious(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    shortcuts.run_shortcuts(session)
    monkeypatch.setattr(SUSPICIOUS, property(lambda one: one.index == 1))
    with pytest.raises(InterpNetError, match="--only names 'third', which is not suspicious; those are: second"):
        repaired(session, only=("third",))


def test_several_labels_are_refused(session: Session) -> None:
    session.open_subject()
    session.run.manifest["model"]["outputs"] = "independent"
    with pytest.raises(InterpNetError, match=r"nothing to repair by: .* an image can have several labels"):
        repaired(session)


def test_a_repair_that_fails_leaves_the_last_one_and_is_not_taken_for_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    repaired(session, how="ridge")

    def refuse(*_args: Any, **_options: Any) -> Any:
        raise InterpNetError("how='ridge' cannot be done; how='training' is left")

    monkeypatch.setattr(stage, "repair", refuse)
    with pytest.raises(InterpNetError, match="--how ridge cannot be done; --how training is left"):
        repaired(session, how="ridge", epochs=9)
    facts = load_repair(session.run.path)
    assert facts is not None
    assert facts["settings"]["epochs"] == 4
    assert session.run.stage("repair")["state"] == "interrupted"


def test_a_planted_cue_is_measured_where_it_agrees_and_where_not(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = session.loaded
    work = stage._Work(session, RepairSettings(), None)  # type: ignore[arg-type]
    assert work._groups(subject.model) == {}
    session.config = replace(session.config, data="an8flower-single-6c?shortcut=pot")
    asked: list[str] = []

    def images(_config: RunConfig, split: str, _hint: Any) -> Any:
        asked.append(split)
        return subject.test.data

    monkeypatch.setattr(stage, "load_images", images)
    always = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 3))
    with torch.no_grad():
        always[1].weight.zero_()
        always[1].bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
    found = work._groups(always)
    assert asked == ["test-agree", "test-disagree"]
    x = torch.stack([subject.test.data[i][0] for i in range(9)])
    with torch.no_grad():
        expected = float((subject.model(x).argmax(1).numpy() == subject.test.labels).mean())
    # Four of nine are of the class that always says third.
    assert found["agree"] == pytest.approx([expected, 4 / 9])
    assert found["disagree"] == found["agree"]


def test_the_next_audit_prepares_images_as_the_published_weights_had_it(session: Session, tmp_path: Path) -> None:
    assert stage.audited(session).mean is None
    assert stage.audited(session).weights == str(session.run.path.resolve() / "repair" / "repaired.safetensors")
    subject = session.loaded
    session.__dict__["subject"] = replace(subject, info=replace(subject.info, preprocessing={"crop": 16}))
    subject.train.data.preprocessing.update(image_size=20, crop=[16, 16], mean=[0.5, 0.4, 0.3], std=[1.0, 1.0, 1.0])
    session.config = replace(session.config, weights="old.pt", weights_key="ema")
    session.config = stage.audited(session)
    session.config.save(tmp_path / "run.toml")
    config = RunConfig.load(tmp_path / "run.toml")
    assert (config.image_size, config.crop, config.mean, config.std) == (
        (20,),
        (16, 16),
        (0.5, 0.4, 0.3),
        (1.0, 1.0, 1.0),
    )
    assert (config.weights_key, config.channels) == (None, 3)


def test_the_file_of_a_smallcnn_keeps_what_is_still_so(session: Session, tmp_path: Path) -> None:
    net = SmallCNN(3, 3, 16, width=4, seed=0)
    old = {"preprocessing": {"channels": 3}, "classes": ["a"], "key": "x", "epochs": 3, "test_accuracy": 0.9}
    save_smallcnn(net, tmp_path / "net.safetensors", old)
    session.__dict__["subject"] = replace(session.loaded, model=net)
    session.config = replace(session.config, weights=str(tmp_path / "net.safetensors"))
    work = stage._Work(session, RepairSettings(), None)  # type: ignore[arg-type]
    assert work._extra() == {"preprocessing": {"channels": 3}, "classes": ["a"]}
    assert smallcnn_extra(tmp_path / "net.safetensors") == old
