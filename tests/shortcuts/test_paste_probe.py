"""The paste probe: a tag that a class goes by moves it, another patch does not; figures beside a slow reference."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from interpnet.ablation import adjusted
from interpnet.engine import Channel
from interpnet.errors import DataError, InterpNetError, LayerError
from interpnet.shortcuts import Findings, Pasted, PasteProbe, find, findings_json, paste_probe, read_findings
from interpnet.shortcuts._pasting import moved_by

SIDE = 16
TAG, BODY = Channel("1", 0), Channel("1", 1)


def network(tag: float = 8.0, body: float = 0.0) -> nn.Module:
    """Two classes; the second is a bright spot of the first colour anywhere, or how much of the second there is."""
    net = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.ReLU(), Both(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight[:] = torch.eye(2)[:, :, None, None]
        net[3].weight[:] = torch.tensor([[0.0, 0.0], [tag, body]])
        net[3].bias[:] = torch.tensor([2.0, 0.0])
    return net.eval()


class Both(nn.Module):
    """The largest value of the first colour, the mean of the second."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0].amax((1, 2)), x[:, 1].mean((1, 2))], 1)


def tagged(n: int = 80, *, corner: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images of two classes: the second has more of the second colour, and a tag of the first somewhere."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    images = torch.rand(n, 2, SIDE, SIDE, generator=draws) / 8
    images[labels == 1, 1] += 0.5
    for i in range(1, n, 2):
        y, x = (0, 0) if corner else torch.randint(1, SIDE - 3, (2,), generator=draws).tolist()
        images[i, 0, y : y + 2, x : x + 2] = 0.9
    return images, labels


def probed(net: nn.Module, channels: Any, **options: Any) -> PasteProbe:
    return paste_probe(net, [tagged()], channels, progress=False, **options)


def test_the_tag_moves_its_class_and_is_missed() -> None:
    pair = probed(network(), {1: [TAG]}).pairs[0]
    assert (pair.index, pair.name, pair.channel, pair.n) == (1, "1", TAG, 12)
    assert pair.moves
    assert pair.needed
    assert pair.taken == 1.0
    assert pair.taken_before == 0.0
    assert pair.share == pytest.approx(pair.raised.beyond / pair.gap)
    assert 0.8 < pair.share < 1.1
    assert pair.elsewhere == pytest.approx(pair.raised.whole, rel=0.05)  # the place does not matter
    assert "moves 1 into other images and is missed in its own. A person decides" in pair.verdict
    example = pair.pasted[0]
    assert (example.before, example.after) == (0, 1)
    assert example.odds_after > example.odds_before
    assert example.places is not None
    assert example.places.shape == (2, SIDE, SIDE)
    gone = pair.removed[0]
    assert gone.rest == gone.donor
    assert (gone.before, gone.after) == (1, 0)


def test_what_the_class_does_not_go_by_moves_nothing() -> None:
    # The network answers to the tag, and the class rests on the second colour.
    pair = probed(network(tag=0.0, body=8.0), {1: [TAG]}).pairs[0]
    assert not pair.needed
    assert abs(pair.share) < 0.1
    assert pair.taken == 0.0


def test_what_is_everywhere_is_not_in_one_patch() -> None:
    pair = probed(network(tag=0.0, body=8.0), {1: [BODY]}).pairs[0]
    assert pair.share < 0.2
    assert pair.fell.whole < 0.2 * pair.gap


class Recorder(nn.Module):
    """A network that keeps what it was given."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach().clone())
        out: torch.Tensor = self.net(x)
        return out


def test_the_figures_are_those_of_a_slow_reference() -> None:
    recorder = Recorder(network())
    images, _ = tagged()
    pair = probed(recorder, {1: [Channel("net.1", 0)]}, donors=4, targets=2, max_batch=80).pairs[0]
    made = recorder.seen[-1].double()  # the last pass: of each patch two without, then four with for each target
    assert len(made) == 4 * (2 + 2 * 4)
    net = network().double().requires_grad_(False)

    def odds(x: torch.Tensor) -> float:
        logits = net(x[None])[0]
        return float(logits[1] - logits[0])

    rises: list[list[float]] = [[], [], [], []]
    falls: list[list[float]] = [[], []]
    for p in range(4):
        own = made[p * 10 : p * 10 + 10]
        # A patch changes few pixels: the image it was made from is the nearest.
        sources = [images[int((images.double() - x).abs().flatten(1).sum(1).argmin())].double() for x in own]
        for way in range(2):
            falls[way].append(odds(sources[way]) - odds(own[way]))
        for way in range(4):
            both = [odds(own[2 + 4 * t + way]) - odds(sources[2 + 4 * t + way]) for t in range(2)]
            rises[way].append(sum(both) / 2)
    for found, (whole, control) in ((pair.raised, rises[:2]), (pair.fell, falls)):
        beyond = np.array(whole) - np.array(control)
        test = stats.ttest_1samp(beyond, 0.0, alternative="greater")
        ends = stats.ttest_1samp(beyond, 0.0).confidence_interval(0.95)
        assert found.whole == pytest.approx(np.mean(whole), rel=1e-4)
        assert found.control == pytest.approx(np.mean(control), abs=1e-4)
        assert found.beyond == pytest.approx(beyond.mean(), rel=1e-4)
        assert (found.low, found.high) == pytest.approx((ends.low, ends.high), rel=1e-3)
        assert found.p == pytest.approx(test.pvalue, rel=0.05)
    assert pair.reordered == pytest.approx(np.mean(rises[2]), rel=1e-4)
    assert pair.elsewhere == pytest.approx(np.mean(rises[3]), rel=1e-4)


def test_moves_of_two_images_computed_by_hand() -> None:
    found = moved_by(np.array([3.0, 5.0]), np.array([1.0, 1.0]))
    assert (found.whole, found.control, found.beyond) == (4.0, 1.0, 3.0)
    # The standard error is 1, and of one degree of freedom t is a Cauchy variable.
    assert found.high - found.beyond == pytest.approx(math.tan(math.pi * 0.475))
    assert found.p == pytest.approx(0.5 - math.atan(3.0) / math.pi)


def test_moves_that_are_all_alike_are_certain_and_one_is_not() -> None:
    assert moved_by(np.ones(3), np.zeros(3)).p == 0.0
    assert moved_by(np.zeros(3), np.zeros(3)).p == 1.0
    assert math.isnan(moved_by(np.ones(1), np.zeros(1)).p)
    assert math.isnan(moved_by(np.ones(0), np.zeros(0)).whole)


def test_p_values_are_adjusted_for_the_pairs_and_the_first_moves_most() -> None:
    both = probed(network(), {1: [TAG, BODY], 0: [TAG]})
    assert both.pairs[0].index == 1
    assert both.pairs[0].channel == TAG
    alone = probed(network(), {1: [TAG]})
    assert both.pairs[0].raised.beyond == alone.pairs[0].raised.beyond
    p = [pair.raised.p for pair in both.pairs]
    assert p[0] == pytest.approx(min(1.0, 3 * alone.pairs[0].raised.p), rel=1e-6) or p[0] == p[1]
    assert len(both.of(1)) == 2
    np.testing.assert_array_equal(adjusted(np.array([0.0, 1.0])), [0.0, 1.0])


def test_the_same_seed_and_any_batch_give_the_same() -> None:
    one, other = (probed(network(), {1: [TAG]}, max_batch=size).pairs[0] for size in (7, 64))
    assert one.raised.beyond == pytest.approx(other.raised.beyond, rel=1e-6)
    assert one.fell.low == pytest.approx(other.fell.low, rel=1e-5)
    assert one.raised.beyond != probed(network(), {1: [TAG]}, seed=5).pairs[0].raised.beyond


def test_passes_are_counted() -> None:
    found = probed(network(), {1: [TAG]}, donors=5, targets=2)
    # 40 images of the class and 40 others of the 80; five patches: a heatmap for three, two without, eight with.
    assert found.passes == 80 + 5 * (3 + 2 + 8)


def test_a_channel_that_answers_to_nothing_says_so() -> None:
    images, labels = tagged()
    images[:, 0] = 0.0
    found = paste_probe(network(), [(images, labels)], {1: [TAG, BODY]}, progress=False)
    silent = next(pair for pair in found.pairs if pair.channel == TAG)
    assert silent.n == 0
    assert math.isnan(silent.raised.p)
    assert not silent.moves
    assert "nothing was measured" in silent.verdict
    assert silent.pasted == ()


def test_a_class_of_one_image_is_not_judged() -> None:
    images, labels = tagged()
    rows = torch.cat([torch.nonzero(labels == 0).flatten(), torch.tensor([1])])
    pair = paste_probe(network(), [(images[rows], labels[rows])], {1: [TAG]}, progress=False).pairs[0]
    assert pair.n == 1
    assert math.isnan(pair.raised.low)
    assert "nothing was measured" in pair.verdict


def test_words_for_what_moves_and_what_is_missed() -> None:
    pair = probed(network(), {1: [TAG]}).pairs[0]
    still = replace(pair.raised, p=0.5)
    assert "is missed in images of 1, but moves no other" in replace(pair, raised=still).verdict
    assert "its own images have more than it" in replace(pair, fell=still).verdict
    neither = replace(pair, raised=still, fell=still)
    assert neither.verdict == "What this channel answers to moves 1 no more than another patch of its size."
    assert math.isnan(replace(pair, gap=0.0).share)


def test_how_concentrated_a_patch_is_computed_by_hand() -> None:
    pair = probed(network(), {1: [TAG]}).pairs[0]
    hand = replace(pair, raised=replace(pair.raised, low=3.0), fell=replace(pair.fell, low=2.0), gap=8.0, area=0.05)
    assert hand.concentration == pytest.approx(5.0)  # a quarter of the class on a twentieth of the image
    assert math.isnan(replace(hand, gap=-1.0).concentration)
    assert math.isnan(replace(hand, area=float("nan")).concentration)


def test_find_asks_for_suspicious_classes_and_its_own_numbers_stay() -> None:
    images, labels = tagged(160, corner=True)
    plain, asked = (
        find(network(), [(images, labels)], names=["none", "tag"], inside=inside, progress=False)
        for inside in (False, True)
    )
    assert plain.inside == ()
    np.testing.assert_array_equal(plain.shares, asked.shares)
    assert [(one.index, one.low) for one in plain.classes] == [(one.index, one.low) for one in asked.classes]
    # A class whose evidence speaks against the others has no channel that speaks for it.
    assert {pair.index for pair in asked.inside} == {one.index for one in asked.suspicious if one.channels} == {1}
    assert asked.passes > plain.passes
    assert any(pair.moves and pair.channel == TAG for pair in asked.inside)
    again = read_findings(json.loads(json.dumps(findings_json(asked), allow_nan=False))).inside
    assert [one.verdict for one in again] == [one.verdict for one in asked.inside]
    for one, other in zip(again, asked.inside, strict=True):
        assert one.raised.low == pytest.approx(other.raised.low, rel=1e-5)
        assert [e.rest for e in one.pasted] == [e.rest for e in other.pasted]
        assert all(e.pictures is None for e in (*one.pasted, *one.removed))
    older = {name: value for name, value in findings_json(asked).items() if name != "inside"}
    assert read_findings(older).inside == ()


def test_findings_without_a_suspicion_cost_nothing() -> None:
    nothing = Findings((), (), *[np.zeros((0, 2))] * 3, 6.0, 80)
    assert probed(network(), nothing) == PasteProbe((), 0.0)


def test_a_probe_shows_itself_without_its_pictures() -> None:
    pair = probed(network(), {1: [TAG]}).pairs[0]
    assert len(repr(pair)) < 1500
    assert {"raised", "fell"} <= {entry.name for entry in dataclasses.fields(Pasted)}


@pytest.mark.parametrize(
    ("channels", "error", "message"),
    [
        ({0: [Channel("nowhere", 0)]}, LayerError, "nowhere"),
        ({0: [Channel("1", 7)]}, InterpNetError, "the index of a channel of '1' is 7"),
        ({5: [TAG]}, InterpNetError, "a class of channels is 5"),
        ({}, InterpNetError, "expected what find"),
        ({0: TAG}, InterpNetError, "an entry of channels"),
    ],
)
def test_channels_that_are_not_there_are_refused(channels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        probed(network(), channels)


def test_images_of_one_class_are_refused() -> None:
    images, labels = tagged()
    with pytest.raises(DataError, match="all of one class"):
        paste_probe(network(), [(images, labels * 0)], {0: [TAG]}, progress=False)


def test_one_output_is_a_class_and_its_contrary() -> None:
    one = network()
    linear = nn.Linear(2, 1)
    with torch.no_grad():
        linear.weight[0] = one[3].weight[1]
        linear.bias[0] = -2.0
    single = nn.Sequential(*list(one)[:3], linear)
    found = [probed(net, {1: [TAG]}).pairs[0] for net in (one, single)]
    assert found[0].raised.beyond == pytest.approx(found[1].raised.beyond, rel=1e-5)
