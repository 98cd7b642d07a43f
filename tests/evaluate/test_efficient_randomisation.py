"""Efficient parameter randomisation: by hand, from its definition, and against Quantus."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.attribution import attribute
from interpnet.errors import DataError, InterpNetError
from interpnet.evaluate import efficient_randomisation, randomised

IMAGES = torch.rand(4, 1, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(60, 2)).double().eval()


def given(*maps: Tensor) -> Any:
    """A function that returns one batch of maps at each call."""
    rest = list(maps)
    return lambda m, x: rest.pop(0)


def naive_entropy(values: list[float], bins: int) -> float:
    """Bin by bin: which values are at least its lower edge and below its upper one; the largest is in the last."""
    low, high = min(values), max(values)
    edges = [low + i * (high - low) / bins for i in range(bins)] + [math.inf]
    counts = [sum(edges[i] <= v < edges[i + 1] for v in values) for i in range(bins)]
    return -math.fsum(c / len(values) * math.log(c / len(values)) for c in counts if c)


def test_by_hand() -> None:
    # Two bins: 0, 1, 1 below 2 and 4 above; then 0, 1 below 1.5 and 2, 3 above.
    before = torch.tensor([[[0.0, 1.0], [1.0, 4.0]]])
    after = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    found = efficient_randomisation(network(), IMAGES[:1], given(before, after), bins=2)
    h = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.curve[0].tolist() == pytest.approx([h, math.log(2)], rel=1e-15)
    assert found.values.item() == pytest.approx((math.log(2) - h) / h, rel=1e-14)
    assert (found.direction, found.range) == ("higher is better", (-1.0, math.inf))
    # A value on an edge is in the bin above it.
    on_edge = torch.tensor([[[0.0, 2.0], [4.0, 4.0]]])
    assert efficient_randomisation(network(), IMAGES[:1], given(on_edge, on_edge), bins=2).curve[0, 0].item() == (
        pytest.approx(h, rel=1e-15)
    )


@pytest.mark.parametrize("bins", [2, 7, 100])
def test_against_the_definition(bins: int) -> None:
    before, after = torch.randn(2, 4, 6, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    before[1] *= 1e-30
    before[2] = before[2].clamp(min=0)
    found = efficient_randomisation(network(), IMAGES, given(before, after), bins=bins)
    for i in range(4):
        a, b = (naive_entropy(m[i].flatten().tolist(), bins) for m in (before, after))
        np.testing.assert_allclose(found.curve[i].tolist(), [a, b], rtol=1e-12)
        assert found.values[i].item() == pytest.approx((b - a) / a, rel=1e-12)


def test_the_random_network_is_the_copy_of_randomised() -> None:
    model = network()
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    seen: list[nn.Module] = []

    def explain(m: nn.Module, x: Tensor) -> Tensor:
        seen.append(m)
        return attribute(m, x, 0, "gradient_x_input")

    found = efficient_randomisation(model, IMAGES, explain, how="normal", seed=3)
    assert seen[0] is model
    other = randomised(model, IMAGES, how="normal", seed=3)
    assert torch.equal(seen[1](IMAGES), other(IMAGES))
    assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())
    again = efficient_randomisation(model, IMAGES, explain, how="normal", seed=3)
    assert torch.equal(found.values, again.values)
    assert not torch.equal(efficient_randomisation(model, IMAGES, explain, seed=4).values, found.values)


def test_a_map_that_does_not_read_the_weights_does_not_rise() -> None:
    for method in ("edge", "random", "center"):
        found = efficient_randomisation(network(), IMAGES, lambda m, x, method=method: attribute(m, x, 0, method))
        assert found.values.tolist() == [0.0] * 4


def test_constant_maps() -> None:
    some, flat = IMAGES[:, 0], torch.ones(4, 6, 7)
    with pytest.raises(DataError, match="maps of the network as it is: the map of images 0, 1, 2, 3 is constant"):
        efficient_randomisation(network(), IMAGES, given(flat, some))
    found = efficient_randomisation(network(), IMAGES, given(flat, some), constant="zero")
    assert found.values.tolist() == [math.inf] * 4
    assert found.flagged.all()
    assert efficient_randomisation(network(), IMAGES, given(flat, flat), constant="zero").values.tolist() == [0.0] * 4
    # A random network with a constant map is a finding: all order is gone from what had some.
    lost = efficient_randomisation(network(), IMAGES, given(some, flat))
    assert lost.values.tolist() == [-1.0] * 4
    assert not lost.flagged.any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"explain": lambda m, x: None}, DataError, "explain returned a NoneType for the network as it is"),
        ({"explain": lambda m, x: x[:, 0] / 0}, DataError, "maps of the network as it is: NaN or infinity in images 0"),
        ({"bins": 1}, InterpNetError, "bins is 1; expected a whole number of at least 2"),
        ({"how": "zeros"}, InterpNetError, "how is 'zeros'; expected 'permute' or 'normal'"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        efficient_randomisation(**{"model": network(), "images": IMAGES, "explain": lambda m, x: x[:, 0], **change})


def test_quantus_agrees() -> None:
    quantus = pytest.importorskip("quantus", reason="quantus is not installed")
    before, after = torch.randn(2, 4, 6, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    model = network().float()  # Quantus hands float32 on
    weights = model[3].weight.detach().clone()

    def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_more: Any) -> np.ndarray:
        del inputs, targets
        as_it_is = torch.equal(model[3].weight.detach().cpu(), weights)
        return (before if as_it_is else after)[:, None].numpy()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = quantus.EfficientMPRT(
            complexity_func_kwargs={"n_bins": 30}, disable_warnings=True, display_progressbar=False
        )(
            model=model,
            x_batch=IMAGES.numpy(),
            y_batch=np.zeros(4, dtype=int),
            a_batch=before[:, None].numpy(),
            explain_func=explain,
            channel_first=True,
            softmax=True,
        )
    found = efficient_randomisation(network(), IMAGES, given(before, after), bins=30)
    np.testing.assert_allclose(found.values.numpy(), theirs, rtol=1e-6)


def test_on_every_device(device: str) -> None:
    before, after = torch.randn(2, 4, 6, 7, generator=torch.Generator().manual_seed(2))
    expected = efficient_randomisation(network(), IMAGES, given(before, after))
    found = efficient_randomisation(network().to(device), IMAGES, given(before.to(device), after.to(device)))
    assert found.values.device.type == device
    torch.testing.assert_close(found.values.cpu(), expected.values)
