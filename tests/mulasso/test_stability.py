"""Selection frequencies: planted channels, duplicates, halves that complement each other, files, refusals."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import torch

from interpnet.errors import DataError, InterpNetError, RunFolderError
from interpnet.gram import Gram, RowGram, part_grams, random_parts
from interpnet.mulasso import MuLasso, Stability, _half_samples, stability_selection
from interpnet.mulasso._half_samples import draw_halves


def planted(N: int = 320, m: int = 30, C: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores of which columns 2c and 2c + 1 carry target c, beside much noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, m))
    W = np.zeros((m, C))
    for c in range(C):
        W[2 * c : 2 * c + 2, c] = 0.4, 0.6
    return X, X @ W + 1.5 * rng.standard_normal((N, C))


def labelled(N: int = 200, m: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(N) % 2)
    return rng.random((N, m)) + 0.5 * np.eye(m)[labels], labels


# --- what is measured ---------------------------------------------------------------------------


def test_planted_channels_are_frequent_and_noise_is_not() -> None:
    X, L = planted()
    found = stability_selection(X, L, mu=0.6, n_pairs=20)
    assert found.n_subsamples == 40
    for c in range(2):
        true = found.frequency[c, 2 * c : 2 * c + 2]
        noise = np.delete(found.frequency[c], [2 * c, 2 * c + 1])
        assert true.min() >= 0.95
        assert noise.max() <= 0.8
        assert np.median(noise) <= 0.2
        assert np.count_nonzero(noise >= 0.75) <= found.expected_false(0.75)[c]


def test_frequencies_are_counts_of_solutions_on_the_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    X, L = planted()
    part = random_parts(len(X), 6, seed=3)
    halves = np.array([[0, 1, 2], [0, 3, 5]])
    monkeypatch.setattr(_half_samples, "draw_halves", lambda *_: list(halves))
    found = stability_selection(X, L, mu=0.6, n_pairs=2, n_blocks=6, seed=3)
    counts = np.zeros((2, 30))
    for half in halves:
        for rows in (np.isin(part, half), ~np.isin(part, half)):
            counts += MuLasso(0.6).fit(X[rows], L[rows]).coef_ != 0
    assert np.array_equal(found.frequency, counts / 4)
    assert found.n_selected.tolist() == found.frequency.sum(axis=1).tolist()


def test_duplicates_of_a_channel_share_its_frequency() -> None:
    rng = np.random.default_rng(1)
    X, L = planted()
    X[:, 1] = X[:, 0] + 1e-3 * rng.standard_normal(len(X))  # the two carry the same, all but exactly
    L[:, 0] = X[:, 0] + 0.5 * rng.standard_normal(len(X))
    frequency = stability_selection(X, L[:, :1], mu=0.6, n_pairs=20).frequency[0]
    assert frequency[0] < 1
    assert frequency[1] < 1
    assert frequency[0] + frequency[1] >= 1  # one of them is always there


def test_seed_decides() -> None:
    X, L = planted()
    one, again, other = (stability_selection(X, L, mu=0.6, n_pairs=4, seed=s).frequency for s in (5, 5, 6))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_halves_complement_each_other_and_sum_to_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    X, labels = labelled()
    sides = []

    def watched(gram, *args, **options):
        sides.append(gram)
        return solve(gram, *args, **options)

    solve = _half_samples.solve_warned
    monkeypatch.setattr(_half_samples, "solve_warned", watched)
    stability_selection(X, labels, mu=0.4, n_pairs=3, n_blocks=4)
    total = Gram.from_scores(X, labels)
    assert len(sides) == 6
    for left, right in zip(sides[::2], sides[1::2], strict=True):
        assert left.n == right.n == 100
        assert left.yy.tolist() == right.yy.tolist() == [50, 50]  # each class is halved too
        assert left.is_definite
        assert right.is_definite
        np.testing.assert_allclose((left + right).G, total.G, rtol=1e-12)
        np.testing.assert_allclose((left + right).B, total.B, rtol=1e-12)


def test_halves_are_all_different_and_never_mirrored() -> None:
    for n_blocks in (2, 4, 6):
        most = comb(n_blocks, n_blocks // 2) // 2
        halves = [tuple(half) for half in draw_halves(n_blocks, most, 1, "n_blocks")]
        assert len(set(halves)) == most
        assert all(len(set(half)) == n_blocks // 2 and half[0] == 0 and max(half) < n_blocks for half in halves)
    # Apart from block 0, which names the half, every block is as often in it as not.
    often = np.bincount(np.concatenate(draw_halves(16, 2000, 0, "n_blocks")), minlength=16)[1:] / 2000
    np.testing.assert_allclose(often, 7 / 15, atol=0.05)


# --- data and weights ---------------------------------------------------------------------------


def test_memory_map_tensor_and_grams_agree(tmp_path) -> None:
    X, labels = labelled()
    X = X.astype(np.float32)
    mapped = np.memmap(tmp_path / "X.f32", dtype=np.float32, mode="w+", shape=X.shape)
    mapped[:] = X
    expected = stability_selection(X, labels, mu=0.4, n_pairs=4).frequency
    blocks = part_grams(X, labels, random_parts(labels, 16))
    for found in (
        stability_selection(mapped, labels, mu=0.4, n_pairs=4),
        stability_selection(torch.from_numpy(X), labels, mu=0.4, n_pairs=4),
        Stability.from_grams(blocks, mu=0.4, n_pairs=4),
    ):
        assert np.array_equal(found.frequency, expected)


def test_on_a_device(device: str) -> None:
    X, labels = labelled()
    expected = stability_selection(X, labels, mu=0.4, n_pairs=4).frequency
    found = stability_selection(torch.from_numpy(X).to(device), labels, mu=0.4, n_pairs=4, device=device)
    np.testing.assert_allclose(found.frequency, expected, atol=1 / 8)  # a weight at zero may fall to either side


def test_weights_reach_the_blocks() -> None:
    X, labels = labelled()
    X = X[labels + np.arange(200) % 3 > 0]
    labels = labels[labels + np.arange(200) % 3 > 0]
    each = len(labels) / (2 * np.bincount(labels))
    by_name = stability_selection(X, labels, mu=0.4, n_pairs=4, class_weight="balanced")
    by_hand = stability_selection(X, labels, mu=0.4, n_pairs=4, sample_weight=each[labels])
    assert np.array_equal(by_name.frequency, by_hand.frequency)


def test_positive_and_a_radius_a_class() -> None:
    X, L = planted()
    L[:, 1] *= -1
    found = stability_selection(X, L, mu=[0.6, 0.6], n_pairs=4, positive=True)
    assert found.frequency[0, :2].min() == 1
    assert not found.frequency[1, 2:4].any()
    assert found.mu.tolist() == [0.6, 0.6]
    assert found.positive


# --- the result ---------------------------------------------------------------------------------


def test_bound_on_false_selections_by_hand() -> None:
    # q = 2 selected of m = 10: 2^2 / ((2 * 0.9 - 1) * 10) = 0.5
    found = Stability(np.array([[1.0, 0.5, 0.5, 0, 0, 0, 0, 0, 0, 0]]), 10, 1.0, False)
    assert found.expected_false(0.9) == pytest.approx([0.5])
    assert found.expected_false(1.0) == pytest.approx([0.4])
    for threshold in (0.5, 1.1, float("nan")):
        with pytest.raises(InterpNetError, match=f"threshold is {threshold}"):
            found.expected_false(threshold)


@pytest.mark.parametrize("mu", [10.0, np.array([1.0, 2.0])])
def test_save_and_load(tmp_path, mu) -> None:
    found = Stability(np.array([[0.25, 1.0], [0.0, 0.5]]), 4, mu, True)
    found.save(tmp_path / "stability.npz")
    again = Stability.load(tmp_path / "stability.npz")
    assert np.array_equal(again.frequency, found.frequency)
    assert (again.n_subsamples, again.positive) == (4, True)
    assert np.array_equal(again.mu, mu)
    assert isinstance(again.mu, float) == isinstance(mu, float)
    assert [p.name for p in tmp_path.iterdir()] == ["stability.npz"]


def test_the_file_says_what_it_is(tmp_path) -> None:
    path = tmp_path / "stability.npz"
    Stability(np.array([[0.25, 1.0]]), 4, 10.0, True).save(path)
    with np.load(path) as data:
        values = {name: data[name] for name in data.files}
    assert sorted(values) == ["format", "frequency", "mu", "n_subsamples", "positive"]
    assert str(values["format"]) == "interpnet-stability-1"
    np.savez(path, **{**values, "format": np.array("interpnet-stability-2")})
    with pytest.raises(RunFolderError, match="has format 'interpnet-stability-2'; expected 'interpnet-stability-1'"):
        Stability.load(path)


def test_files_that_are_refused(tmp_path) -> None:
    path = tmp_path / "stability.npz"
    with pytest.raises(RunFolderError, match="does not exist"):
        Stability.load(path)
    with pytest.raises(InterpNetError, match=r"ends in \.npz"):
        Stability(np.ones((1, 1)), 2, 1.0, False).save(tmp_path / "stability.bin")
    np.savez(path, frequency=np.ones((1, 1)))
    with pytest.raises(RunFolderError, match=r"lacks \['mu', 'n_subsamples', 'positive'\]"):
        Stability.load(path)
    np.savez(path, frequency=np.full((1, 1), 2.0), mu=1.0, n_subsamples=2, positive=False)
    with pytest.raises(RunFolderError, match=r"that can be read .*every value from 0 to 1"):
        Stability.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match="holds no stability selection that can be read"):
        Stability.load(path)


@pytest.mark.parametrize("frequency", [[0.5], [[1.5]], [[-0.1]], [[np.nan]]])
def test_what_is_no_frequency_is_refused(frequency) -> None:
    with pytest.raises(InterpNetError, match=r"expected \(C, m\), every value from 0 to 1"):
        Stability(np.array(frequency), 2, 1.0, False)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mu": 0.0}, "mu is or holds 0.0"),
        ({"mu": [1.0]}, r"mu has shape \(1,\); expected a number, or 2"),
        ({"n_pairs": 0}, "n_pairs is 0"),
        ({"n_pairs": 2.5}, "n_pairs is 2.5"),
        ({"n_blocks": 5}, "n_blocks: there are 5 blocks; expected an even number"),
        ({"n_blocks": 4}, "n_pairs is 50, but 4 blocks make only 3 different pairs"),
        ({"n_blocks": 0}, "n_blocks is 0"),
        ({"n_blocks": 300}, "n_parts is 300 for 200 images"),
        ({"tol": 0.0}, "tol is"),
        ({"positive": 1}, "positive is 1"),
        ({"class_weight": "even"}, "class_weight is 'even'"),
        ({"sample_weight": [1.0]}, "sample_weight has shape"),
        ({"device": "abacus"}, "is not a device"),
    ],
)
def test_parameters_that_are_refused(parameters, message) -> None:
    with pytest.raises(InterpNetError, match=message):
        stability_selection(*labelled(), **({"mu": 1.0} | parameters))


def test_data_that_is_refused() -> None:
    X, labels = labelled()
    bad = X.copy()
    bad[150, 3] = np.inf
    with pytest.raises(DataError, match="X contains infinity at row 150, column 3"):
        stability_selection(bad, labels, mu=1.0)
    with pytest.raises(DataError, match="one class only"):
        stability_selection(X, np.ones(200), mu=1.0)
    with pytest.raises(InterpNetError, match=r"X has shape \(200,\)"):
        stability_selection(X[:, 0], labels, mu=1.0)
    with pytest.raises(InterpNetError, match="grams: there are 3 blocks"):
        Stability.from_grams([Gram.from_scores(X, labels)] * 3, mu=1.0, n_pairs=1)
    with pytest.raises(InterpNetError, match="gram is a str"):
        Stability.from_grams(["a", "b"], mu=1.0, n_pairs=1)


def test_blocks_beyond_half_of_the_memory_are_solved_from_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = stability_selection(*labelled(), mu=0.4, n_pairs=3)
    # One block too many.
    monkeypatch.setattr("interpnet.gram._memory.physical_memory", lambda: 2 * 8 * 15 * 8**2)
    monkeypatch.setattr("interpnet.mulasso._working_sets.usable_memory", lambda: 1e9)
    made: list[type] = []
    whole = RowGram.without

    def without(self: RowGram, part: RowGram) -> RowGram:
        made.append(type(part))
        return whole(self, part)

    monkeypatch.setattr(RowGram, "without", without)
    np.testing.assert_array_equal(stability_selection(*labelled(), mu=0.4, n_pairs=3).frequency, usual.frequency)
    assert made == [RowGram] * 3
