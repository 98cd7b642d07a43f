"""Which images and channels are pictured, and what their records and pictures hold, with values by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_run import CLASSES, read, recorded, said, tensors, through, tiny_session
from interpnet.pipelines.run.notes import Notes
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.run.subject import make_output
from interpnet.pipelines.stages import answers, collect, examples, explain, solve, visualise
from PIL import Image
from torch import Tensor, nn

from interpnet.engine import Channel, ChannelIndex, find_sites, predicted
from interpnet.errors import DataError
from interpnet.explanation import Explanation, average_visualization
from interpnet.interpretation import Interpretation
from interpnet.plotting import enlarge, render

SETTINGS: dict[str, Any] = {
    "mu": 1.5,
    "repeats": 1,
    "methods": ("gradient",),
    "top": 3,
    "examples": 1,
    "misclassified": 1,
    "max_channels": 1,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run with masks, up to its explanations; no test changes it."""
    return through(tiny_session(tmp_path_factory.mktemp("finished") / "run", masks=True, **SETTINGS))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


# --- a network with several outputs -----------------------------------------------------------------------


class Several(nn.Module):
    """A network that returns its logits beside something else."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": x.mean((2, 3)), "logits": self.inner(x)}


def test_every_stage_takes_the_output_that_was_asked_for(finished: Session, tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", masks=True, output="logits", **SETTINGS)
    plain = session.loaded
    output = make_output("logits")
    model = Several(plain.model)
    trace = find_sites(model, torch.rand(2, 3, 16, 16), output=output)
    session.__dict__["loaded"] = dataclasses.replace(plain, model=model, output=output, trace=trace)
    explain.check_explain(session)
    through(session)
    for file in (
        "weights/summary.json",
        "ablation/ablation.json",
        "explanations/classes.json",
        "explanations/examples.json",
        "explanations/localisation.json",
    ):
        text = (session.run.path / file).read_text()
        assert json.loads(text.replace("inner:relu", "relu")) == read(finished, file)


# --- which images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "each", "mistakes"), [(0, 2, 1), (1, 1, 2), (2, 3, 0), (3, 0, 5)])
def test_examples_are_the_first_of_each_class_in_the_order_that_the_seed_draws(
    seed: int, each: int, mistakes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(tmp_path / "run", seed=seed, examples=each, misclassified=mistakes)
    readable = np.array([8, 1, 2, 3, 5, 6, 7, 0])
    truth = session.loaded.test.labels[readable]
    said = np.where(np.arange(8) % 4 == 1, (truth + 1) % 3, truth)
    monkeypatch.setattr(examples, "answers", lambda _session, _read: (said, readable))
    order = np.random.default_rng(seed).permutation(8).tolist()
    expected = []
    for c in range(3):
        expected += [readable[i] for i in order if truth[i] == c and said[i] == c][:each]
    expected += [readable[i] for i in order if said[i] != truth[i]][:mistakes]
    assert examples.choose(session, Notes()) == expected


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("most", [4, 5])
def test_where_not_all_examples_fit_those_drawn_first_are_shown(
    most: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(tmp_path / "run", seed=seed, examples=2, misclassified=0, max_examples=most)
    truth = session.loaded.test.labels
    monkeypatch.setattr(examples, "answers", lambda _session, _read: (truth, np.arange(9)))
    order = np.random.default_rng(seed).permutation(9).tolist()
    first = [next(i for i in order if truth[i] == c) for c in range(3)]
    second = [[i for i in order if truth[i] == c][1] for c in range(3)]
    second = sorted(second, key=order.index)[: most - 3]
    expected = [i for c in range(3) for i in (*first, *second) if truth[i] == c]
    assert examples.choose(session, Notes()) == expected


@pytest.mark.parametrize(("each", "note"), [(20, False), (21, True)])
def test_at_most_sixty_recognised_images_are_examples(
    each: int, note: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(tmp_path / "run", examples=each)
    readable = np.tile(np.arange(9), 12)
    monkeypatch.setattr(examples, "answers", lambda _session, _read: (session.loaded.test.labels[readable], readable))
    notes = Notes()
    chosen = examples.choose(session, notes)
    assert np.bincount(session.loaded.test.labels[chosen]).tolist() == [20, 20, 20]
    expected = "Examples are 60 recognised images, drawn over 3 classes, not 21 per class (--max-examples)."
    assert notes.texts == ([expected] if note else [])


def test_examples_are_explained_eight_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tiny_session(tmp_path / "run")
    test = session.loaded.test
    order = [4, 0, 8, 1, 2, 3, 5, 6, 7]
    asked: list[tuple[list[examples.Item], Tensor, list[Tensor]]] = []

    def explaining(_session: Any, _found: Any, items: Any, images: Tensor, pictures: Any) -> list[dict[str, Any]]:
        asked.append((items, images, pictures))
        counts = {"rectifiers_seen": 3, "rectifiers_overridden": 2}
        named = {"image": f"{items[0].stem}.png", "combined": f"{items[0].stem}.png", "baselines": {}, "channels": []}
        folder = session.run.folder("explain")
        (folder / "examples").mkdir(parents=True, exist_ok=True)
        (folder / named["image"]).touch()
        return [named | counts | {"dataset_index": item.index} for item in items]

    monkeypatch.setattr(examples, "choose", lambda *_: order)
    monkeypatch.setattr(examples, "explain_batch", explaining)
    listed = examples.explain_examples(session, None, "key", Notes())
    assert [len(items) for items, _, _ in asked] == [8, 1]
    items = [item for group, _, _ in asked for item in group]
    assert items == [
        examples.Item(f"examples/{n:04d}", f"test {i}", i, int(test.labels[i])) for n, i in enumerate(order)
    ]
    torch.testing.assert_close(torch.cat([images for _, images, _ in asked]), tensors(session, "test")[0][order])
    pictures = torch.stack([picture for _, _, group in asked for picture in group])
    torch.testing.assert_close(pictures, torch.stack([test.data.picture(i) for i in order]))
    assert (listed["rectifiers_seen"], listed["rectifiers_overridden"]) == (3, 2)
    assert [entry["dataset_index"] for entry in listed["examples"]] == order


def test_images_are_predicted_in_evaluation_mode_and_logits_that_are_no_numbers_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(tmp_path / "run")
    model = session.loaded.model.train()
    modes: list[tuple[bool, bool]] = []
    honest = answers.forward_logits

    def forward(*args: Any) -> Tensor:
        modes.append((model.training, torch.is_inference_mode_enabled()))
        logits = honest(*args).clone()
        if len(modes) == 5:
            logits[1, 0] = float("nan")
        return logits

    monkeypatch.setattr(answers, "forward_logits", forward)
    answers.answers(session, predicted)
    assert modes == [(False, True)] * 3
    assert model.training
    with pytest.raises(DataError, match=r"image 5 \(in batch 1 of the pass, both counted from 0\) has NaN"):
        answers.answers(session, predicted)


# --- an image's record ------------------------------------------------------------------------------------


def batch(session: Session) -> examples._Batch:
    """Two images with hand-made maps: two channels and one, a blank heatmap, a blank method, a negative one."""
    found = Interpretation(
        ChannelIndex((("a", 2), ("b", 1))), np.array([[1.0, 0.0, 0.0], [0.0, -2.0, 4.0], [0.0] * 3]), CLASSES
    )
    maps = torch.zeros(2, 2, 4, 4)
    maps[0, 0, 1] = 0.5
    maps[1, 0, :, 2] = 0.25
    others = torch.zeros(2, 4, 4)
    others[1, 3] = 1.0
    result = Explanation(
        classes=torch.tensor([1, 0]),
        predictions=torch.tensor([2, 0]),
        confidences=torch.tensor([0.25, 0.5]),
        channels=[[Channel("b", 0), Channel("a", 1)], [Channel("a", 0)]],
        responses=[[3.0, 2.0], [1.5]],
        heatmaps=maps,
        combined=maps.amax(1),
        signals=maps[:, :, None],
        rectifiers_seen=5,
        rectifiers_overridden=4,
    )
    return examples._Batch(session, found, result, {"gradient": others, "edge": -1 - others}, ["occlusion: too slow"])


def test_the_record_of_an_image_holds_its_own_numbers_and_pictures(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", k=2)
    made = batch(session)
    picture = torch.rand(3, 4, 4)
    record = made.record(0, examples.Item("examples/0007", "test 70", 70, 1), picture)
    assert record == {
        "name": "test 70",
        "dataset_index": 70,
        "true": 1,
        "predicted": 2,
        "explained": 1,
        "confidence": 0.25,
        "image": "examples/0007_image.png",
        "channels": [
            {
                "layer": "b",
                "index": 0,
                "weight": 4.0,
                "response": 3.0,
                "heatmap": "examples/0007_h0.png",
                "blank": False,
            },
            {
                "layer": "a",
                "index": 1,
                "weight": -2.0,
                "response": 2.0,
                "heatmap": "examples/0007_h1.png",
                "blank": True,
            },
        ],
        "combined": "examples/0007_combined.png",
        "baselines": {"gradient": "examples/0007_gradient.png", "edge": "examples/0007_edge.png"},
        "blank": ["gradient"],
        "note": "occlusion: too slow",
        "rectifiers_seen": 5,
        "rectifiers_overridden": 4,
    }
    folder = session.run.folder("explain")
    np.testing.assert_array_equal(pixels(folder / record["image"]), enlarge(picture, 192))
    result = made.result
    for name, heatmap in (
        ("h0", result.heatmaps[0, 0]),
        ("h1", result.heatmaps[0, 1]),
        ("combined", result.combined[0]),
        ("gradient", made.others["gradient"][0]),
        ("edge", made.others["edge"][0]),
    ):
        drawn = pixels(folder / f"examples/0007_{name}.png")
        np.testing.assert_array_equal(drawn, examples.shown(heatmap, picture))
        assert drawn.shape == (192, 192, 3)


def test_an_image_with_fewer_channels_than_asked_for_says_so(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", k=2)
    record = batch(session).record(1, examples.Item("user/x", "x"), torch.rand(3, 4, 4))
    assert record["note"] == "only 1 channel of this class answers; occlusion: too slow"
    assert (record["dataset_index"], record["true"], record["explained"]) == (None, None, 0)
    assert record["blank"] == []


def test_channels_that_do_not_answer_are_not_channels_that_do_not_exist(tmp_path: Path) -> None:
    made = batch(tiny_session(tmp_path / "run", k=3))
    own = {"weight": 1.0}
    other = {"weight": 0.0}
    assert made._few(1, []) == ["only no channels of this class answer"]
    assert made._few(1, [own, own]) == ["only 2 channels of this class answer"]
    assert made._few(1, [own, own, own]) == []
    assert made._few(1, [own, other, other]) == ["2 of the channels shown are not relevant to the class, but fill up"]
    assert made._few(2, []) == ["this class has no relevant channel, so there is nothing to show"]
    assert made._few(2, [other]) == ["this class has no relevant channel: those shown contribute most among all"]


def test_pictures_are_not_waited_for_until_they_lie_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost one is made again, for its checksum lies in a record that is waited for."""
    session = through(tiny_session(tmp_path / "run", top=2), "collect")
    saved = recorded(monkeypatch, examples, "save_png")
    more = recorded(monkeypatch, visualise, "save_png")
    batch(session).record(0, examples.Item("user/x", "x"), torch.rand(3, 4, 4))
    visualise.visualise_channels(session, [Channel("relu", 0)], "key")
    assert len(saved) == 6
    assert len(more) == 3
    assert not any(call["durable"] for call in saved + more)


def test_the_brightest_colour_begins_at_a_quantile_and_the_darkest_at_zero() -> None:
    heatmap = torch.linspace(-1.0, 0.5, 1600).reshape(40, 40)
    picture = torch.rand(3, 40, 40)
    high = float(np.quantile(heatmap.numpy(), 0.995))
    expected = render(heatmap, picture, size=192, vmin=0.0, vmax=high)
    np.testing.assert_array_equal(examples.shown(heatmap, picture), expected)


def test_pictures_have_the_size_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "_SIZE", 48)
    for value in (0.0, 1.0):
        assert examples.shown(torch.full((4, 4), value), torch.rand(3, 4, 4)).shape == (48, 48, 3)


def test_other_methods_are_shown_once_and_their_blank_maps_without_a_warning(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", methods=("edge", "gradient", "edge"))
    session.loaded.model.second.bias.data.fill_(-100.0)
    x, y = tensors(session, "test")
    maps, missing = examples.compared_maps(session, x, y)
    assert list(maps) == ["edge", "gradient", "random", "center"]
    assert missing == []
    assert not maps["gradient"].any()


# --- channels ---------------------------------------------------------------------------------------------


def test_a_channel_s_record_and_pictures_are_of_its_average_visualization(finished: Session, tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", masks=True, **SETTINGS)
    through(session, "collect")
    channels = [Channel("relu", 1), Channel("relu:1", 2)]
    records = visualise.visualise_channels(session, channels, "key")
    folder = session.run.folder("explain")
    for channel in channels:
        made = average_visualization(
            session.loaded.model, session.loaded.train.data, collect.load_table(session), channel, top=3, keep=9
        )
        record = records[channel]
        assert (record["count"], record["whole_image"]) == (made.count, made.whole_image)
        assert record["field"] == list(made.field)
        np.testing.assert_array_equal(pixels(folder / record["mean"]), enlarge(made.mean, 160))
        assert len(record["patches"]) == len(made.crops) > 0
        for name, crop in zip(record["patches"], made.crops, strict=True):
            np.testing.assert_array_equal(pixels(folder / name), enlarge(crop, 96))
    assert "pictured already" not in said(session)
    visualise.visualise_channels(session, [*channels, Channel("relu", 0)], "key")
    assert said(session).endswith("  2 of 3 channels are pictured already\n")


@pytest.mark.parametrize(("room", "groups"), [(61440, [2, 2]), (92159, [2, 2]), (92160, [3, 1]), (1, [1, 1, 1, 1])])
def test_as_many_channels_are_pictured_at_a_time_as_their_crops_fit(
    room: int, groups: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten crops of 3 * 16 * 16 numbers of four bytes are 30720 bytes."""
    session = through(tiny_session(tmp_path / "run", top=2), "collect")
    asked: list[int] = []
    made = SimpleNamespace(
        mean=torch.rand(3, 4, 4), crops=[], count=1, field=(4, 4), whole_image=False, by_padding=False
    )

    def averaging(_model: Any, _data: Any, _table: Any, group: list[Channel], **_options: Any) -> dict[Channel, Any]:
        asked.append(len(group))
        return dict.fromkeys(group, made)

    monkeypatch.setattr(visualise, "average_visualizations", averaging)
    monkeypatch.setattr(visualise, "_GROUP_BYTES", room)
    monkeypatch.setattr(visualise, "_SMALLEST_GROUP", 1)
    visualise.visualise_channels(session, [Channel("relu", i) for i in range(4)], "key")
    assert asked == groups


def test_at_most_twelve_hundred_channels_are_shown() -> None:
    wide = Interpretation(ChannelIndex((("a", 1300),)), np.arange(1.0, 1301.0)[None], ("x",))
    assert len(explain.shown_channels([wide], 5000)[0]) == 1200
    coef = np.ones((600, 3))
    many = Interpretation(ChannelIndex((("a", 3),)), coef, tuple(f"c{i}" for i in range(600)))
    assert {len(row) for row in explain.shown_channels([many], 12).values()} == {2}
    coef = np.ones((1201, 2))
    more = Interpretation(ChannelIndex((("a", 2),)), coef, tuple(f"c{i}" for i in range(1201)))
    assert {len(row) for row in explain.shown_channels([more], 12).values()} == {1}


def test_channels_left_out_of_the_pictures_are_noted(finished: Session, tmp_path: Path) -> None:
    assert np.count_nonzero(solve.load_interpretation(finished).coef, axis=1).max() > 1
    note = (
        "At most 1 channels per class are pictured, the first by weight or reliance (--max-channels); "
        "weights/ has tables of all."
    )
    assert note in finished.run.stage("explain")["notes"]
    session = through(tiny_session(tmp_path / "run", **SETTINGS | {"max_channels": 9, "examples": 0}), "solve")
    # What an earlier run with masks, and an earlier version, had to say.
    folder = session.run.folder("explain")
    folder.mkdir()
    for name in ("localisation.json", "surroundings.json"):
        (folder / name).write_text("{}")
    explain.run_explain(session)
    assert not any("At most" in text for text in session.run.stage("explain")["notes"])
    assert not (folder / "localisation.json").exists()
    assert not (folder / "surroundings.json").exists()


def test_the_effect_of_a_channel_is_its_own_and_null_where_it_was_not_measured() -> None:
    single = {
        1: [
            SimpleNamespace(channel=Channel("a", 0), own_drop=0.5, others_change=-0.25),
            SimpleNamespace(channel=Channel("a", 1), own_drop=float("nan"), others_change=0.125),
        ]
    }
    study: Any = SimpleNamespace(single=single)
    assert explain._effect([], 1, Channel("a", 0)) is None
    assert explain._effect([study], 1, Channel("a", 0)) == {"own": 0.5, "others": -0.25}
    assert explain._effect([study], 1, Channel("a", 1)) == {"own": None, "others": 0.125}
    assert explain._effect([study], 1, Channel("b", 0)) is None
    assert explain._effect([study], 0, Channel("a", 0)) is None
