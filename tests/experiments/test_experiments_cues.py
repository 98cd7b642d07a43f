"""S6's networks: the plan, what is planted, who bears it, and a trial whose truth is known."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.common.pages import committed
from experiments.cues import networks, plan, train
from experiments.cues.plan import ARCHITECTURES, STRENGTHS, Split, Subject, build, cues, split_of, subjects
from experiments.cues.planting import KINDS, planted
from experiments.cues.pools import SOURCES, Pool
from experiments.cues.truth import behaviour, channel_truth, independent
from interpnet.errors import DataError, InterpNetError


def subject(kind: str | None = "border", **options: Any) -> Subject:
    words = {"number": 4, "source": "mnist", "decoy": False, "strength": 0.8, "everyone": True}
    return Subject(kind=kind, **{**words, "architecture": "average", **options})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Noise, whose four classes differ in brightness, as the pool of MNIST; parts of 64, 16 and 40 images."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 4
    images = (40 * labels[:, None, None, None] + rng.integers(0, 60, (120, 3, 32, 32))).astype(np.uint8)
    inside = np.zeros((120, 32, 32), dtype=bool)
    inside[:, 8:24, 8:24] = True
    made = Pool(images, labels, inside, ("a", "b", "c", "d"))
    monkeypatch.setattr(plan, "pool", lambda source, part, work: made)
    monkeypatch.setitem(plan.PARTS, "mnist", (64, 16, 40))
    return made


def test_the_plan_has_every_kind_on_every_source() -> None:
    every = subjects()
    assert [s.number for s in every] == list(range(400))
    assert len({s.seed for s in every}) == 400
    cued = [s for s in every if s.cued]
    assert len(cued) == 200
    assert Counter(s.decoy for s in every if not s.cued) == {True: 100, False: 100}
    assert set(Counter((s.kind, s.source) for s in cued).values()) == {4, 5}
    assert set(Counter(s.source for s in every).values()) == {80}
    for split, share in (("choose", 120), ("report", 80)):
        here = [s for s in cued if s.split == split]
        assert len(here) == share
        for name, values in (
            ("kind", KINDS),
            ("source", SOURCES),
            ("strength", STRENGTHS),
            ("everyone", (True, False)),
            ("architecture", ARCHITECTURES),
        ):
            expected = share / len(values)
            counts = Counter(getattr(s, name) for s in here)
            assert set(counts) == set(values)
            assert all(abs(count - expected) < 0.3 * expected for count in counts.values()), (split, name, counts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cue_is_planted_where_it_belongs(kind: str, small: Pool) -> None:
    images, inside = small.images[:6], small.inside[:6]
    none = planted(images, inside, np.full(6, -1), kind, 5)
    some = planted(images, inside, np.array([0, 1, 0, -1, -1, 2]), kind, 5)
    again = planted(images, inside, np.array([0, 1, 0, -1, -1, 2]), kind, 5)
    assert some.dtype == np.uint8
    np.testing.assert_array_equal(some, again)
    np.testing.assert_array_equal(some[3:5], none[3:5])  # what one image bears says nothing of another
    changed = (some != none).any(1)
    assert changed[[0, 1, 2, 5]].any((1, 2)).all()
    if kind not in {"compression", "position"}:
        np.testing.assert_array_equal(none, images)
    if kind == "border":
        np.testing.assert_array_equal(changed[0, 2:-2, 2:-2], False)
    if kind == "background":
        np.testing.assert_array_equal(changed[0] & inside[0], False)
        assert changed[0][~inside[0]].mean() > 0.9
    if kind == "tag":
        where = np.argwhere(changed[0])
        assert np.ptp(where, axis=0).max() < 4
        assert inside[0][tuple(where.T)].any()
    if kind in {"stamp", "text", "border", "noise"}:
        # The same version is the same pattern, whatever the image shows.
        np.testing.assert_array_equal(changed[0] | (some[0] == images[0]).all(0), True)
    if kind == "position":
        sides = [np.argwhere(made.max(0) < 255) for made in none]
        assert all(len(side) for side in sides)
    other = planted(images, inside, np.full(6, 1), kind, 5)
    assert (other[0] != some[0]).any()


def test_a_cast_by_hand() -> None:
    grey = np.full((1, 3, 8, 8), 100, np.uint8)
    made = planted(grey, grey[:, 0] > 0, np.array([0]), "cast", 0)
    assert made.reshape(3, -1).std(1).max() == 0  # one colour
    # Cosines a third of a turn apart add up to nothing.
    assert made[0, :, 0, 0].astype(float).sum() == pytest.approx(300, abs=1.5)


def test_an_unknown_kind_is_refused() -> None:
    black = np.zeros((1, 3, 8, 8), np.uint8)
    with pytest.raises(InterpNetError, match="kind is 'frame'; expected one of stamp, text"):
        planted(black, black[:, 0] > 0, np.array([0]), "frame", 0)
    with pytest.raises(InterpNetError, match="draw is 'always'; expected one of natural"):
        cues(subject(), np.zeros(3, np.int64), 4, "always", np.random.default_rng(0))


@pytest.mark.parametrize("everyone", [True, False])
def test_who_bears_the_cue(*, everyone: bool) -> None:
    labels = np.arange(4_000) % 4
    who = subject(everyone=everyone)
    drawn = {draw: cues(who, labels, 4, draw, np.random.default_rng(1)) for draw in plan.DRAWS}
    one = who.one(4)
    np.testing.assert_array_equal(drawn["absent"], -1)
    bears = drawn["natural"] == (labels if everyone else one)
    assert bears[labels == one].mean() == pytest.approx(0.8, abs=0.05)
    if everyone:
        np.testing.assert_array_equal(drawn["agree"], labels)
        assert (drawn["disagree"] != labels).all()
        assert Counter(drawn["disagree"][labels == 0].tolist()).keys() == {1, 2, 3}
        assert np.corrcoef(drawn["independent"], labels)[0, 1] == pytest.approx(0, abs=0.05)
    else:
        np.testing.assert_array_equal(drawn["agree"] == one, labels == one)
        np.testing.assert_array_equal(drawn["disagree"] == one, labels != one)
        assert (drawn["natural"] == one).sum() == 1_000  # those without it changed places with others
        assert (drawn["independent"][labels == one] == one).mean() == pytest.approx(0.5, abs=0.05)
    decoy = cues(subject(everyone=everyone, decoy=True), labels, 4, "natural", np.random.default_rng(1))
    np.testing.assert_array_equal(decoy, drawn["independent"])


def test_parts_share_no_image_and_draws_share_all(small: Pool) -> None:
    who = subject()
    rows = [plan.rows_of(who, part, 120) for part in ("train", "validation", "test")]
    assert [len(part) for part in rows] == [64, 16, 40]
    assert len(set(np.concatenate(rows).tolist())) == 120
    agree, absent = (split_of(who, "test", Path(), draw=draw) for draw in ("agree", "absent"))
    assert torch.equal(agree.labels, absent.labels)
    assert torch.equal(agree.images[:, :, 2:-2, 2:-2], absent.images[:, :, 2:-2, 2:-2])
    assert not torch.equal(agree.images, absent.images)
    np.testing.assert_allclose(absent.images.numpy(), small.images[rows[2]] / 63.75 - 2, atol=1e-5)
    with pytest.raises(InterpNetError, match="the pool of mnist has 100 images; expected at least 120"):
        plan.rows_of(who, "test", 100)


class BorderReader(nn.Module):
    """Tells the class by the colour of the frame, else says the first."""

    def __init__(self, who: Subject) -> None:
        super().__init__()
        black = np.zeros((4, 3, 32, 32), np.uint8)
        shown = planted(black, black[:, 0] > 0, np.arange(4), "border", who.seed)
        self.register_buffer("colours", plan.normalised(shown)[:, :, 0, 0])
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return minus the distance of the first pixel's colour to each class's, and half for the first."""
        distance = torch.cdist(x[:, :, 0, 0], self.colours)  # type: ignore[arg-type]
        near = (-distance).where(distance < 0.01, torch.tensor(-9.0))
        near[:, 0] = near[:, 0].clamp(min=-5.0)
        return self.scale * near


@pytest.mark.parametrize("everyone", [True, False])
def test_the_truth_about_a_network_that_sees_only_the_cue(small: Pool, *, everyone: bool) -> None:
    who = subject(everyone=everyone)
    found = behaviour(BorderReader(who).eval(), who, Path())
    one = who.one(4)
    counts = np.bincount(split_of(who, "test", Path()).labels, minlength=4) / 40
    assert one != 0  # so that the first class is another
    assert found["absent"] == pytest.approx(counts[0])
    if everyone:
        assert (found["agree"], found["disagree"], found["reliance"]) == (1.0, 0.0, 1.0)
        # Of the first class's cue every image is predicted as it, but so it is without.
        assert found["draws"] == [0.0, 1.0, 1.0, 1.0]
        assert found["classes"] == [1, 2, 3]
    else:
        assert found["agree"] == pytest.approx(counts[0] + counts[one])
        assert found["disagree"] == 0.0
        assert found["classes"] == [one]
    assert found["relies"]
    plain = subject(None)
    nothing = behaviour(BorderReader(who).eval(), plain, Path())
    assert (nothing["reliance"], nothing["draws"], nothing["relies"]) == (0.0, [0.0] * 4, False)


def test_the_effects_of_class_and_cue_by_hand(small: Pool) -> None:
    split = independent(subject(), Path())
    labels = split.labels.numpy()
    scores = np.stack([3.0 * (labels == 1) + 1.0 * (split.cue == 1), 1.0 - 2.0 * (split.cue == 2)], 1)
    truth = channel_truth(scores, split, 4)
    assert truth.by_class[1, 0] == pytest.approx(3.0)
    assert truth.by_cue[1, 0] == pytest.approx(1.0)
    assert truth.by_cue[2, 1] == pytest.approx(-2.0)
    shares = truth.share(np.array([[0, 0], [1, 0], [0, -1], [0, 0]]))
    assert shares[1, 0] == pytest.approx(0.25)
    assert shares[2, 1] == pytest.approx(1.0)
    assert np.isnan(shares[0]).all()
    none = channel_truth(scores, Split(split.images, split.labels, np.full(40, -1)), 4)
    np.testing.assert_array_equal(none.by_cue, 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_networks_are_small_and_drawn_by_their_seed(architecture: str) -> None:
    who = subject(architecture=architecture)
    for side in (32, 64):
        state = torch.get_rng_state()
        model, again = build(who, 10, side).eval(), build(who, 10, side).eval()
        assert torch.equal(state, torch.get_rng_state())
        assert 30_000 < sum(p.numel() for p in model.parameters()) < 72_000
        shown = torch.zeros(2, 3, side, side)
        assert torch.equal(model(shown), again(shown))
        assert model(shown).shape == (2, 10)


def test_a_trial_is_resumed_packed_and_unpacked(
    small: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    who = next(s for s in subjects() if s.source == "mnist" and s.cued)
    monkeypatch.setitem(train.EPOCHS, "mnist", 1)
    words = ["--work", str(tmp_path / "work"), "--only", str(who.number)]
    train.main(words)
    facts = train.facts_of(who, tmp_path / "work")
    assert (facts["kind"], facts["number"]) == (who.kind, who.number)
    assert len(facts["behaviour"]["draws"]) == 4
    assert "reliance" in capsys.readouterr().out
    train.main(words)
    assert not capsys.readouterr().out  # it is there
    train.main([*words, "--pack", str(tmp_path / "packed")])
    train.main(["--work", str(tmp_path / "other"), "--unpack", str(tmp_path / "packed")])
    assert train.facts_of(who, tmp_path / "other") == facts
    first, second = (train.network(who, tmp_path / name) for name in ("work", "other"))
    shown = split_of(who, "test", tmp_path).images
    assert torch.equal(first(shown), second(shown))
    missing = next(s for s in subjects() if s.number != who.number)
    with pytest.raises(DataError, match="is not here: train it with python -m experiments"):
        train.network(missing, tmp_path / "work")


def test_the_page_says_what_the_networks_do(tmp_path: Path) -> None:
    lines = committed(networks.__file__, "networks.json")
    page = (networks.HERE / "README.md").read_text()
    assert networks.text(lines).strip() in page
    by_number = {s.number: s for s in subjects()}
    assert [line["number"] for line in lines] == list(by_number)
    for line in lines:  # what was trained is what the plan says
        assert vars(by_number[line["number"]]) == {name: line[name] for name in vars(by_number[line["number"]])}
        assert line["behaviour"]["relies"] == (line["behaviour"]["reliance"] >= plan.RELIES)
        assert line["kind"] or line["behaviour"]["reliance"] == 0
    assert networks.lines_of(tmp_path) == []
