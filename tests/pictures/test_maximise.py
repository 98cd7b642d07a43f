"""Activation maximisation: closed forms, its regularisation, determinism, any site, and a model left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import SPELLINGS, Spelled
from torch import nn

from interpnet.engine import Channel, OneColumn, find_sites
from interpnet.errors import InterpNetError, LayerError, ModelError
from interpnet.pictures import maximise
from interpnet.pictures._spectrum import Spectrum, moved


class Mean(nn.Module):
    """The mean over positions."""

    def forward(self, x):
        return x.mean(2)


def linear(weights: list[list[float]]) -> nn.Module:
    table = torch.tensor(weights)
    model = nn.Sequential(nn.Flatten(), nn.Linear(table.shape[1], len(weights), bias=False))
    model[1].weight.data = table
    return model


def test_a_linear_output_wants_white_where_it_differs_from_the_others() -> None:
    """Softmax knows the difference to the other outputs alone: here (3, -2, -0.5, -4) and its opposite."""
    model = linear([[2.0, -1.0, 0.5, -3.0], [-1.0, 1.0, 1.0, 1.0]])
    made = maximise(model, [0, 1], (1, 2, 2), steps=200, l2=0, jitter=0)
    np.testing.assert_allclose(made.pictures.reshape(2, 4), [[1, 0, 0, 0], [0, 1, 1, 1]], atol=0.05)
    np.testing.assert_allclose(
        made.activations, (made.pictures.reshape(2, 4) * model[1].weight.detach().numpy()).sum(1)
    )
    logits = made.pictures.reshape(2, 4) @ model[1].weight.detach().numpy().T
    np.testing.assert_allclose(made.reached, [logits[0, 0] - logits[0, 1], logits[1, 1] - logits[1, 0]], rtol=1e-6)
    assert (made.activations > made.start).all()
    assert not made.silent.any()


def test_l2_takes_a_share_of_each_step_back() -> None:
    """With one pixel and a constant gradient each step is the same: c = (1 - l2) (c + 2^(1/4) step / slope).

    Of the two coefficients one has no gradient, so that of a root mean square of 1 the other's is sqrt(2); over the
    fourth root of its square that is 2^(1/4).
    """
    made = maximise(linear([[2.0]]), [0], (1, 1, 1), steps=20, step=0.01, l2=0.1, seed=3, output=OneColumn())
    c = 0.1 * 4 * float(torch.randn(2, generator=torch.Generator().manual_seed(3))[0])
    for _ in range(20):
        c = 0.9 * (c + 2**0.25 * 0.01 * 4)
    # One wave, scaled so that its real and imaginary part together would change the logit by 1.
    np.testing.assert_allclose(made.pictures.ravel(), 1 / (1 + np.exp(-np.sqrt(0.5) * c)), rtol=1e-4)


def test_the_start_and_one_step_by_hand() -> None:
    """Two pixels in a row: the waves are their mean and their difference."""
    noise = torch.randn((1, 1, 2, 2), generator=torch.Generator().manual_seed(5), dtype=torch.float32).numpy()
    start = 0.1 / 0.25 * noise[0, 0, :, 0].astype(np.float64)
    w = np.array([3.0, -4.0])
    # Frequencies 0 and 1/2: both count as the wave that is as long as the picture, with a period of 2.
    scale = 2 * 2 / np.sqrt(2 * (4 + 4))
    mix = np.array([[1.0, 1.0], [1.0, -1.0]]) * scale / 2

    def pixels(c):
        return 1 / (1 + np.exp(-mix @ c))

    options = {"mean": 0.1, "std": 2.0, "step": 0.01, "l2": 0.1, "seed": 5, "output": OneColumn()}
    made = maximise(linear([w.tolist()]), [0], (1, 1, 2), steps=1, **options)
    p = pixels(start)
    gradient = mix.T @ (w * p * (1 - p))
    # Two more coefficients, the imaginary parts, have no gradient.
    usual = gradient / np.sqrt(np.square(gradient).sum() / 4)
    expected = pixels(0.9 * (start + 0.01 / 0.25 * usual / np.sqrt(np.abs(usual))))
    np.testing.assert_allclose(made.pictures[0, 0, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(made.start, w @ ((p - 0.1) / 2), rtol=1e-4)
    assert made.steps.tolist() == [1]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_five_spellings_of_a_network_give_the_same_picture(spelling) -> None:
    made = {}
    for name in ("module", spelling):
        model = Spelled(name).eval()
        trace = find_sites(model, torch.zeros(1, 3, 9, 7))
        sites = trace.select()
        made[name] = maximise(model, [Channel(sites[1].name, 3), 2], (3, 9, 7), steps=12, trace=trace)
    np.testing.assert_allclose(made[spelling].pictures, made["module"].pictures, atol=1e-4)
    assert (made[spelling].activations > made[spelling].start).all()


def test_a_rectifier_is_raised_before_it_so_a_silent_channel_wakes() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4, 2))
    model[0].weight.data.fill_(1.0)
    model[0].bias.data.fill_(-0.9)
    made = maximise(model, [Channel("1", 0)], (1, 2, 2), steps=200, l2=0, jitter=0)
    np.testing.assert_allclose(made.pictures, 1, atol=0.02)
    np.testing.assert_allclose(made.activations, made.pictures.mean() - 0.9, rtol=1e-5)
    np.testing.assert_allclose(made.reached, made.pictures.max() - 0.9, rtol=1e-5)
    assert made.start[0] == 0


@pytest.mark.parametrize("inplace", [False, True])
def test_a_unit_behind_silent_rectifiers_wakes(inplace: bool) -> None:
    """Both rectifiers are silent at every grey picture, so no gradient comes through them."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace), nn.Conv2d(1, 1, 1), nn.ReLU(inplace), nn.Flatten())
    model.append(nn.Linear(4, 2))
    for conv, bias in ((model[0], -0.8), (model[2], -0.05)):
        conv.weight.data.fill_(1.0)
        conv.bias.data.fill_(bias)
    made = maximise(model, [Channel("3", 0), 0], (1, 2, 2), steps=150, jitter=0)
    assert made.start[0] == 0
    assert made.activations[0] > 0.03
    assert not made.silent.any()


def test_a_unit_without_gradient_is_said_to_be_silent() -> None:
    model = nn.Sequential(*linear([[0.0, 0.0], [1.0, 0.0]]), nn.ReLU(), nn.Linear(2, 2))
    made = maximise(model, [Channel("2", 0), Channel("2", 1)], (1, 1, 2), steps=3)
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


def test_devices_agree(device: str) -> None:
    model = Spelled("module").eval()
    options = {"steps": 4, "jitter": 1}
    here = maximise(model, [Channel("r2", 1), 2], (3, 9, 7), **options)
    there = maximise(model.to(device), [Channel("r2", 1), 2], (3, 9, 7), **options)
    np.testing.assert_allclose(there.pictures, here.pictures, atol=1e-3)
    np.testing.assert_allclose(there.reached, here.reached, rtol=1e-3, atol=1e-3)


def test_every_kind_of_site_can_be_raised() -> None:
    model = Spelled("module").eval()
    trace = find_sites(model, torch.zeros(1, 3, 9, 7))
    targets = [Channel(s.name, s.channels - 1) for s in trace.sites if s.usable]
    assert {trace[t.layer].kind for t in targets} >= {"conv", "norm", "rectifier", "linear", "pool", "add"}
    made = maximise(model, targets, (3, 9, 7), steps=8, trace=trace)
    assert np.isfinite(made.pictures).all()
    # Not the mean: of a map without a rectifier negative values count a tenth of positive ones.
    begun = maximise(model, targets, (3, 9, 7), steps=1, trace=trace)
    assert (made.reached > begun.reached)[~made.silent].all()


def test_a_channel_needs_no_picture_of_the_networks_own_size() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 100, 2))
    trace = find_sites(model, torch.zeros(1, 1, 12, 12))
    assert maximise(model, [Channel("1", 1)], (1, 5, 6), steps=2, trace=trace).pictures.shape == (1, 1, 5, 6)
    with pytest.raises(ModelError, match="shapes cannot be multiplied"):
        maximise(model, [0], (1, 5, 6), steps=2, trace=trace)


def test_an_edge_is_raised_by_stripes_not_by_the_rim() -> None:
    """Rising and falling edges cancel in the plain mean, which leaves the rim, where the padding is the edge."""
    model = nn.Sequential(
        nn.Conv2d(1, 1, (1, 2), padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(34 * 33, 2)
    )
    model[0].weight.data = torch.tensor([[[[-1.0, 1.0]]]])
    made = maximise(model, [Channel("1", 0)], (1, 32, 32), steps=40)
    inner = np.diff(made.pictures[0, 0, :, 4:-4].astype(np.float64), axis=1)
    assert np.clip(inner, 0, None).mean() > 0.15


@pytest.mark.parametrize("size", [(40,), (30, 30), (6, 7, 8)])
def test_signals_images_and_volumes_are_raised(size) -> None:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(size) - 1](2, 3, 3)
    conv.bias.data.fill_(0.5)
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(2), Mean(), nn.Linear(3, 2))
    trace = find_sites(model, torch.zeros(1, 2, *size))
    made = maximise(model, [Channel("1", 2), 0], (2, *size), steps=10, trace=trace)
    assert made.pictures.shape == (2, 2, *size)
    assert made.reached[0] > made.start[0]


def test_blur_and_l2_hold_high_frequencies_and_contrast_down() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def rough(**options) -> float:
        picture = maximise(model, [0], (1, 24, 24), steps=20, **options).pictures[0, 0].astype(np.float64)
        return float(np.square(np.diff(picture, axis=0)).mean() + np.square(np.diff(picture, axis=1)).mean())

    assert rough(blur=1.5, jitter=2) < 0.8 * rough(blur=0, jitter=2)
    free = maximise(model, [0], (1, 24, 24), steps=20, l2=0).pictures
    held = maximise(model, [0], (1, 24, 24), steps=20, l2=0.2).pictures
    assert np.square(held - 0.5).mean() < 0.5 * np.square(free - 0.5).mean()


def test_a_picture_that_no_longer_rises_is_finished_and_the_others_go_on() -> None:
    """The first unit is linear in one pixel and soon at its end, the second needs a picture that is far away."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2))
    model[1].weight.data = torch.tensor([[40.0, 0.0], [2.0, -2.0]])
    model[1].bias.data = torch.tensor([-10.0, -3.0])
    trace = find_sites(model, torch.zeros(1, 1, 1, 2))
    made = maximise(model, [Channel("2", 0), Channel("2", 1)], (1, 1, 2), steps=100, trace=trace, l2=0)
    assert made.steps[0] < 50
    assert made.steps[0] < made.steps[1]
    alone = maximise(model, [Channel("2", 0)], (1, 1, 2), steps=100, trace=trace, l2=0)
    np.testing.assert_allclose(alone.pictures[0], made.pictures[0], atol=1e-6)


# --- waves ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 7), (3, 6, 9), (2, 4, 5, 6), (3, 1, 2), (1, 1, 1)])
def test_steps_in_all_waves_change_logits_by_one(size) -> None:
    waves = Spectrum(size)
    signs = torch.randn(400, *waves.shape, generator=torch.Generator().manual_seed(0)).sign()
    changes = torch.logit(waves.pictures(1e-3 * signs).double()) / 1e-3
    # The imaginary part of a wave that is its own twin changes nothing, which small pictures notice.
    expected = {(1, 1, 1): 0.5**0.5, (3, 1, 2): 0.5**0.5}.get(size, 1.0)
    assert float(changes.square().mean().sqrt()) == pytest.approx(expected, rel=0.12)


def test_waves_are_those_of_an_independent_transform() -> None:
    waves = Spectrum((1, 6, 5))
    c = torch.randn(1, *waves.shape, generator=torch.Generator().manual_seed(0))
    rows = np.fft.fftfreq(6)[:, None]
    columns = np.fft.rfftfreq(5)[None]
    scale = 1 / np.maximum(np.hypot(rows, columns), 1 / 6)
    full = np.fft.irfft2(
        np.asarray(c[0, 0, ..., 0], np.float64) * scale + 1j * np.asarray(c[0, 0, ..., 1]) * scale, (6, 5)
    )
    got = torch.logit(waves.pictures(c).double())[0, 0].numpy()
    ratio = got / full
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


def test_blur_of_waves_is_scipys_gaussian_of_the_logits() -> None:
    from scipy.ndimage import gaussian_filter

    waves = Spectrum((1, 16, 20))
    c = torch.randn(1, *waves.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    sharp = torch.logit(waves.pictures(c).double())[0, 0].numpy()
    soft = torch.logit(waves.pictures(c * waves.blur(1.5)).double())[0, 0].numpy()
    np.testing.assert_allclose(soft, gaussian_filter(sharp, 1.5, mode="wrap", truncate=6), atol=1e-5)


def test_colours_vary_as_in_photographs() -> None:
    waves = Spectrum((3, 16, 16))
    c = torch.randn(50, *waves.shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    colours = torch.logit(waves.pictures(c).double()).movedim(1, 0).flatten(1).numpy()
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(colours))[::-1])
    np.testing.assert_allclose(spread / spread[0], [1, 0.33, 0.12], rtol=0.03)


def test_a_picture_is_turned_and_enlarged_about_its_middle() -> None:
    picture = torch.zeros(1, 1, 41, 61)
    picture[0, 0, 20, 40] = 1
    quarter = moved(picture, [0, 0], np.pi / 2, 1.0)[0, 0]
    assert divmod(int(quarter.argmax()), 61) in {(30, 30), (10, 30)}, "10 pixels from the middle, up or down"
    larger = moved(picture, [0, 0], 0.0, 2.0)[0, 0]
    assert divmod(int(larger.argmax()), 61) == (20, 50)
    shifted = moved(picture, [3, -45], 0.0, 1.0)[0, 0]
    assert divmod(int(shifted.argmax()), 61) == (23, 56), "periodic"


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

    model = Keyword()
    model.conv.bias.data.fill_(1.0)
    made = maximise(model, [Channel("relu", 0)], (1, 2, 2), steps=4)
    assert made.activations[0] > made.start[0]
