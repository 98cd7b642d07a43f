"""Contributions in the same pass as the scores: neither changes, and an interrupted collection goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from interpnet.engine import find_sites
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.gram import GramAccumulator
from interpnet.reliance import Contributions, ContributionSums, collect_contributions
from interpnet.scores import ScoreTable, collect_scores


def network() -> nn.Module:
    torch.manual_seed(0)
    first = [nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*first, nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


def images(n: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(n) % 3


def batches(n: int = 10, size: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    x, y = images(n)
    return list(zip(x.split(size), y.split(size), strict=True))


def same(a: Contributions, b: Contributions, rtol: float = 1e-12) -> None:
    np.testing.assert_array_equal(a.counts, b.counts)
    assert (a.images, a.channels, a.info) == (b.images, b.channels, b.info)
    for name in ("margins", "moments", "level"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rtol, atol=1e-12)


def test_scores_are_bit_identical_and_contributions_those_of_a_pass_of_their_own():
    sums = ContributionSums()
    with_them = GramAccumulator(7, 3)
    without = GramAccumulator(7, 3)
    table = collect_scores(network(), batches(), contributions=sums, gram=with_them, progress=False)
    plain = collect_scores(network(), batches(), gram=without, progress=False)
    np.testing.assert_array_equal(table.X, plain.X)
    np.testing.assert_array_equal(table.predictions, plain.predictions)
    np.testing.assert_array_equal(with_them.gram().G, without.gram().G)
    same(sums.result(), collect_contributions(network(), batches(), progress=False))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_scores_of_real_networks_are_bit_identical(name):
    torch.manual_seed(0)
    net = torchvision.models.get_model(name, num_classes=4).eval()
    x = torch.randn(2, 3, 64, 64)
    loader = [(x, torch.tensor([0, 3]))]
    sums = ContributionSums()
    table = collect_scores(net, loader, contributions=sums, progress=False)
    np.testing.assert_array_equal(table.X, collect_scores(net, loader, progress=False).X)
    assert np.isfinite(sums.result().moments).all()
    assert all(p.requires_grad for p in net.parameters())


def test_images_past_the_cap_are_scored_all_the_same():
    sums = ContributionSums(images=1)
    table = collect_scores(network(), batches(), contributions=sums, progress=False)
    assert len(table) == 10
    found = sums.result()
    np.testing.assert_array_equal(found.counts, [1, 1, 1])
    assert found.images == 10
    same(found, collect_contributions(network(), batches(), images=1, progress=False), rtol=1e-5)


def test_targets_and_predictions():
    x, y = images()
    targets = torch.eye(3)[y]
    targets[4] = 1
    sums = ContributionSums(outputs="independent", fill="mean")
    table = collect_scores(network(), [(x, targets)], contributions=sums, progress=False)
    assert table.labels.shape == (10, 3)
    np.testing.assert_array_equal(sums.result().counts, targets.sum(0))
    alone = collect_contributions(network(), [(x, targets)], outputs="independent", fill="mean", progress=False)
    same(sums.result(), alone)
    sums = ContributionSums(targets="predictions")
    table = collect_scores(network(), batches(), contributions=sums, progress=False)
    np.testing.assert_array_equal(sums.result().counts, np.bincount(table.predictions, minlength=3))


class Killed(Exception):
    pass


class Keeping(ContributionSums):
    """Keeps the sums of what was committed, as the pipeline does in files."""

    kept: Contributions | None = None
    rows = 0

    def commit(self, rows: int) -> None:
        super().commit(rows)
        Keeping.kept = self.so_far()
        Keeping.rows = rows


@pytest.mark.parametrize("fill", ["zero", "mean"])
@pytest.mark.parametrize("size", [4, 3])
def test_an_interrupted_collection_goes_on_with_both(tmp_path, monkeypatch, fill, size):
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", 4)

    def stopping():
        yield from batches(16)[:3]
        raise Killed

    with pytest.raises(Killed):
        collect_scores(
            network(), stopping(), out=tmp_path / "s", contributions=Keeping(fill=fill), key="k", progress=False
        )
    rows = ScoreTable.progress(tmp_path / "s").rows
    assert 0 < rows < 12
    assert Keeping.rows == rows
    assert Keeping.kept.images == rows
    sums = ContributionSums(fill=fill, start=Keeping.kept)
    table = collect_scores(
        network(), batches(16, size), out=tmp_path / "s", contributions=sums, key="k", progress=False
    )
    whole = ContributionSums(fill=fill)
    plain = collect_scores(network(), batches(16), contributions=whole, progress=False)
    np.testing.assert_allclose(table.X, plain.X, rtol=1e-5)
    same(sums.result(), whole.result(), rtol=1e-4)


def test_scores_whose_contributions_are_missing_are_refused(tmp_path):
    collect_scores(network(), batches(), out=tmp_path / "s", key="k", progress=False)
    with pytest.raises(
        RunFolderError, match="the scores of 10 images are collected already, and the contributions of 0"
    ):
        collect_scores(
            network(), batches(), out=tmp_path / "s", key="k", contributions=ContributionSums(), progress=False
        )


def test_a_start_that_was_collected_otherwise_is_refused():
    start = collect_contributions(network(), batches(), targets="predictions", progress=False)
    with pytest.raises(InterpNetError, match="contributions of different targets cannot be added"):
        collect_scores(network(), batches(), contributions=ContributionSums(start=start), progress=False)


def test_removal_and_scores_do_not_go_together():
    sums = ContributionSums(removed=[[0], [], []])
    with pytest.raises(InterpNetError, match="scores are those of the whole network"):
        collect_scores(network(), batches(), contributions=sums, progress=False)


def test_a_caller_in_inference_mode_gets_both():
    sums = ContributionSums()
    net = network()
    with torch.inference_mode():
        collect_scores(net, batches(), contributions=sums, progress=False)
        found = collect_contributions(net, batches(), progress=False)
    same(sums.result(), found)
    same(found, collect_contributions(net, batches(), progress=False))


class Remembering(nn.Module):
    """Keeps a grid of positions that it makes in its first pass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Conv2d(1, 3, 3)
        self.last = nn.Linear(3, 3)
        self.grid: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.one(x))
        if self.grid is None:
            self.grid = torch.linspace(0.5, 1.5, maps.shape[-1])
        return self.last((maps * self.grid).mean((2, 3)))


def test_what_a_network_keeps_from_its_first_pass_can_be_part_of_the_graph():
    sums = ContributionSums()
    collect_scores(Remembering(), batches(), contributions=sums, progress=False)
    same(sums.result(), collect_contributions(Remembering(), batches(), progress=False))


def test_a_target_of_less_than_half_is_no_class():
    x, _ = images(2)
    targets = torch.tensor([[0.3, 0.7, 0.0], [0.5, 0.51, 1.0]])
    found = collect_contributions(network(), [(x, targets)], outputs="independent", progress=False)
    assert found.counts.tolist() == [0, 2, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_nearly_the_same(dtype):
    net = network()
    exact = collect_contributions(net, batches(), progress=False)
    sums = ContributionSums()
    collect_scores(net, batches(), contributions=sums, autocast=dtype, progress=False)
    np.testing.assert_allclose(sums.result().mean, exact.mean, atol=0.02)


def test_each_device_gives_the_same(device: str):
    sums = ContributionSums(fill="mean")
    collect_scores(network(), batches(), contributions=sums, device=device, progress=False)
    found = collect_contributions(network(), batches(), fill="mean", progress=False)
    same(sums.result(), found, rtol=1e-3)


def test_the_network_is_traced_at_the_same_sites():
    sums = ContributionSums()
    table = collect_scores(network(), batches(), contributions=sums, layers="all", progress=False)
    assert sums.result().channels == table.channels
    assert table.channels == find_sites(network(), images()[0]).index("all")
