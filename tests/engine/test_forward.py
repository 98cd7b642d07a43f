"""A network gets images of its own, and what its code raises is one line that names the place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.ablation import ablation_study
from interpnet.attribution import attribute, methods
from interpnet.engine import Channel, RunError, check_images, find_sites, forward, forward_logits, logits_of
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.explanation import average_visualization, channel_heatmap, channel_signal, explain
from interpnet.interpretation import interpret
from interpnet.models import accuracy
from interpnet.pictures import activation_maps, embed, filters
from interpnet.scores import collect_scores

SHAPES = {"colour": (3, 8, 8), "grey": (1, 8, 8), "1-D": (2, 16), "3-D": (2, 6, 6, 6)}


def network(shape: tuple[int, ...]) -> nn.Sequential:
    """Return a small network of one convolution for images (C, ...) with any number of spatial axes."""
    axes = len(shape) - 1
    torch.manual_seed(1)
    return nn.Sequential(
        (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](shape[0], 4, 3, padding=1),
        nn.ReLU(),
        (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[axes - 1](1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()


class Prepared(nn.Module):
    """A network behind a step that prepares the images."""

    def __init__(self, net: nn.Module, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net = net
        self.prepare = prepare

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.prepare(x))


def _normalise(x: Tensor) -> Tensor:
    return x.sub_(0.5).div_(0.25)


def _augmented(x: Tensor) -> Tensor:
    x -= 0.5
    x *= 4.0
    return x


def _first_channel(x: Tensor) -> Tensor:
    x[:, 0] = 0
    return x


def _view(x: Tensor) -> Tensor:
    x[:, :1].mul_(3.0)
    return x


def _data(x: Tensor) -> Tensor:
    x.data.add_(1.0)
    return x


def _copied(x: Tensor) -> Tensor:
    x.copy_(x.flip(-1))
    return x


def _own_mean(x: Tensor) -> Tensor:
    x -= x.flatten(1).mean(1).view(-1, *[1] * (x.dim() - 1))
    return x


def _kept(x: Tensor) -> Tensor:
    keep = torch.ones_like(x)
    keep[:, 0] = 0
    return x * keep


def _tripled(x: Tensor) -> Tensor:
    factor = torch.ones_like(x)
    factor[:, :1] = 3.0
    return x * factor


# In place, and the same computation out of place.
IN_PLACE: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "sub_ and div_": (_normalise, lambda x: (x - 0.5) / 0.25),
    "-= and *=": (_augmented, lambda x: (x - 0.5) * 4.0),
    "assignment": (_first_channel, _kept),
    "clamp_": (lambda x: x.clamp_(0.2, 0.6), lambda x: x.clamp(0.2, 0.6)),
    "through a view": (_view, _tripled),
    "copy_": (_copied, lambda x: x.flip(-1)),
    "its own mean": (_own_mean, lambda x: x - x.flatten(1).mean(1).view(-1, *[1] * (x.dim() - 1))),
    "data": (_data, lambda x: x + 1.0),
    "relu_": (lambda x: F.relu_(x.sub_(0.5)), lambda x: F.relu(x - 0.5)),
}


def pair(name: str, shape: tuple[int, ...]) -> tuple[Prepared, Prepared]:
    net = network(shape)
    return Prepared(net, IN_PLACE[name][0]).eval(), Prepared(net, IN_PLACE[name][1]).eval()


def batches(shape: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    x = torch.rand(12, *shape, generator=torch.Generator().manual_seed(0))
    y = torch.arange(12) % 3
    return [(x[:7].clone(), y[:7]), (x[7:].clone(), y[7:])]


def _numbers(found: Any) -> list[Any]:
    """Return the arrays of a result."""
    if isinstance(found, Tensor | np.ndarray | float):
        return [np.asarray(found)]
    if isinstance(found, list | tuple):
        return [n for part in found for n in _numbers(part)]
    return _numbers(list(vars(found).values())) if hasattr(found, "__dict__") else []


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", IN_PLACE)
def test_scores_and_ablation_of_a_network_that_works_in_place_are_those_of_one_that_does_not(
    name: str, shape: tuple[int, ...]
) -> None:
    results = []
    for model in pair(name, shape):
        loader = batches(shape)
        table = collect_scores(model, loader, progress=False)
        again = collect_scores(model, loader, progress=False)
        assert np.array_equal(table.X, again.X)
        found = interpret(table, mu=3.0)
        study = ablation_study(model, loader, found, fill="mean", repeats=1, curve=False, single=False, progress=False)
        for (images, _), (fresh, _) in zip(loader, batches(shape), strict=True):
            assert torch.equal(images, fresh), "the loader's own images changed"
        results.append((table.X, table.predictions, study.intact, study.conditions[0].own))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


USES: dict[str, Callable[[nn.Module, Tensor, Any], Any]] = {
    "explain": lambda model, x, found: explain(model, x, found, k=2, variant="paper"),
    "channel_heatmap": lambda model, x, found: channel_heatmap(model, x, Channel("net.1", 1)),
    "channel_signal": lambda model, x, found: channel_signal(model, x, Channel("net.1", 1)).signals,
    "activation_maps": lambda model, x, found: activation_maps(model, x, "net.1"),
    "embed": lambda model, x, found: embed(model, [(x, torch.zeros(len(x), dtype=torch.long))], progress=False).vectors,
    "filters": lambda model, x, found: [f.weights for f in filters(model, x).values()],
    "find_sites": lambda model, x, found: float(find_sites(model, x)["net.4"].channels),
    "forward": lambda model, x, found: forward(model, x).detach(),
    "accuracy": lambda model, x, found: accuracy(model, [(x, torch.arange(len(x)) % 3)]),
    "average_visualization": lambda model, x, found: average_visualization(
        model, [(image, 0) for image in x], _table(model, x), Channel("net.1", 1), top=3, progress=False
    ).indices.astype(float),
}


def _table(model: nn.Module, x: Tensor) -> Any:
    return collect_scores(model, [(x, torch.zeros(len(x), dtype=torch.long))], progress=False)


@pytest.mark.parametrize("shape", [SHAPES["colour"], SHAPES["grey"]], ids=["colour", "grey"])
@pytest.mark.parametrize("name", ["sub_ and div_", "through a view", "assignment", "relu_"])
@pytest.mark.parametrize("use", USES)
def test_every_use_leaves_the_callers_images_alone_and_is_right(use: str, name: str, shape: tuple[int, ...]) -> None:
    results = []
    for model in pair(name, shape):
        with torch.no_grad():
            found = interpret(collect_scores(model, batches(shape), progress=False), mu=3.0)
            x = torch.cat([images for images, _ in batches(shape)])
        given = x.clone()
        results.append(_numbers(USES[use](model, x, found)))
        assert torch.equal(given, x)
    assert results[0]
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# The box of pixels of these two does not hold for an image that the network normalises itself; they refuse it.
BOXED = {"lrp_zbox", "deep_taylor"}


@pytest.mark.parametrize("method", [m.name for m in methods() if m.name not in BOXED])
def test_every_attribution_method_leaves_the_callers_images_alone(method: str) -> None:
    shape = (1, 8, 8)
    maps = []
    for model in pair("sub_ and div_", shape):
        x = batches(shape)[0][0][:2]
        given = x.clone()
        maps.append(attribute(model, x, 0, method))
        assert torch.equal(given, x)
    torch.testing.assert_close(*maps, rtol=1e-4, atol=1e-5)


def test_images_of_any_origin_may_be_overwritten_by_the_network() -> None:
    inside, outside = pair("sub_ and div_", SHAPES["grey"])
    x = torch.rand(4, 1, 8, 8)
    with torch.inference_mode():
        inference = x.clone()
    shared = torch.from_numpy(x.numpy().copy())
    given = [x, x.clone().requires_grad_(), inference, shared, x.expand(4, 1, 8, 8), x.flip(-1).flip(-1)]
    expected = channel_heatmap(outside, x, Channel("net.1", 1))
    for images in given:
        assert torch.equal(channel_heatmap(inside, images, Channel("net.1", 1)), expected)
        labels = torch.zeros(4, dtype=torch.long)
        assert len(collect_scores(inside, [(images, labels)], progress=False).X) == 4
        assert torch.equal(images.detach(), x)


class Broken(nn.Module):
    """A network whose own code raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        self.conv(x)
        raise self.error


ERRORS = [
    RuntimeError("two\nlines"),
    ValueError("bad"),
    TypeError("kind"),
    IndexError("far"),
    AttributeError("none"),
    ZeroDivisionError("zero"),
    KeyError("key"),
    AssertionError(),
    NotImplementedError("later"),
    OSError("file"),
    StopIteration(),
    RecursionError("deep"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_errors_of_the_networks_own_code_are_one_line_with_file_and_line(error: Exception) -> None:
    model = Broken(error)
    line = Broken.forward.__code__.co_firstlineno + 2
    images = torch.rand(2, 3, 4, 4)
    expected = rf"shape \(2, 3, 4, 4\), torch.float32: {type(error).__name__}.*test_forward.py', line {line}\)"
    for run in (
        lambda: find_sites(model, images),
        lambda: collect_scores(model, [(images, torch.zeros(2, dtype=torch.long))], progress=False),
        lambda: channel_heatmap(model, images, Channel("conv", 0)),
        lambda: attribute(model.eval(), images, 0, "gradient"),
    ):
        with pytest.raises(RunError, match=expected) as caught:
            run()
        assert caught.value.__cause__ is error
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), torch.OutOfMemoryError(), DataError("ours")])
def test_interruptions_memory_and_our_own_errors_pass_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        find_sites(Broken(error), torch.rand(2, 3, 4, 4))  # type: ignore[arg-type]
    assert caught.value is error


def test_an_output_function_that_fails_is_named() -> None:
    with pytest.raises(ModelError, match=r"output= failed on what the model returns, a dict: KeyError: 'logit'"):
        logits_of({"logits": torch.zeros(1, 2)}, 1, lambda y: y["logit"])
    with pytest.raises(ModelError, match=r"type torch.int64; expected floating-point logits"):
        logits_of(torch.zeros(1, 2, dtype=torch.long), 1, None)


@pytest.mark.parametrize("case", ["channels", "size"])
def test_images_of_another_shape_are_one_line_at_every_entry(case: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)).eval()
    right = torch.rand(4, 3, 8, 8)
    labels = torch.tensor([0, 1, 0, 1])
    found = interpret(collect_scores(model, [(right, labels)], progress=False), mu=3.0)
    trace = find_sites(model, right)
    images = {"channels": torch.rand(4, 1, 8, 8), "size": torch.rand(4, 3, 9, 9)}[case]
    where = {"channels": "layer '0', a Conv2d that takes 3 channels", "size": "layer '3', a Linear that takes 72"}[case]
    for run in (
        lambda: find_sites(model, images),
        lambda: collect_scores(model, [(images, labels)], progress=False),
        lambda: ablation_study(model, [(images, labels)], found, progress=False),
        lambda: explain(model, images, found, variant="paper"),
        lambda: explain(model, images, found, trace=trace, variant="paper"),
        lambda: channel_heatmap(model, images, Channel("1", 0)),
        lambda: attribute(model, images, 0, "gradient"),
        lambda: activation_maps(model, images, "1", trace=trace),
        lambda: forward(model, images),
        # The first batch fits and a later one does not.
        lambda: collect_scores(model, [(right, labels), (images, labels)], progress=False),
    ):
        with pytest.raises(RunError, match=where):
            run()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_any_type_take_images_of_any_type(dtype: torch.dtype) -> None:
    shape = SHAPES["colour"]
    wide = network(shape)
    loader = batches(shape)
    expected = collect_scores(wide, loader, progress=False)
    found = interpret(expected, mu=3.0)
    model = network(shape).to(dtype)
    table = collect_scores(model, loader, progress=False)
    assert table.X.dtype == np.float32
    np.testing.assert_allclose(table.X, expected.X, atol=4 * torch.finfo(dtype).eps + 1e-6)
    for images in (loader[0][0].half(), loader[0][0].double()):
        heatmaps = explain(model, images, found, k=1, variant="paper").heatmaps
        assert torch.isfinite(heatmaps).all()
        assert forward_logits(model, images).dtype == max(torch.float32, dtype, key=lambda d: d.itemsize)
    study = ablation_study(model, loader, found, repeats=1, curve=False, single=False, progress=False)
    assert np.isfinite(study.intact).all()
    # A float32 network takes them too.
    assert len(collect_scores(wide, [(x.to(dtype), y) for x, y in loader], progress=False).X) == 12


def test_a_network_that_converts_its_images_itself_gets_them_as_they_are() -> None:
    seen = []

    def prepare(x: Tensor) -> Tensor:
        seen.append(x.dtype)
        return ((x - 0.5) / 0.25).half()

    model = Prepared(network(SHAPES["colour"]).half(), prepare).eval()
    collect_scores(model, batches(SHAPES["colour"]), progress=False)
    assert set(seen) == {torch.float32}


def test_images_that_hold_nothing_to_look_at_are_refused() -> None:
    for images, said in (
        (torch.zeros(2, 3, 4, 4).to_sparse(), "sparse_coo"),
        (torch.zeros(2, 3, 4, 4, device="meta"), "on meta"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.complex64), "complex64"),
        (torch.zeros(2, 3, 0, 4), "at least one image"),
        (np.zeros((2, 3, 4, 4)), "a ndarray came"),
        ("images", "a str came"),
        (None, "a NoneType came"),
    ):
        with pytest.raises(DataError, match=said):
            check_images(images)  # type: ignore[arg-type]
    assert issubclass(RunError, InterpNetError)
