"""Ablation: exact removal, controls, intervals, and a network whose relevant channels are known by construction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import Branches, Spelled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from interpnet.ablation import AblationResult, Passes, ablate, ablation_study, as_result, interval
from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import DataError, InterpNetError, LayerError
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import collect_scores


class Known(nn.Module):
    """Class c is decided by channel c alone; channels 4 to 11 are noise that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 12, 1, bias=False)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(12, 4, bias=False)
        self.conv.weight.data.zero_()
        self.fc.weight.data.zero_()
        for c in range(4):
            self.conv.weight.data[c, c] = 1.0
            self.fc.weight.data[c, c] = 1.0
        self.conv.weight.data[4:, :, 0, 0] = 0.3

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


def known_data(n: int = 80) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(2)
    y = torch.arange(n) % 4
    x = torch.rand(n, 4, 3, 3, generator=g) * 0.2
    x[torch.arange(n), y] += 1.0
    return [(x[i : i + 16], y[i : i + 16]) for i in range(0, n, 16)]


def blame_known() -> Interpretation:
    return Interpretation(ChannelIndex((("relu", 12),)), np.eye(4, 12), tuple("abcd"))


def test_known_network_end_to_end() -> None:
    model = Known()
    data = known_data()
    table = collect_scores(model, data, progress=False)
    assert table.accuracy == 1.0
    found = interpret(table, mu=1.5)
    for c in range(4):
        assert found.relevant(c)[0][0] == Channel("relu", c), (
            "the channel that decides the class has the largest weight"
        )
    result = ablation_study(model, data, found, table=table, repeats=4, progress=False)
    relevant = result.condition("relevant")
    random = result.condition("random")
    assert result.mean_intact == 1.0
    # Zeroing channel c leaves class c with a constant 0, the smallest of the four logits.
    assert relevant.mean_own() == 0.0
    assert random.mean_own() > 0.9
    own = result.single[0][0].own_drop
    others = result.single[0][0].others_change
    assert (own, others) == (1.0, 0.0), "the class's own channel matters to it alone"
    assert result.curve is not None
    assert result.curve.own[0].mean() == 0.0


def test_study_equals_ablating_class_by_class() -> None:
    """One pass with a list for every image gives what one pass a class gives."""
    torch.manual_seed(3)
    model = Spelled("inplace").eval()
    x = torch.randn(40, 3, 8, 8)
    y = torch.arange(40) % 4
    table = collect_scores(model, [(x, y)], progress=False)
    found = interpret(table, mu=3.0)
    result = ablation_study(model, [(x[:17], y[:17]), (x[17:], y[17:])], found, repeats=1, single=True, progress=False)
    for c in range(4):
        chosen = [channel for channel, _ in found.relevant(c)]
        with torch.no_grad(), ablate(model, chosen):
            predictions = model(x).argmax(1)
        assert result.condition("relevant").own[0, c] == pytest.approx(
            float((predictions == y)[y == c].double().mean())
        )
        for effect in result.single[c]:
            with torch.no_grad(), ablate(model, [effect.channel]):
                right = (model(x).argmax(1) == y)[y == c]
            assert effect.own_drop == pytest.approx(result.intact[c] - float(right.double().mean()))


def test_others_recall_by_hand() -> None:
    """Removing everything that class 3 uses, in images of the others, changes nothing for them; its own channels do."""
    model = Known().eval()
    data = known_data()
    index = ChannelIndex((("relu", 12),))
    coef = np.zeros((4, 12))
    coef[0, 1] = 1.0  # class 0 is wrongly blamed on channel 1
    coef[3, 3] = 1.0
    found = Interpretation(index, coef, ("a", "b", "c", "d"))
    result = ablation_study(model, data, found, repeats=1, curve=False, single=False, progress=False)
    relevant = result.condition("relevant")
    np.testing.assert_array_equal(relevant.removed, [1, 0, 0, 1])
    np.testing.assert_array_equal(relevant.own[0], [1, 1, 1, 0])
    # Of the others (b, c, d) without channel 1, b fails and c, d do not. No image can lose channels of b or c.
    np.testing.assert_allclose(relevant.others[0], [2 / 3, np.nan, np.nan, 1])


def lists_of(found: Interpretation, kind: str, seed: int = 0) -> list[np.ndarray]:
    from interpnet.ablation._plan import Plan

    plan = Plan(found, None, ("random", "random-per-layer"), repeats=1, seed=seed, curve=False, single=False)
    allowed = np.ones(len(found.channels), dtype=bool)
    return plan.lists(kind, allowed)


@settings(max_examples=40, derandomize=True)
@given(
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
    density=st.floats(0.0, 0.6),
)
def test_controls_are_matched(sizes: list[int], seed: int, density: float) -> None:
    index = ChannelIndex(tuple((f"l{i}", n) for i, n in enumerate(sizes)))
    rng = np.random.default_rng(seed)
    coef = rng.normal(size=(3, len(index))) * (rng.random((3, len(index))) < density)
    found = Interpretation(index, coef, ("a", "b", "c"))
    layer = np.repeat(np.arange(len(sizes)), sizes)
    for c in range(3):
        relevant = found.columns(c)
        free = np.setdiff1d(np.arange(len(index)), relevant)
        for kind in ("random", "random-per-layer"):
            drawn = lists_of(found, kind, seed)[c]
            assert len(set(drawn.tolist())) == len(drawn), "no channel twice"
            assert not set(drawn.tolist()) & set(relevant.tolist()), "a control never removes a relevant channel"
            np.testing.assert_array_equal(drawn, lists_of(found, kind, seed)[c])
            if kind == "random":
                assert len(drawn) == min(len(relevant), len(free))
            else:
                for i in range(len(sizes)):
                    expected = min((layer[relevant] == i).sum(), (layer[free] == i).sum())
                    assert (layer[drawn] == i).sum() == expected


def test_result_does_not_depend_on_batch_size() -> None:
    model = Branches().eval()
    data = torch.randn(24, 2, 16, 16)
    y = torch.arange(24) % 3
    found = interpret(collect_scores(model, [(data, y)], progress=False), mu=2.0)
    results = [
        ablation_study(model, [(data[i : i + n], y[i : i + n]) for i in range(0, 24, n)], found, progress=False)
        for n in (24, 5)
    ]
    for one, other in zip(*(result.conditions for result in results), strict=True):
        np.testing.assert_array_equal(one.own, other.own)
        np.testing.assert_array_equal(one.others, other.others)
        for measure in one.changes:
            np.testing.assert_allclose(one.changes[measure].own.mean, other.changes[measure].own.mean, atol=1e-5)


def test_json_round_trip_with_an_empty_class() -> None:
    model = Known()
    data = [(x[y != 2], y[y != 2]) for x, y in known_data()]
    found = interpret(collect_scores(model, data, progress=False), classes=list("abcd"), mu=4.0)
    result = ablation_study(model, data, found, repeats=2, progress=False)
    assert np.isnan(result.intact[2])
    text = json.dumps(result.to_json(), allow_nan=False)
    again = AblationResult.from_json(json.loads(text))
    assert json.dumps(again.to_json(), allow_nan=False) == text
    assert result.mean_intact == 1.0


def test_interval_is_students_t() -> None:
    values = np.array([0.4, 0.5, 0.7, 0.6])
    lo, hi = interval(values)
    assert (lo + hi) / 2 == pytest.approx(0.55)
    assert (hi - lo) / 2 == pytest.approx(3.182446305 * values.std(ddof=1) / 2)
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_fill_with_means_keeps_the_average() -> None:
    model = Known().eval()
    data = known_data()
    found = blame_known()
    zero = ablation_study(model, data, found, repeats=1, curve=False, single=False, progress=False)
    mean = ablation_study(model, data, found, repeats=1, fill="mean", curve=False, single=False, progress=False)
    assert mean.fill == "mean"
    # Channel c at its mean of about 0.35 still beats the noise of at most 0.2, so the class survives.
    assert zero.condition("relevant").mean_own() == 0.0
    assert mean.condition("relevant").mean_own() > 0.9


@pytest.mark.parametrize("train", [True, False])
def test_ablate_leaves_the_model_alone(train: bool) -> None:
    model = Spelled("inplace").train(train)
    x = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        before = model.eval()(x)
        model.train(train)
        with ablate(model, [Channel("r1", 0)]):
            assert model.training == train
            model.eval()(x)
        torch.testing.assert_close(model.eval()(x), before, rtol=0, atol=0)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_ablate_with_fills_and_gradients() -> None:
    model = Known().eval()
    x = known_data()[0][0]
    with torch.no_grad(), ablate(model, [Channel("relu", 2)], fill=5.0):
        assert (model(x)[:, 2] == 5.0).all()
    levels = {Channel("relu", 2): 1.5, Channel("relu", 1): 0.5}
    with torch.no_grad(), ablate(model, list(levels), fill=levels):
        assert model(x)[:, 1:3].unique(dim=0).tolist() == [[0.5, 1.5]]
    leaf = x.clone().requires_grad_()
    with ablate(model, [Channel("relu", 2)]):
        model(leaf)[:, 2].sum().backward()
    assert (leaf.grad == 0).all(), "no gradient flows through a removed channel"
    missing = [Channel("relu", 2), Channel("relu", 9)]
    with (
        pytest.raises(InterpNetError, match=r"fill has no value for relu\[9\]"),
        torch.no_grad(),
        ablate(model, [*levels, *missing], fill=dict.fromkeys([*levels, missing[0]], 1.0)),
    ):
        model(x)


def test_ablate_errors() -> None:
    model = Spelled("module").eval()
    x = torch.randn(3, 3, 8, 8)
    cases = [
        ([Channel("r9", 0)], "unknown layer 'r9'"),
        ([Channel("r1", 6)], "channel 6 of layer 'r1' does not exist; expected 0 to 5"),
        ([[Channel("r1", 0)]] * 2, "lists of channels for 2 images and a batch of 3"),
    ]
    for channels, message in cases:
        with ablate(model, channels), pytest.raises((LayerError, InterpNetError), match=message):
            model(x)
        assert not any(m._forward_hooks for m in model.modules())
    with (
        pytest.raises(InterpNetError, match="fill='mean'; expected 'zero', a number"),
        ablate(model, [Channel("r1", 0)], fill="mean"),
    ):
        pass
    with pytest.raises(InterpNetError, match="mixes Channels and lists"), ablate(model, [Channel("r1", 0), []]):
        pass
    with ablate(model, []):
        model(x)


@pytest.mark.parametrize("options", [{}, {"curve": False}, {"single": False, "controls": ("random",)}])
def test_the_bar_counts_every_removal(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    announced: list[int] = []
    made: list[int] = []

    @contextmanager
    def bar(_name: str, total: int, **_options: object) -> Iterator[Callable[[int], None]]:
        announced.append(total)
        yield made.append

    monkeypatch.setattr("interpnet.ablation._study.progress_bar", bar)
    model = Known()
    data = known_data()
    found = interpret(collect_scores(model, data, progress=False), mu=4.0)
    ablation_study(model, data, found, repeats=5, **options)
    assert [sum(made)] == announced


def test_study_errors() -> None:
    model = Known()
    data = known_data()
    found = interpret(collect_scores(model, data, progress=False), mu=4.0)
    cases = [
        ({"controls": ("randm",)}, InterpNetError, "controls="),
        ({"repeats": 0}, InterpNetError, "repeats is 0; expected a whole number of at least 1"),
        ({"fill": "noise"}, InterpNetError, "fill='noise'; expected 'zero' or 'mean'"),
    ]
    for options, kind, message in cases:
        with pytest.raises(kind, match=message):
            ablation_study(model, data, found, progress=False, **options)
    with pytest.raises(DataError, match="yielded no image"):
        ablation_study(model, [], found, progress=False)
    with pytest.raises(InterpNetError, match="was it made from another model"):
        ablation_study(nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(36, 9)), data, found, progress=False)


@pytest.mark.parametrize("label", [4, -1])
def test_images_that_fit_no_class_are_refused(label: int) -> None:
    images, _ = known_data()[0]
    labels = torch.full((16,), label)
    with pytest.raises(DataError, match=rf"image 0 has label {label}; the model has 4 outputs"):
        ablation_study(Known(), [(images, labels)], blame_known(), progress=False)


def test_images_of_classes_without_channels_lose_nothing_of_their_own() -> None:
    coef = np.zeros((4, 12))
    coef[3, 3] = 1.0
    found = Interpretation(ChannelIndex((("relu", 12),)), coef, tuple("abcd"))
    data = [(x[y != 3], y[y != 3]) for x, y in known_data()]
    result = ablation_study(Known(), data, found, progress=False)
    relevant = result.condition("relevant")
    np.testing.assert_array_equal(relevant.own[0], [1, 1, 1, np.nan])
    np.testing.assert_array_equal(relevant.others[0], [np.nan, np.nan, np.nan, 1])
    assert relevant.changes["log_odds"].own.overall() == 0.0
    assert result.single[3][0].others_change == 0.0


class Stateful(Known):
    """Keeps the mean of the batch in a buffer, which nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("level", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.level.copy_(x.mean())
        return super().forward(x)


def test_a_network_that_keeps_state_runs_whole_and_the_result_says_so() -> None:
    data = known_data()
    found = blame_known()
    quick = ablation_study(Known(), data, found, progress=False)
    slow = ablation_study(Stateful(), data, found, progress=False)
    assert quick.why_whole == ""
    assert slow.why_whole.startswith("every removal ran the whole network, for 'copy' writes what depends on the im")
    assert slow.to_json() | {"why_whole": ""} == quick.to_json()
    assert as_result(slow.to_json()).why_whole == slow.why_whole
    assert as_result({k: v for k, v in quick.to_json().items() if k != "why_whole"}).why_whole == ""


def test_a_loader_that_can_be_read_only_once_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpnet.ablation._passes._KEEP_BYTES", 0)
    model = Known()
    data = known_data()
    found = interpret(collect_scores(model, data, progress=False), mu=4.0)
    with pytest.raises(DataError, match=r"starts again each time|yielded no image"):
        ablation_study(model, iter(data), found, progress=False)


def test_images_that_do_not_fit_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Known()
    data = known_data()
    found = interpret(collect_scores(model, data, progress=False), mu=4.0)
    kept = ablation_study(model, data, found, repeats=1, progress=False).to_json()
    monkeypatch.setattr("interpnet.ablation._passes._KEEP_BYTES", 0)
    assert ablation_study(model, data, found, repeats=1, progress=False).to_json() == kept


def test_foreign_classes_are_spread_evenly() -> None:
    model = Known().eval()
    data = known_data(240)
    found = interpret(collect_scores(model, data, progress=False), mu=4.0)
    run = Passes(model, data, found, put=torch.Tensor.cpu, output=None, seed=1)
    assert (run.foreign != run.labels).all()
    pairs = np.bincount(run.labels * 4 + run.foreign, minlength=16).reshape(4, 4)
    assert pairs[~np.eye(4, dtype=bool)].min() == pairs.max() == 20


def test_interrupted_study_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Known()
    data = known_data()
    table = collect_scores(model, data, progress=False)
    found = interpret(table, mu=4.0)
    options = {"table": table, "repeats": 3, "progress": False, "checkpoint": tmp_path / "measured.json", "key": "k"}
    whole = ablation_study(model, data, found, table=table, repeats=3, progress=False).to_json()
    made: list[int] = []
    honest = Passes._run

    def counting(self: Passes, *args: object) -> object:
        made.append(1)
        if limit and len(made) > limit:
            raise KeyboardInterrupt
        return honest(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Passes, "_run", counting)
    limit = 3
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        ablation_study(model, data, found, **options)
    limit = 0
    made = []
    assert ablation_study(model, data, found, **options).to_json() == whole
    assert len(made) == 2, "three of five batches were measured before"
    made = []
    ablation_study(model, data, found, **{**options, "key": "another"})
    assert len(made) == 5, "a checkpoint of another study is not used"
    (tmp_path / "measured.json").write_text("{damaged")
    assert ablation_study(model, data, found, **options).to_json() == whole
