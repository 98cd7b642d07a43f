"""Passes that begin in the middle give what whole passes give, or are not used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from interpnet.engine import Removal, Removals, Replay, find_sites
from interpnet.engine import _replay_passes as passes_module
from tests.helpers.networks import SPELLINGS, Branches, Spelled, images, torchvision_network


class Counts(TorchDispatchMode):
    """Counts the convolutions and linear maps that are really computed."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += any(name in str(func) for name in ("convolution", "addmm", "linear", "mm."))
        return func(*args, **(kwargs or {}))


@contextmanager
def computed() -> Iterator[Counts]:
    # The inner dispatch of inference mode does not split a linear map into others.
    with torch.no_grad(), Counts() as counts:
        yield counts


def compared(model: nn.Module, x: Tensor, *, exact: bool = True, every: int = 1) -> Removals:
    """Compare every image without one channel of every layer with a whole pass over it; return what ran."""
    model = model.eval()
    sites = find_sites(model, x).select()[::every]
    removal = Removal(sites, torch.zeros(sum(site.channels for site in sites), dtype=x.dtype))
    runs = Removals(model, removal)
    columns = [removal.channels.slice(site.name).start for site in sites]
    rows = np.tile(np.arange(len(x))[::-1], len(columns))
    lists = [np.array([column]) for column in columns for _ in range(len(x))]
    with torch.inference_mode():
        plain = model(x.clone())
        logits = runs.intact(x)
        assert torch.equal(logits.to(plain), plain)
        found = torch.full((len(rows), plain.shape[1]), torch.nan, dtype=logits.dtype)
        runs.removed(rows, lists, found.__setitem__)
        whole = Removals(model, removal)
        whole._replay.give_up("it is asked to")
        whole.intact(x)
        expected = torch.full_like(found, torch.nan)
        whole.removed(rows, lists, expected.__setitem__)
    assert (expected - plain[rows.copy()]).abs().max() > 0, "something changes"
    # One thread or another may sum in another order.
    torch.testing.assert_close(found, expected, rtol=0, atol=(0 if exact else 1e-5))
    return runs


def places(runs: Removals) -> list[int]:
    return [runs._replay.place(site.name) for site in runs._removal.sites]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_begins_after_every_layer(spelling: str) -> None:
    runs = compared(Spelled(spelling).double(), images(5, 3, 8, 8))
    assert runs.why_whole == ""
    assert len(set(places(runs)) - {-1}) == 4


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_branches_gates_and_layouts_of_memory(memory_format: torch.memory_format) -> None:
    model = Branches().double().to(memory_format=memory_format)
    runs = compared(model, images(4, 2, 16, 16).contiguous(memory_format=memory_format))
    assert runs.why_whole == ""
    assert -1 not in places(runs)
    kept = runs._replay._batch.kept.values()
    assert all(t.is_contiguous(memory_format=memory_format) for t in kept if t.dim() == 4 and t.shape[2] > 1)


@pytest.mark.parametrize("name", ["densenet121", "shufflenet_v2_x0_5", "googlenet"])
def test_networks_as_people_write_them(name: str) -> None:
    model = torchvision_network(name)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    runs = compared(model, x, exact=False, every={"densenet121": 40}.get(name, 8))
    assert runs.why_whole == ""
    assert -1 not in places(runs)


def test_what_came_before_is_not_computed_again() -> None:
    model = Spelled("inplace").eval()
    x = torch.randn(4, 3, 8, 8)
    sites = [site.name for site in find_sites(model, x).select()]
    replay = Replay(model, sites)
    with computed() as counts:
        plain = replay.record(x, lambda: model(x))
        before = counts.n
        made = []
        for name in sites:
            out = replay.resume(replay.place(name), torch.arange(4), lambda: model(x))
            made.append(counts.n - before)
            before = counts.n
            assert torch.equal(out, plain)
    # Five maps with weights: four follow the first rectifier, and the last rectifier one.
    assert made == [4, 3, 2, 1]


class Net(nn.Module):
    """Two convolutions with what a test puts between them, and a linear map."""

    def __init__(self, between: Callable[[nn.Module, Tensor, Tensor], Tensor], before: Any = None) -> None:
        super().__init__()
        self.between = between
        self.before = before
        self.register_buffer("kept", torch.zeros(1))
        self.memory: Any = None
        generator = torch.Generator().manual_seed(1)
        self.a = nn.Conv2d(2, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.out = nn.Linear(4, 3)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator)

    def forward(self, x: Tensor) -> Any:
        y = x
        if self.before is not None:
            y = self.before(x)
        h = self.between(self, F.relu(self.a(y)), x)
        return self.out(F.relu(self.b(h)).mean((2, 3)))


def later_write_to_the_input(_net: nn.Module, h: Tensor, x: Tensor) -> Tensor:
    return h + x.mul_(2).sum(1, keepdim=True)


def halves(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    one, other = h.chunk(2, 1)
    return torch.cat([other, one * 2], 1)


def overwritten_view(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    flat = h.flatten(1)
    flat.mul_(0.5)
    return h + 1


def filled_buffer(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    room = torch.zeros(len(h), 4, 10, 10)
    room[:, :, 1:9, 1:9] = h
    return room


def sorted_twice(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    values, order = h.flatten(2).max(2)
    return h + values[:, :, None, None] + order[:, :, None, None] / 64


def with_numbers(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    height, width = h.shape[2:]
    grid = torch.arange(height)[:, None] / height + torch.arange(width) / width
    h = h + grid.expand(h.size(0), 1, height, width)
    return h.view(h.size(0), -1, *h.shape[2:]) if h.is_contiguous() else h * 0


def transposed(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    return h.T.contiguous().mT.T.transpose(2, 3) if h.dim() < 4 else h.mT.mT + h.mH.real


def cast(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    return h.double().float().contiguous().detach()


def by_hand(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    return h * torch.clamp(h + 3, 0, 6) / 6


@pytest.mark.parametrize(
    "between",
    [
        halves,
        overwritten_view,
        filled_buffer,
        sorted_twice,
        with_numbers,
        transposed,
        cast,
        by_hand,
        later_write_to_the_input,
    ],
)
def test_what_networks_do_between_their_layers(between: Any) -> None:
    runs = compared(Net(between), images(4, 2, 8, 8).float(), exact=False)
    assert runs.why_whole == ""
    assert max(places(runs)) > 0


def test_a_network_that_changes_its_input_first() -> None:
    """The second half sees the images that the first half left behind, not the ones that came."""
    model = Net(lambda _net, h, x: h * x.mean(1, keepdim=True), before=lambda x: x.sub_(0.5).mul_(3.0))
    x = images(4, 2, 8, 8).float()
    before = x.clone()
    runs = compared(model, x, exact=False)
    assert runs.why_whole == ""
    assert places(runs)[0] > 0
    assert torch.equal(x, before)


def test_a_map_that_an_edit_would_change_for_a_second_reader_is_no_place_to_begin() -> None:
    """Two names of one piece of memory: what an edit writes to one is seen through the other."""

    def aliased(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
        return h.clone()

    model = Net(aliased)
    plain = model.forward

    def forward(x: Tensor) -> Any:
        h = model.a(x)
        same = h.view(h.shape)
        F.relu_(h)
        return model.out((F.relu(model.b(h)) + same).mean((2, 3)))

    model.forward = forward  # type: ignore[method-assign]
    assert plain is not None
    runs = compared(model, images(4, 2, 8, 8).float(), exact=False)
    assert places(runs)[0] == -1
    assert places(runs)[1] > 0


def reads_a_value(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    if h.abs().max() > 1e9:
        return h * 0
    return h


def leaves_torch(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    return torch.from_numpy(h.numpy() * 2)


def keeps_state(net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    net.kept.copy_(h.mean())
    return h


def image_by_image(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    return torch.stack([h[i] * 2 for i in range(len(h))])


def from_an_earlier_pass(net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    earlier = net.memory
    net.memory = h.new_zeros(())
    if earlier is None:
        earlier = h.new_zeros(())
    return h + earlier


def reshapes_in_place(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    h = h * 2
    h.unsqueeze_(1)
    return h[:, 0]


def exchanges(_net: nn.Module, h: Tensor, _x: Tensor) -> Tensor:
    h.data = h * 2
    return h


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (reshapes_in_place, "'unsqueeze' changes the shape of a tensor in place"),
        (exchanges, "its code exchanges what a tensor holds"),
        (reads_a_value, "looks at values that depend on the images, by 'bool'"),
        (leaves_torch, "looks at values that depend on the images, by 'numpy'"),
        (keeps_state, "'copy' writes what depends on the images into what it keeps between passes"),
        (image_by_image, "makes other calls for other images"),
        (from_an_earlier_pass, "computes with a tensor that no call of torch has made, or that an earlier pass left"),
    ],
)
def test_networks_that_run_whole_and_why(between: Any, why: str) -> None:
    runs = compared(Net(between), images(4, 2, 8, 8).float(), exact=False)
    assert runs.why_whole == f"every removal ran the whole network, for {why}" or why in runs.why_whole
    assert set(places(runs)) == {-1}


def test_rows_on_another_axis_are_no_place_to_begin() -> None:
    class Sequences(nn.Module):
        """Positions first and images second, as recurrent networks and transformers may have it."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(2, 4, 1)
            self.second = nn.Conv1d(4, 4, 1)
            self.out = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.first(x))
            turned = h.permute(2, 0, 1) * 2
            h = F.relu(self.second(h))
            return self.out(turned.sum(0) + h.sum(2))

    # As many positions as images, where a wrong axis would fit.
    runs = compared(Sequences(), images(4, 2, 4).float(), exact=False)
    assert runs.why_whole == ""
    first, second = places(runs)
    assert 0 < first == second, "after the second layer two maps are needed, one of them the wrong way round"


def test_volumes_single_images_and_half_precision() -> None:
    torch.manual_seed(0)
    volume = nn.Sequential(nn.Conv3d(1, 3, 2), nn.ReLU(), nn.Conv3d(3, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2))
    assert min(places(compared(volume, torch.rand(3, 1, 3, 3, 3), exact=False))) > 0
    assert min(places(compared(volume, torch.rand(1, 1, 3, 3, 3), exact=False))) > 0
    flat = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).bfloat16()
    assert min(places(compared(flat, torch.rand(3, 4).bfloat16(), exact=False))) > 0


@pytest.mark.parametrize(("budget", "begin"), [(0, 0), (4 * 40, 1), (1 << 20, 4)])
def test_memory_is_bounded_and_goes_to_the_latest_layers(budget: int, begin: int) -> None:
    model = Spelled("module").eval()
    x = torch.randn(4, 3, 8, 8)
    sites = [site.name for site in find_sites(model, x).select()]
    replay = Replay(model, sites, budget=budget)
    with torch.inference_mode():
        replay.record(x, lambda: model(x))
    found = [replay.place(name) > 0 for name in sites]
    assert found == [False] * (4 - begin) + [True] * begin
    if replay._batch is not None:
        assert sum(t.nbytes for t in replay._batch.kept.values()) <= budget
    # 6x8x8 + 8x4x4 twice + 10 numbers of 4 bytes for each image.
    assert replay.fitting(x) == budget // (4 * (384 + 256 + 10))


def test_a_network_that_goes_another_way_later_runs_whole() -> None:
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Spelled("module")
            self.more = False

        def forward(self, x: Tensor) -> Tensor:
            if self.more:
                x = x * 2
            return self.body(x)

    x = torch.randn(4, 3, 8, 8)
    for swallows in (False, True):
        model = Fickle().eval()
        sites = [site.name for site in find_sites(model, x).select()]
        replay = Replay(model, sites)
        with torch.inference_mode():
            replay.record(x, lambda model=model: model(x))
            model.more = True
            plain = model(x)

            def run(model: nn.Module = model, swallows: bool = swallows) -> Tensor:
                try:
                    return model(x)
                except BaseException:
                    if swallows:
                        return torch.zeros(4, 4)
                    raise

            assert torch.equal(replay.resume(replay.place(sites[-1]), torch.arange(4), run), plain)
            assert "makes other calls for other images" in replay.why
            assert torch.equal(replay.record(x, lambda model=model: model(x)), plain)
        assert not model._forward_hooks


def test_outputs_that_differ_are_noticed_and_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = passes_module.rows_of
    monkeypatch.setattr(passes_module, "rows_of", lambda t, rows: honest(t, rows.flip(0)))
    runs = compared(Spelled("module").double(), images(5, 3, 8, 8))
    assert "its outputs are others where a pass begins in the middle" in runs.why_whole


def test_a_later_batch_with_other_values_is_resumed_from_its_own_maps() -> None:
    model = Spelled("module").double().eval()
    first = images(4, 3, 8, 8)
    second = images(3, 3, 8, 8, seed=1)
    sites = find_sites(model, first).select()
    removal = Removal(sites, torch.zeros(sum(site.channels for site in sites), dtype=torch.float64))
    runs = Removals(model, removal)
    lists = [np.array([0]), np.array([30])]
    with torch.inference_mode():
        for x in (first, second):
            runs.intact(x)
            found = torch.zeros(2, 4, dtype=torch.float64)
            runs.removed(np.array([2, 2]), lists, found.__setitem__)
            one = Removals(model, removal)
            one._replay.give_up("it is asked to")
            one.intact(x[2:3].clone())
            expected = torch.zeros(2, 4, dtype=torch.float64)
            one.removed(np.array([0, 0]), lists, expected.__setitem__)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert runs.why_whole == ""


def test_an_interruption_leaves_the_network_as_it_was() -> None:
    model = Spelled("module").eval()
    x = torch.randn(4, 3, 8, 8)
    replay = Replay(model, ["r1"])
    with torch.inference_mode():
        plain = replay.record(x, lambda: model(x))
        place = replay.place("r1")

        def interrupted() -> Tensor:
            model(x)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            replay.resume(place, torch.arange(4), interrupted)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        assert torch.equal(model(x), plain)
        assert torch.equal(replay.resume(place, torch.arange(4), lambda: model(x)), plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_a_gpu() -> None:
    model = Spelled("inplace").cuda()
    x = torch.randn(6, 3, 8, 8, device="cuda")
    sites = find_sites(model.eval(), x).select()
    removal = Removal(sites)
    runs = Removals(model, removal)
    rows = np.array([5, 0, 3])
    lists = [np.array([0]), np.array([8, 20]), np.array([30])]
    found = torch.zeros(3, 4, device="cuda")
    with torch.inference_mode():
        runs.intact(x)
        runs.removed(rows, lists, lambda some, logits: found.__setitem__(torch.from_numpy(some), logits))
        whole = Removals(model, removal)
        whole._replay.give_up("it is asked to")
        whole.intact(x)
        expected = torch.zeros(3, 4, device="cuda")
        whole.removed(rows, lists, lambda some, logits: expected.__setitem__(torch.from_numpy(some), logits))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert runs.why_whole == ""
