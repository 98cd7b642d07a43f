"""A study of some classes: the rows that a study of every class has for them, at their share of the cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.ablation import (
    AblationResult,
    Changes,
    ablate,
    ablation_study,
    as_result,
    changes_of_recall,
    find_condition,
    mean_change,
    others_change,
)
from interpnet.ablation import _study as study_file
from interpnet.engine import ChannelIndex, find_sites
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation

NAMES = ("ant", "bee", "cat", "dog", "eel")
C = len(NAMES)
M = 7


class Noisy(nn.Module):
    """Seven channels; each class hears most of the channel of its own number, and a little of the others."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.conv = nn.Conv2d(M, M, 1, bias=False)
        self.conv.weight.data = torch.eye(M)[:, :, None, None] + 0.1 * torch.randn(M, M, 1, 1, generator=generator)
        self.out = nn.Linear(M, C, bias=False)
        self.out.weight.data = 2 * torch.eye(C, M) + 0.4 * torch.randn(C, M, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.conv(x)).mean((2, 3)))


def loaded() -> list[tuple[Tensor, Tensor]]:
    """Return 35 images, 9 to 5 of a class."""
    labels = torch.from_numpy(np.random.default_rng(1).permutation(np.repeat(np.arange(C), (9, 8, 7, 6, 5))))
    generator = torch.Generator().manual_seed(2)
    x = 0.8 * torch.rand(len(labels), M, 2, 2, generator=generator)
    x[torch.arange(len(labels)), labels] += 0.5
    return list(zip(x.split(8), labels.split(8), strict=True))


def named() -> Interpretation:
    net = Noisy()
    site = next(s for s in find_sites(net, loaded()[0][0]).sites if s.default)
    coef = np.zeros((C, M))
    for c in range(C):
        coef[c, [c, (c + 3) % M]] = 2.0, -1.0
    coef[1, 6] = 0.5
    return Interpretation(ChannelIndex(((site.name, M),)), coef, NAMES)


def study(**options: Any) -> AblationResult:
    return ablation_study(Noisy(), loaded(), named(), progress=False, **options)


@pytest.fixture(scope="module")
def whole() -> AblationResult:
    return study()


@pytest.fixture(scope="module")
def some() -> AblationResult:
    return study(only=["eel", 1])


def numbers(changes: Changes) -> dict[str, Any]:
    """Return the arrays of every effect."""
    found: dict[str, Any] = {}
    for name, effect in vars(changes).items():
        if effect is not None:
            found |= {f"{name}.{part}": getattr(effect, part) for part in ("mean", "variance", "count")}
            if effect.draws is not None:
                found |= {f"{name}.draws": effect.draws.number, f"{name}.of_draws": effect.draws.variance}
    return found


def test_it_is_the_whole_study_of_these_classes_bit_for_bit(whole: AblationResult, some: AblationResult) -> None:
    part = whole.restricted(["bee", "eel"])
    assert part.only == some.only == (1, 4)
    for name in ("support", "intact", "intact_of_all", "log_odds", "log_probability"):
        np.testing.assert_array_equal(getattr(part, name), getattr(some, name), err_msg=name)
    assert [c.name for c in part.conditions] == [c.name for c in some.conditions]
    for theirs, ours in zip(part.conditions, some.conditions, strict=True):
        for name in ("removed", "own", "others"):
            np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name), err_msg=f"{ours.name} {name}")
        for measure, changes in theirs.changes.items():
            of_theirs = numbers(changes)
            of_ours = numbers(ours.changes[measure])
            assert of_theirs.keys() == of_ours.keys()
            for name, array in of_theirs.items():
                np.testing.assert_array_equal(array, of_ours[name], err_msg=f"{ours.name} {measure} {name}")
    assert part.single == some.single
    assert set(some.single) == {1, 4}
    assert some.curve is not None
    assert part.curve is not None
    np.testing.assert_array_equal(part.curve.own_ends, some.curve.own_ends)
    np.testing.assert_array_equal(part.curve.own_log_odds, some.curve.own_log_odds)


def test_the_intervals_of_the_random_curve_are_kept_where_nothing_more_is_left_out(some: AblationResult) -> None:
    again = some.restricted(["eel", "bee"])
    assert again is some
    assert some.curve is not None
    assert some.curve.random_ends is not None
    assert np.isfinite(some.curve.random_ends).all()


def test_own_and_others_are_those_of_a_loop_over_the_classes() -> None:
    """After C - 1 turns every image of another class has lost the channels of each class that is studied."""
    net = Noisy().eval()
    found = named()
    result = study(only=["cat"], turns=C - 1, controls=())
    x = torch.cat([images for images, _ in loaded()])
    y = torch.cat([labels for _, labels in loaded()]).numpy()
    channels = [channel for channel, _ in found.relevant("cat")]
    with torch.no_grad(), ablate(net, channels):
        without = net(x)
    with torch.no_grad():
        before = net(x)
    right = (without.argmax(1).numpy() == y).astype(float)
    was = (before.argmax(1).numpy() == y).astype(float)

    def odds(logits: Tensor) -> np.ndarray:
        p = logits.double().softmax(1)[torch.arange(len(y)), torch.from_numpy(y)]
        return (p.log() - (1 - p).log()).numpy()

    condition = result.condition("relevant")
    others = [c for c in range(C) if c != 2]
    assert condition.own[0, 2] == pytest.approx(right[y == 2].mean())
    assert condition.others[0, 2] == pytest.approx(np.mean([right[y == c].mean() for c in others]))
    change = odds(without) - odds(before)
    measured = condition.changes["log_odds"]
    assert measured.own.overall() == pytest.approx(change[y == 2].mean(), abs=1e-5)
    assert measured.others.overall() == pytest.approx(np.mean([change[y == c].mean() for c in others]), abs=1e-5)
    assert measured.specific.overall() == pytest.approx(measured.others.overall() - measured.own.overall(), abs=1e-5)
    # Different images: variances of the two means add up.
    of_own = change[y == 2].var(ddof=1) / (y == 2).sum()
    of_others = change[y != 2].var(ddof=1) / (y != 2).sum()
    assert measured.specific.stderr() == pytest.approx(np.sqrt(of_own + of_others), rel=1e-4)
    assert result.mean_intact == pytest.approx(was[y == 2].mean())
    assert mean_change(result, condition)[0] == pytest.approx(
        np.mean([(right - was)[y == c].mean() for c in others]), abs=1e-12
    )
    rest = [c for c in range(C) if c != 2]
    for array in (result.intact, condition.removed, condition.own[0], condition.others[0]):
        assert np.isnan(array[rest]).all()
        assert np.isfinite(array[2])


def test_a_control_is_compared_with_the_named_channels_of_these_classes(some: AblationResult) -> None:
    """What is the class's own beyond a control: its own loss, plus what others keep, less what the control leaves."""
    named_changes = some.condition("relevant").changes["recall"]
    control = some.condition("random").changes["recall"]
    assert control.own_beyond is not None
    assert control.specific_beyond is not None
    expected = control.own_beyond.mean + named_changes.by_removed.mean - control.by_removed.mean
    np.testing.assert_array_equal(control.specific_beyond.mean, expected)
    assert np.isfinite(control.specific_beyond.p_value(one_draw=True))


def test_images_of_others_lose_the_channels_of_classes_that_have_some() -> None:
    """Of 40 outputs three have channels and images: after two turns every image has met the other two."""
    net = Noisy().eval()
    net.out = nn.Linear(M, 40, bias=False)
    net.out.weight.data = 0.01 * torch.randn(40, M, generator=torch.Generator().manual_seed(8))
    net.out.weight.data[[7, 20, 33]] += 2 * torch.eye(3, M)
    coef = np.zeros((40, M))
    coef[[7, 20, 33], [0, 1, 2]] = 1.0
    found = Interpretation(named().channels, coef, tuple(f"class {c}" for c in range(40)))
    three = torch.tensor([7, 20, 33])
    batches = [(x[labels < 3], three[labels[labels < 3]]) for x, labels in loaded()]
    x = torch.cat([x for x, _ in batches])
    y = torch.cat([labels for _, labels in batches]).numpy()
    result = ablation_study(net, batches, found, progress=False, turns=2, controls=())
    assert (result.turns, result.pairs) == (2, 1.0)
    condition = result.condition("relevant")
    expected = np.full(40, np.nan)
    for c in (7, 20, 33):
        with torch.no_grad(), ablate(net, [channel for channel, _ in found.relevant(c)]):
            right = net(x).argmax(1).numpy() == y
        expected[c] = np.mean([right[y == other].mean() for other in (7, 20, 33) if other != c])
    np.testing.assert_allclose(condition.others[0], expected)
    # Never more turns than there are other classes to meet.
    assert ablation_study(net, batches, found, progress=False, controls=()).turns == 2
    assert result.restricted([20]).condition("relevant").changes["recall"].others.count[20] == (y != 20).sum()


def test_it_takes_its_share_of_the_removals(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    honest = study_file.progress_bar

    def counting(text: str, total: int | None = None, **options: Any) -> Any:
        counts.append(total)
        return honest(text, total, **options)

    monkeypatch.setattr(study_file, "progress_bar", counting)
    study()
    study(only=["ant"])
    whole, one = counts
    # Beside the untouched network on all 35 images: 9 of 35 are ants, and a fifth of the others' removals theirs.
    assert (one - 35) / (whole - 35) == pytest.approx(1 / C, abs=0.06)


def test_labels_of_which_an_image_can_have_several_are_restricted_alike() -> None:
    batches = []
    for images, labels in loaded():
        targets = torch.nn.functional.one_hot(labels, C)
        targets[::3, 4] = 1
        batches.append((images, targets))
    options: dict[str, Any] = {"outputs": "independent", "progress": False, "controls": ("random",)}
    whole = ablation_study(Noisy(), batches, named(), **options).restricted(["eel"])
    some = ablation_study(Noisy(), batches, named(), only=["eel"], **options)
    for ours, theirs in zip(some.conditions, whole.conditions, strict=True):
        np.testing.assert_array_equal(ours.others, theirs.others)
        assert str(numbers(ours.changes["recall"])) == str(numbers(theirs.changes["recall"]))
    np.testing.assert_array_equal(some.precision, whole.precision)
    np.testing.assert_array_equal(some.precision_removed, whole.precision_removed)
    assert some.precision is not None
    assert np.isfinite(some.precision).tolist() == [False] * 4 + [True]


def test_a_result_goes_to_json_and_back(some: AblationResult, whole: AblationResult) -> None:
    again = as_result(some.to_json())
    assert again.only == (1, 4)
    np.testing.assert_array_equal(again.intact_of_all, whole.intact)
    np.testing.assert_array_equal(again.intact, some.intact)
    assert "only" not in whole.to_json()
    assert again.restricted([4]).only == (4,)


def test_a_result_of_format_1_can_be_restricted(whole: AblationResult) -> None:
    value = whole.to_json()
    value["format"] = "interpnet-ablation-1"
    for condition in value["conditions"]:
        condition["changes"] = {}
    older = as_result(value)
    part = older.restricted(["dog"])
    of_older = find_condition(older, "relevant")
    of_part = find_condition(part, "relevant")
    assert of_older is not None
    assert of_part is not None
    assert others_change(part, of_part)[0, 3] == others_change(older, of_older)[0, 3]
    changes = changes_of_recall(part, of_part)
    assert changes.own.overall() == pytest.approx(changes_of_recall(older, of_older).own.mean[3])


@pytest.mark.parametrize(
    ("only", "match"),
    [
        (["ent"], "unknown class 'ent'; did you mean 'ant'"),
        ([5], "class 5 does not exist; expected 0 to 4"),
        ([], "only is empty; expected classes by name or number"),
        ("ant", "only"),
    ],
)
def test_classes_that_there_are_not_are_refused(only: Any, match: str, whole: AblationResult) -> None:
    with pytest.raises(InterpNetError, match=match):
        study(only=only)
    with pytest.raises(InterpNetError, match=match):
        whole.restricted(only)


def test_a_class_that_was_not_studied_is_refused(some: AblationResult) -> None:
    with pytest.raises(InterpNetError, match="the channels of 'cat' were not removed; run the ablation again"):
        some.restricted(["eel", "cat"])


def test_a_single_class_of_one_image_has_no_spread() -> None:
    """Nothing is known of its variance, and nothing warns."""
    x = torch.cat([images for images, _ in loaded()])[:4]
    result = ablation_study(
        Noisy(), [(x, torch.tensor([0, 1, 2, 3]))], named(), progress=False, only=[0], controls=("random",)
    )
    specific = result.condition("relevant").changes["recall"].specific
    assert np.isnan(specific.stderr())
    assert specific.p_value() == 1.0
