"""What an ablation measures, against values worked out by hand and loops that remove one list at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.ablation import (
    CONTROLS,
    AblationResult,
    Condition,
    Passes,
    ablate,
    ablation_study,
    mean_change,
    others_change,
)
from interpnet.ablation._averages import by_class
from interpnet.ablation._plan import Plan
from interpnet.engine import Channel, ChannelIndex, Instrument, instrument
from interpnet.interpretation import Interpretation
from interpnet.scores import ScoreTable

M = 6
ORDINARY = ("relevant", "relevant-positive")
INDEX = ChannelIndex((("relu", M),))


class Votes(nn.Module):
    """Six channels, each the mean of one colour; class c's logit is row c of ``votes`` times the channels."""

    def __init__(self, votes: Any, layers: int = 1) -> None:
        super().__init__()
        votes = torch.as_tensor(votes, dtype=torch.float32)
        self.conv = nn.Conv2d(votes.shape[1], votes.shape[1], 1, bias=False)
        self.conv.weight.data = torch.eye(votes.shape[1])[:, :, None, None]
        self.relu = nn.ReLU()
        self.fc = nn.Linear(votes.shape[1], len(votes), bias=False)
        self.fc.weight.data = votes

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


def images_of(levels: Any) -> Tensor:
    """Return (N, m, 2, 2) of constant colours: the channels' values are the levels (N, m)."""
    return torch.as_tensor(levels, dtype=torch.float32)[:, :, None, None].expand(-1, -1, 2, 2).clone()


def batched(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


@contextmanager
def without(model: nn.Module, columns: Any, fill: Any = 0.0) -> Iterator[None]:
    with torch.no_grad(), ablate(model, [INDEX[int(c)] for c in columns], fill=fill):
        yield


def recall(model: nn.Module, x: Tensor, y: Tensor, columns: Any, fill: Any = 0.0) -> float:
    """Return the share of images named rightly without some channels."""
    with without(model, columns, fill):
        return float((model(x).argmax(1) == y).double().mean())


def voted(model: Any, x: Tensor, y: Tensor, columns: Any) -> tuple[bool, float]:
    """Return whether an image of one colour is named rightly without some channels, and the log-odds of its class."""
    levels = x[:, 0, 0].double()
    levels[list(columns)] = 0.0
    logits = model.fc.weight.detach().double() @ levels
    probability = logits.softmax(0)[y]
    return int(logits.argmax()) == int(y), float((probability / (1 - probability)).log())


def noisy_study(seed: int = 0) -> tuple[nn.Module, Tensor, Tensor, Interpretation]:
    """Three classes, of 30, 20 and 10 images, that a weak network often confuses: no two recalls are equal."""
    g = torch.Generator().manual_seed(seed)
    y = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)[torch.randperm(60, generator=g)]
    x = torch.rand(60, M, generator=g)
    x[torch.arange(60), y] += 0.4
    x[torch.arange(60), y + 3] += 0.2
    votes = torch.cat([torch.eye(3), 0.7 * torch.eye(3)], 1) + 0.2 * torch.rand(3, M, generator=g)
    coef = np.array([[3.0, 0, 0, 2.0, 0, 0], [0, 3.0, -2.0, 0, 1.0, 0], [0, 0, 0, 0, 0, 1.0]])
    return Votes(votes).eval(), images_of(x), y, Interpretation(INDEX, coef, ("a", "b", "c"))


@pytest.mark.parametrize("size", [60, 7])
def test_mean_fill_is_the_mean_over_all_images_and_positions(size: int) -> None:
    """Two images have channel 0 at 1 and six at 3: the mean is 2.5, whatever the batches and the maps' size."""
    levels = torch.tensor([[1.0, 4.0]] * 2 + [[3.0, 0.0]] * 6)
    x = images_of(levels)
    x[:, 0, 0, 0] += 0.5
    x[:, 0, 1, 1] -= 0.5  # a map that is not constant has the same mean
    y = torch.tensor([0, 1] * 4)
    found = Interpretation(ChannelIndex((("relu", 2),)), np.eye(2), ("a", "b"))
    run = Passes(Votes(torch.eye(2)), batched(x, y, size), found, put=Tensor.cpu, output=None, seed=0)
    with torch.no_grad():
        run.fill_with_means()
    np.testing.assert_allclose(run._removal._fill, [2.5, 1.0])


def test_mean_fill_of_units_without_a_map() -> None:
    class Units(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(2, 2, bias=False)
            self.first.weight.data = torch.eye(2)
            self.out = nn.Linear(2, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.relu(self.first(x)))

    x = torch.tensor([[1.0, 4.0], [2.0, -8.0], [6.0, 2.0]])
    found = Interpretation(ChannelIndex((("relu", 2),)), np.eye(2), ("a", "b"))
    batches = batched(x, torch.tensor([0, 1, 1]), 2)
    run = Passes(Units(), batches, found, put=Tensor.cpu, output=None, seed=0)
    with torch.no_grad():
        run.fill_with_means()
    np.testing.assert_allclose(run._removal._fill, [3.0, 2.0])


def test_a_study_with_the_mean_fill_by_hand() -> None:
    """Channel 0 of class a is 3 in its images and 1 in b's. At its mean, 2.5, a's three images lose to b's 2.8."""
    x = images_of([[3.0, 2.8], [3.0, 2.8], [3.0, 2.0], [1.0, 2.0]])
    y = torch.tensor([0, 0, 0, 1])
    found = Interpretation(ChannelIndex((("relu", 2),)), np.array([[1.0, 0.0], [0.0, 0.0]]), ("a", "b"))
    results = {
        fill: ablation_study(
            Votes(torch.eye(2)), batched(x, y, 2), found, controls=(), fill=fill, curve=False, progress=False
        ).condition("relevant")
        for fill in ("zero", "mean")
    }
    np.testing.assert_allclose(results["zero"].own, [[0.0, 1.0]])
    np.testing.assert_allclose(results["mean"].own, [[1 / 3, 1.0]])
    # The other class's image, with channel 0 at 2.5 rather than 1, is named a.
    np.testing.assert_allclose(results["zero"].others[0, 0], 1.0)
    np.testing.assert_allclose(results["mean"].others[0, 0], 0.0)


def test_each_class_loses_the_channels_that_are_most_active_on_its_own_images() -> None:
    """The control ranks by the mean over the class's images: over all images channel 5 would be first everywhere."""
    means = {0: [1, 6, 0, 2, 0, 5], 1: [0, 0, 7, 0, 1, 6], 2: [0, 0, 0, 3, 2, 9]}
    labels = np.array([0, 1, 2, 2, 2, 2])
    X = np.array([means[int(c)] for c in labels], dtype=np.float32)
    table = ScoreTable(X, labels, labels, INDEX, np.arange(6), 3)
    coef = np.array([[1.0, 1, 0, 0, 0, 0], [1.0, 0, 0, 0, 0, 0], [1.0, 1, 1, 0, 0, 0]])
    plan = Plan(Interpretation(INDEX, coef, ("a", "b", "c")), table, (), 1, 0, False, False)
    everything = np.ones(M, dtype=bool)
    chosen = [plan.columns("highest-activation", c, everything).tolist() for c in range(3)]
    assert chosen == [[1, 5], [2], [5, 3, 4]]
    # Among the allowed columns alone; as many as are relevant and allowed.
    allowed = np.array([True, True, False, False, True, True])
    assert [plan.columns("highest-activation", c, allowed).tolist() for c in range(3)] == [[1, 5], [5], [5, 4]]


def test_the_most_active_channels_of_a_target_matrix_are_those_of_the_predicted_class() -> None:
    X = np.array([[1, 5], [4, 0]], dtype=np.float32)
    targets = np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    index = ChannelIndex((("relu", 2),))
    table = ScoreTable(X, targets, np.array([1, 0]), index, np.arange(2), 2)
    plan = Plan(Interpretation(index, np.eye(2), ("a", "b")), table, (), 1, 0, False, False)
    both = np.ones(2, dtype=bool)
    assert [plan.columns("highest-activation", c, both).tolist() for c in range(2)] == [[0], [1]]


def test_single_channels_one_at_a_time() -> None:
    """Own loss and the others' change of every single channel, by a loop that removes it from all images."""
    model, x, y, found = noisy_study()
    result = ablation_study(model, batched(x, y, 16), found, controls=(), curve=False, progress=False)
    labels = y.numpy()
    foreign = Passes(model, batched(x, y, 60), found, put=Tensor.cpu, output=None, seed=0).foreign

    def others(c: int, columns: Any) -> float:
        """Mean recall of the classes j other than c, over those of their images that are given c's list."""
        recalls = []
        for j in range(3):
            rows = (labels == j) & (foreign == c)
            if j != c and rows.any():
                recalls.append(recall(model, x[rows], y[rows], columns))
        return float(np.mean(recalls))

    changed = 0
    for c in range(3):
        assert [effect.channel for effect in result.single[c]] == [channel for channel, _ in found.relevant(c)]
        for effect in result.single[c]:
            column = found.channels.position(effect.channel)
            mine = labels == c
            own = recall(model, x[mine], y[mine], []) - recall(model, x[mine], y[mine], [column])
            change = others(c, [column]) - others(c, [])
            assert effect.weight == found.coef[c, column]
            assert effect.own_drop == pytest.approx(own)
            assert effect.others_change == pytest.approx(change)
            each = [
                voted(model, x[row], y[row], [])[1] - voted(model, x[row], y[row], [column])[1]
                for row in np.flatnonzero(mine)
            ]
            assert effect.log_odds_drop == pytest.approx(np.mean(each), abs=1e-5)
            assert effect.log_odds_stderr == pytest.approx(np.std(each, ddof=1) / np.sqrt(len(each)), abs=1e-5)
            changed += own != 0 and change != 0
    assert changed >= 3, "the network is too robust to test anything"


def test_the_curve_removes_the_largest_weights_and_random_ones_that_are_not_relevant() -> None:
    """Every draw removes more and more of one order; two images of a class share a draw."""
    model, x, y, found = noisy_study()
    result = ablation_study(model, batched(x, y, 16), found, controls=(), repeats=3, single=False, progress=False)
    curve = result.curve
    assert curve is not None
    assert curve.k.tolist() == [1, 2, 3]
    assert (curve.own.shape, curve.random.shape) == ((3, 3), (3, 1, 3))
    plan = Plan(found, None, (), 3, 0, True, False)
    labels = y.numpy()
    for c in range(3):
        rows = np.flatnonzero(labels == c)
        relevant = found.columns(c)
        orders = plan.draws("random", np.ones(M, dtype=bool), c, 0, len(rows) // 2)
        assert len({tuple(order) for order in orders}) > 1, "the draws differ"
        for order in orders:
            assert len(order) == len(set(order.tolist()) - set(relevant.tolist())) == len(relevant)
        for i, k in enumerate(curve.k):
            mine = y == c
            assert curve.own[i, c] == pytest.approx(recall(model, x[mine], y[mine], relevant[:k]))
            drawn = []
            changes = []
            for rank, row in enumerate(rows):
                columns = orders[rank % (len(rows) // 2)][:k]
                right, log_odds = voted(model, x[row], y[row], columns)
                drawn.append(right)
                changes.append(log_odds - voted(model, x[row], y[row], [])[1])
            assert curve.random[i, 0, c] == pytest.approx(np.mean(drawn))
            assert curve.random_log_odds is not None
            assert curve.random_log_odds[i, c] == pytest.approx(np.mean(changes), abs=1e-5)


@pytest.mark.parametrize("seed", [0, 7])
def test_conditions_by_a_loop(seed: int) -> None:
    """Own and others' recall of every condition and draw, for the lists that the plan names."""
    model, x, y, found = noisy_study()
    X = x.mean((2, 3)).numpy()
    table = ScoreTable(X, y.numpy(), y.numpy(), INDEX, np.arange(60), 3)
    result = ablation_study(
        model, batched(x, y, 13), found, table=table, repeats=2, seed=seed, curve=False, single=False, progress=False
    )
    plan = Plan(found, table, (), 2, seed, False, False)
    labels = y.numpy()
    run = Passes(model, [(x, y)], found, put=Tensor.cpu, output=None, seed=seed)
    turns = [run.foreign_classes(turn) for turn in range(2)]
    everything = np.ones(M, dtype=bool)
    assert (result.seed, result.repeats, result.n_images, result.fill) == (seed, 2, 60, "zero")
    assert (result.turns, result.pairs) == (2, 1.0), "after two turns of three classes each image has met the others"
    assert [c.name for c in result.conditions] == [*ORDINARY, *CONTROLS]
    for condition in result.conditions:
        random = condition.name.startswith("random")
        assert condition.own.shape == condition.others.shape == (2 if random else 1, 3)

        def right(r: int, c: int, rows: Any, *, name: str = condition.name, removed: Any = condition.removed) -> Any:
            """Whether each of the images ``rows`` is recognised without what is removed for class c in pass r."""
            pairs = max(1, len(rows) // 2)
            if name.startswith("random"):
                lists = plan.draws(name, everything, c, r, pairs)
            else:
                lists = [plan.columns(name, c, everything)] * pairs
            found = []
            for rank, row in enumerate(rows):
                assert removed[c] == len(lists[rank % pairs])
                found.append(voted(model, x[row], y[row], lists[rank % pairs])[0])
            return np.array(found)

        for r in range(len(condition.own)):
            for c in range(3):
                assert condition.own[r, c] == pytest.approx(right(r, c, np.flatnonzero(labels == c)).mean())
                met = turns if not random else [turns[r]]
                named = np.concatenate([right(r, c, np.flatnonzero(turn == c)) for turn in met])
                own = np.concatenate([labels[turn == c] for turn in met])
                each = [named[own == j].mean() for j in range(3) if j != c and (own == j).any()]
                assert condition.others[r, c] == pytest.approx(np.mean(each))


def test_seeds_decide_the_draws_and_who_loses_whose_channels() -> None:
    model, x, y, found = noisy_study()
    runs = [Passes(model, [(x, y)], found, put=Tensor.cpu, output=None, seed=seed).foreign for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()
    results = [
        ablation_study(model, [(x, y)], found, controls=("random",), repeats=4, seed=seed, progress=False)
        for seed in (0, 0, 1)
    ]
    plain = [result.to_json() for result in results]
    assert plain[0] == plain[1]
    assert plain[0]["conditions"][2]["own"] != plain[2]["conditions"][2]["own"]
    assert plain[0]["curve"]["random"] != plain[2]["curve"]["random"]
    # What is not drawn does not depend on the seed.
    assert plain[0]["conditions"][0]["own"] == plain[2]["conditions"][0]["own"]


class Deep(nn.Module):
    """Two convolutions, then a linear layer with a rectifier: three channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 3, 1)
        self.b = nn.Conv2d(3, 3, 1)
        self.c = nn.Linear(3, 3)
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.b(torch.relu(self.a(x))))
        return self.out(torch.relu(self.c(x.mean((2, 3)))))


def test_convolutional_layers_are_a_group_of_their_own() -> None:
    index = ChannelIndex((("relu", 3), ("relu:1", 3), ("relu:2", 3)))
    coef = np.array([[1.0, 0, 0, 0, 2.0, 0, 3.0, 0, 0], [0, -1.0, 0, 0, 0, 0, 0, 2.0, 1.0]])
    found = Interpretation(index, coef, ("a", "b"))
    x = torch.rand(8, 3, 2, 2)
    y = torch.tensor([0, 1] * 4)
    result = ablation_study(Deep(), [(x, y)], found, repeats=2, curve=False, single=False, progress=False)
    removed = {(c.name, c.layers): c.removed.tolist() for c in result.conditions}
    assert removed == {
        ("relevant", "all"): [3, 3],
        ("relevant-positive", "all"): [3, 2],
        ("random", "all"): [3, 3],
        ("random-per-layer", "all"): [3, 2],  # of the last layer's three channels two are relevant: one is free
        ("relevant", "conv"): [2, 1],
        ("relevant-positive", "conv"): [2, 0],
        ("random", "conv"): [2, 1],
        ("random-per-layer", "conv"): [2, 1],
    }
    plan = Plan(found, None, ("random",), 1, 0, False, False)
    conv = np.array([True] * 6 + [False] * 3)
    drawn = plan.draws("random", conv, 0, 0, 40)
    assert set(np.concatenate(drawn).tolist()) == {1, 2, 3, 5}, "every free channel of the group is drawn sometimes"


@pytest.mark.parametrize("kind", ["random", "random-per-layer"])
def test_every_pass_and_every_class_has_draws_of_its_own(kind: str) -> None:
    index = ChannelIndex((("relu", 40),))
    coef = np.zeros((2, 40))
    coef[:, :3] = 1.0
    plan = Plan(Interpretation(index, coef, ("a", "b")), None, (), 2, 0, False, False)
    drawn = [plan.draws(kind, np.ones(40, dtype=bool), c, number, 20) for number in range(3) for c in range(2)]
    assert len({np.concatenate(rows).tobytes() for rows in drawn}) == 6
    again = plan.draws(kind, np.ones(40, dtype=bool), 1, 2, 20)
    np.testing.assert_array_equal(again, drawn[-1])


def test_per_layer_controls_draw_from_every_free_channel_of_the_same_layer() -> None:
    index = ChannelIndex((("relu", 4), ("relu:1", 3)))
    coef = np.array([[1.0, 0, 0, 0, 0, 2.0, 0]])
    plan = Plan(Interpretation(index, coef, ("a",)), None, (), 1, 0, False, False)
    drawn = plan.draws("random-per-layer", np.ones(7, dtype=bool), 0, 0, 40)
    assert all(len(row) == 2 and row[0] < 4 <= row[1] for row in drawn)
    assert {int(row[0]) for row in drawn} == {1, 2, 3}
    assert {int(row[1]) for row in drawn} == {4, 6}


@pytest.mark.parametrize("fill", [0.0, 1.5])
@pytest.mark.parametrize("axis", [1, 3])
def test_a_list_for_every_image_is_removed_from_that_image(axis: int, fill: float) -> None:
    """Channels first and channels last: image 0 loses channel 1, image 1 nothing, image 2 channels 0 and 2."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.lin = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x) if axis == 1 else self.lin(x)
            return torch.relu(y) + 0.25

    name = "relu"
    model = Net().eval()
    x = torch.rand(3, 3, 2, 2) if axis == 1 else torch.rand(3, 2, 2, 3)
    with torch.no_grad():
        expected = model(x).movedim(axis, 1).clone()
        expected[0, 1] = fill + 0.25
        expected[2, 0] = fill + 0.25
        expected[2, 2] = fill + 0.25
        lists = [[Channel(name, 1)], [], [Channel(name, 0), Channel(name, 2)]]
        with ablate(model, lists, fill=fill):
            got = model(x).movedim(axis, 1)
            again = model(x).movedim(axis, 1)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(again, expected)


def condition(own: list[list[float]], others: list[list[float]]) -> Condition:
    return Condition("random", "all", np.array([1.0, 2.0, 3.0]), np.array(own), np.array(others))


def test_means_and_changes_by_hand() -> None:
    nan = float("nan")
    made = condition([[1.0, 0.5, nan], [0.0, 0.5, nan]], [[0.5, 0.25, 0.5], [0.75, 0.25, 1.0]])
    intact = np.array([1.0, 0.5, nan])
    result = AblationResult(("a", "b", "c"), np.array([4, 2, 0]), intact, "zero", 6, 2, 0, (made,))
    assert made.mean_own() == pytest.approx(0.5)  # of 0.75 and 0.25
    assert made.mean_others() == pytest.approx((1.25 / 3 + 2.0 / 3) / 2)
    np.testing.assert_allclose(by_class(made.own), [0.5, 0.5, nan])
    # The others of a are b alone, of b are a alone, of c are both.
    change = others_change(result, made)
    np.testing.assert_allclose(change, [[0.0, -0.75, -0.25], [0.25, -0.75, 0.25]])
    mean, (low, high) = mean_change(result, made)
    rows = [(0.0 - 0.75 - 0.25) / 3, (0.25 - 0.75 + 0.25) / 3]
    assert mean == pytest.approx(np.mean(rows))
    half = 12.7062047364 * np.std(rows, ddof=1) / np.sqrt(2)  # Student's t with one degree of freedom
    assert (low, high) == pytest.approx((mean - half, mean + half))
    assert result.mean_intact == pytest.approx(0.75)


def test_an_empty_class_counts_for_nothing() -> None:
    """Class c has no images: its recall is unknown, and it is not among the others of a and b."""
    x = images_of([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    y = torch.tensor([0, 1, 1])
    found = Interpretation(ChannelIndex((("relu", 3),)), np.eye(3), ("a", "b", "c"))
    result = ablation_study(Votes(torch.eye(3)), [(x, y)], found, controls=(), curve=False, progress=False)
    np.testing.assert_array_equal(result.support, [1, 2, 0])
    np.testing.assert_allclose(result.intact, [1.0, 1.0, np.nan])
    np.testing.assert_allclose(result.condition("relevant").own, [[1.0, 0.0, np.nan]])
    assert np.isfinite(result.condition("relevant").others).any()


@pytest.mark.parametrize("output", [None, lambda y: y["logits"]])
def test_the_models_output_is_taken_by_the_function(output: Callable[[Any], Tensor] | None) -> None:
    class Named(Votes):
        def forward(self, x: Tensor) -> Any:
            logits = super().forward(x)
            return logits if output is None else {"first": -logits, "logits": logits}

    x = images_of([[1.0, 0.5], [0.5, 1.0]])
    found = Interpretation(ChannelIndex((("relu", 2),)), np.eye(2), ("a", "b"))
    result = ablation_study(
        Named(torch.eye(2)), [(x, torch.tensor([0, 1]))], found, controls=(), output=output, progress=False
    )
    np.testing.assert_allclose(result.intact, [1.0, 1.0])
    np.testing.assert_allclose(result.condition("relevant").own, [[0.0, 0.0]])


def test_every_site_s_channels_have_levels_of_their_own() -> None:
    """Means of two layers: channel i of the second is overwritten with its own mean, not with that of another."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(2, 3, 1, bias=False)
            self.first.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]).view(3, 2, 1, 1)
            self.second = nn.Conv2d(3, 2, 1, bias=False)
            self.second.weight.data = torch.tensor([[5.0, 0.0, 0.0], [0.0, 7.0, 0.0]]).view(2, 3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3))

    x = images_of([[1.0, 2.0], [3.0, 4.0]])
    index = ChannelIndex((("relu", 3), ("relu:1", 2)))
    found = Interpretation(index, np.ones((2, 5)), ("a", "b"))
    model = Two().eval()
    run = Passes(model, [(x, torch.tensor([0, 1]))], found, put=Tensor.cpu, output=None, seed=0)
    with torch.no_grad():
        run.fill_with_means()
        # The means are 2, 3 and 4 in the first layer, 10 and 21 in the second.
        np.testing.assert_allclose(run._removal._fill, [2.0, 3.0, 4.0, 10.0, 21.0])
        with instrument(model, Instrument(edits=run._removal.edits)):
            run._removal.set([[3], [4]])
            assert model(x).tolist() == [[10.0, 14.0], [15.0, 21.0]]
            run._removal.set([[0], [1, 3]])
            assert model(x).tolist() == [[10.0, 14.0], [10.0, 21.0]]
            run._removal.set([[], []])
            assert model(x).tolist() == [[5.0, 14.0], [15.0, 28.0]]
