"""Activation maximisation: closed forms, its regularisation, determinism, any site, and a model left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import SPELLINGS, Spelled
from torch import nn

from interpnet.engine import Channel, find_sites
from interpnet.errors import InterpNetError, LayerError, ModelError
from interpnet.pictures import maximise
from interpnet.pictures._maximise import gaussian_blur

PLAIN = {"jitter": 0, "blur": 0}


def linear(weights: list[list[float]]) -> nn.Module:
    table = torch.tensor(weights)
    model = nn.Sequential(nn.Flatten(), nn.Linear(table.shape[1], len(weights), bias=False))
    model[1].weight.data = table
    return model


def test_a_linear_output_wants_white_where_its_weight_is_positive() -> None:
    model = linear([[2.0, -1.0, 0.5, -3.0], [-1.0, 1.0, 1.0, 1.0]])
    made = maximise(model, [0, 1], (1, 2, 2), steps=256, l2=0, **PLAIN)
    np.testing.assert_array_equal(made.pictures.reshape(2, 4), [[1, 0, 1, 0], [0, 1, 1, 1]])
    np.testing.assert_allclose(made.activations, [2.5, 3.0], rtol=1e-6)
    assert (made.activations > made.start).all()
    assert not made.silent.any()


def test_l2_balances_the_gradient_at_the_closed_form() -> None:
    """At the fixed point step * w / rms(w) = l2 * (p - 1/2)."""
    w = np.array([1.0, -2.0, 0.5, 0.25])
    made = maximise(linear([w.tolist()]), [0], (1, 2, 2), steps=400, step=0.002, l2=0.02, **PLAIN)
    expected = 0.5 + 0.002 / 0.02 * w / np.sqrt(np.mean(w**2))
    np.testing.assert_allclose(made.pictures.ravel(), expected, atol=2e-4)


def test_one_step_by_hand() -> None:
    w = torch.tensor([[3.0, -4.0]])
    noise = torch.randn((1, 1, 2), generator=torch.Generator().manual_seed(5))
    start = (0.5 + 0.05 * noise).clamp(0, 1)
    made = maximise(linear(w.tolist()), [0], (1, 1, 2), mean=0.1, std=2.0, steps=1, step=0.01, l2=0.1, seed=5, **PLAIN)
    direction = w.view(1, 1, 2) / np.sqrt(12.5)  # the division by std falls out of the normalised gradient
    expected = (start + 0.01 * direction - 0.1 * (start - 0.5)).clamp(0, 1)
    np.testing.assert_allclose(made.pictures[0], expected, rtol=1e-5)
    np.testing.assert_allclose(made.start, ((start - 0.1) / 2.0).flatten() @ w[0], rtol=1e-5)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_five_spellings_of_a_network_give_the_same_picture(spelling) -> None:
    made = {}
    for name in ("module", spelling):
        model = Spelled(name).eval()
        trace = find_sites(model, torch.zeros(1, 3, 9, 7))
        sites = trace.select()
        made[name] = maximise(model, [Channel(sites[1].name, 3), 2], (3, 9, 7), steps=12, trace=trace)
    np.testing.assert_allclose(made[spelling].pictures, made["module"].pictures, atol=1e-5)
    assert (made[spelling].activations > made[spelling].start).all()


def test_a_rectifier_is_raised_before_it_so_a_silent_channel_wakes() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4, 2))
    model[0].weight.data.fill_(1.0)
    model[0].bias.data.fill_(-0.9)
    made = maximise(model, [Channel("1", 0)], (1, 2, 2), l2=0, **PLAIN)
    np.testing.assert_array_equal(made.pictures, np.ones((1, 1, 2, 2)))
    np.testing.assert_allclose(made.activations, 0.1, rtol=1e-5)
    assert made.start[0] < -0.3


def test_a_unit_without_gradient_is_said_to_be_silent() -> None:
    made = maximise(linear([[0.0, 0.0], [1.0, 0.0]]), [0, 1], (1, 1, 2), steps=3)
    assert made.silent.tolist() == [True, False]


def test_a_picture_depends_on_seed_and_unit_alone() -> None:
    model = Spelled("module").eval()
    options = {"steps": 10, "seed": 3, "jitter": 1, "blur": 0.5}
    together = maximise(model, [0, Channel("r2", 1), 1, 3], (3, 9, 7), **options)
    again = maximise(model, [0, Channel("r2", 1), 1, 3], (3, 9, 7), **options)
    np.testing.assert_array_equal(together.pictures, again.pictures)
    alone = maximise(model, [3], (3, 9, 7), **options)
    np.testing.assert_allclose(together.pictures[3], alone.pictures[0], atol=1e-5)
    one_by_one = maximise(model, [0, 1, 3], (3, 9, 7), max_batch=1, **options)
    np.testing.assert_allclose(together.pictures[[0, 2, 3]], one_by_one.pictures, atol=1e-5)
    other = maximise(model, [3], (3, 9, 7), **{**options, "seed": 4})
    assert np.abs(other.pictures - alone.pictures).max() > 0.01


def test_every_kind_of_site_can_be_raised() -> None:
    model = Spelled("module").eval()
    trace = find_sites(model, torch.zeros(1, 3, 9, 7))
    targets = [Channel(s.name, s.channels - 1) for s in trace.sites if s.usable]
    assert {trace[t.layer].kind for t in targets} >= {"conv", "norm", "rectifier", "linear", "pool", "add"}
    made = maximise(model, targets, (3, 9, 7), steps=8, trace=trace)
    assert np.isfinite(made.pictures).all()
    assert (made.activations >= made.start)[~made.silent].all()


def test_a_channel_needs_no_picture_of_the_networks_own_size() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 100, 2))
    trace = find_sites(model, torch.zeros(1, 1, 12, 12))
    assert maximise(model, [Channel("1", 1)], (1, 5, 6), steps=2, trace=trace).pictures.shape == (1, 1, 5, 6)
    with pytest.raises(ModelError, match="shapes cannot be multiplied"):
        maximise(model, [0], (1, 5, 6), steps=2, trace=trace)


def test_blur_and_l2_hold_high_frequencies_and_contrast_down() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def rough(**options) -> float:
        picture = maximise(model, [0], (1, 24, 24), steps=40, **options).pictures[0, 0].astype(np.float64)
        return float(np.square(np.diff(picture, axis=0)).mean() + np.square(np.diff(picture, axis=1)).mean())

    assert rough(blur=1.5, jitter=2) < 0.8 * rough(blur=0, jitter=2)
    free = maximise(model, [0], (1, 24, 24), steps=40, l2=0, blur=0).pictures
    held = maximise(model, [0], (1, 24, 24), steps=40, l2=0.2, blur=0).pictures
    assert np.square(held - 0.5).mean() < 0.5 * np.square(free - 0.5).mean()


def test_blur_is_scipys_gaussian() -> None:
    from scipy.ndimage import gaussian_filter

    images = torch.rand(2, 3, 9, 7, dtype=torch.float64)
    expected = gaussian_filter(images.numpy(), (0, 0, 1.2, 1.2), mode="nearest", radius=(0, 0, 4, 4))
    np.testing.assert_allclose(gaussian_blur(images, 1.2).numpy(), expected, atol=1e-12)


def test_the_model_is_left_as_it_was_also_after_an_error() -> None:
    model = Spelled("module").train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    maximise(model, [0, Channel("r1", 0)], (3, 9, 7), steps=2)
    model.conv1.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinite"):
        maximise(model, [0], (3, 9, 7), steps=2)
    model.conv1.weight.data[0, 0, 0, 0] = before["conv1.weight"][0, 0, 0, 0]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("targets", "options", "error", "match"),
    [
        ([Channel("r9", 0)], {}, LayerError, "unknown layer 'r9'.* lists all 12"),
        ([Channel("r1", 6)], {}, LayerError, "channel 6 of layer 'r1' does not exist; expected 0 to 5"),
        ([4], {}, ModelError, "class 4 came; the model has outputs 0 to 3"),
        ([-1], {}, ModelError, "class -1 came"),
        ([0], {"steps": 0}, InterpNetError, "steps=0"),
        ([0], {"l2": 1.0}, InterpNetError, "l2=1.0"),
        ([0], {"jitter": -1}, InterpNetError, "jitter=-1"),
        ([0], {"mean": [0.1, 0.2]}, InterpNetError, "one for each of the 3 channels"),
        ([0], {"max_batch": 0}, InterpNetError, "max_batch=0"),
    ],
)
def test_bad_input(targets, options, error, match) -> None:
    with pytest.raises(error, match=match):
        maximise(Spelled("module").eval(), targets, (3, 9, 7), **options)


def test_the_relu_of_a_functional_network_is_found_by_keyword() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)
            self.fc = nn.Linear(2, 2)

        def forward(self, x):
            return self.fc(F.relu(input=self.conv(x)).mean((2, 3)))

    made = maximise(Keyword(), [Channel("relu", 0)], (1, 2, 2), steps=4)
    assert made.activations[0] > made.start[0]
