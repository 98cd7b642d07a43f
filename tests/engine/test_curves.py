"""What function an activation written by hand is: the word for it, at both sides of every bound."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.engine import Call, Instrument, instrument
from interpnet.engine import _curves as curves

Act = Callable[[Tensor], Tensor]
X = torch.linspace(-3, 3, 24).view(2, 3, 4)


def word(act: Act | nn.Module, x: Tensor = X) -> str:
    """Return the rectifier that the last call of ``act`` completes, else the word for its curve."""
    calls: list[Call] = []
    model = act
    if not isinstance(model, nn.Module):
        model = Step(model)
    with torch.no_grad(), instrument(model, Instrument(observe=lambda call, _: calls.append(call))):
        model(x.clone())
    if calls[-1].kind == "rectifier":
        return calls[-1].op
    return calls[-1].curve


def relu(x: Tensor) -> Tensor:
    return x * (x > 0)


def below(x: Tensor) -> Tensor:
    return 1 + torch.exp(-x)


def swish(x: Tensor, more: Tensor) -> Tensor:
    """Return swish(x) + more with no swish in it: what is made of an activation is judged otherwise."""
    return (x + more * below(x)) / below(x)


def bump(x: Tensor, place: float, height: float) -> Tensor:
    return height * torch.exp(-((x - place) ** 2))


# The kinks of relu6, hardswish, hardtanh and hardshrink lie between these.
PLACES = (0.0, 0.01, 0.25, 0.75, 1.5, 2.5, 3.5, 5.5, 6.5, 9.0, 20.0)


@pytest.mark.parametrize("place", sorted({*PLACES, *(-p for p in PLACES)}))
def test_a_change_of_a_straight_line_is_seen_at_every_place(place: float) -> None:
    assert word(lambda x: x + 3.0 * ((x - place).abs() < 0.004)) == "bent"


WORDS: dict[str, tuple[str, Act]] = {
    # Straight from -20 to 20.
    "bent only farther out": ("", lambda x: x.clamp(-20.5, 20.5) * 1.0),
    "straight after all": ("", lambda x: relu(x) - relu(-x)),
    "straight, of squares": ("", lambda x: (x + 1) ** 2 - x**2),
    "all but straight": ("", lambda x: x + 2.05e-5 * ((x - 1.5).abs() < 0.1)),
    "hardly bent": ("bent", lambda x: x + 2.15e-5 * ((x - 1.5).abs() < 0.1)),
    "a falling line": ("", lambda x: (x * x) / -x.abs() * torch.sign(x)),
    # Slopes of the leaky rectifier: between -1 and 1.
    "leaky 0.99": ("leaky_relu", lambda x: torch.where(x > 0, x, 0.99 * x)),
    "leaky -0.5": ("leaky_relu", lambda x: torch.where(x > 0, x, -0.5 * x)),
    "leaky -1.5": ("bent", lambda x: torch.where(x > 0, x, -1.5 * x)),
    "steeper on the left": ("bent", lambda x: torch.where(x > 0, x, 1.5 * x)),
    "absolute": ("bent", lambda x: torch.where(x > 0, x, -x)),
    "leaky, far out another": ("bent", lambda x: torch.where(x > 0, x, torch.where(x > -1, 0.3 * x, 0.1 * x))),
    "rectifier, one at zero": ("hinged", lambda x: (x + (x.abs() < 1e-3)) * (x > -5e-3)),
    # Caps.
    "capped at a half": ("relu6", lambda x: torch.min(relu(x), torch.tensor(0.5))),
    "capped at 19": ("relu6", lambda x: torch.min(relu(x), torch.tensor(19.0))),
    "capped, negative": ("bent", lambda x: torch.where(x > 0.5, -0.5, -x * (x > 0))),
    "leaky and capped": ("bent", lambda x: x.clamp(max=6) * (0.1 + 0.9 * (x > 0))),
    "capped, another slope": ("bent", lambda x: torch.where(x > 6, 3.0, 0.5 * x * (x > 0))),
    "capped, one at zero": ("bent", lambda x: (x.clamp(max=6) + 1.0 * (x.abs() < 1e-3)) * (x > -5e-3)),
    # Smooth rectifiers, and what misses one condition.
    "softplus": ("by_hand", lambda x: torch.log1p(torch.exp(x))),
    "not zero on the left": ("curved", lambda x: torch.log(torch.exp(x) + 1.6)),
    "not the identity on the right": (
        "curved",
        lambda x: torch.log((1 + torch.exp(x)) * torch.exp(0.5 / below(x))),
    ),
    "deep on the left": ("curved", lambda x: swish(x, -bump(x, -2.5, 1.5))),
    "high on the left": ("curved", lambda x: swish(x, bump(x, -5.5, 1.5))),
    "below zero right of it": ("curved", lambda x: swish(x, -bump(x, 0.0, 0.05))),
    "falling on the right": ("curved", lambda x: swish(x, -bump(x, 2.5, 2.2))),
    "level on the right": (
        "bent",
        lambda x: torch.where((x - 3).abs() < 1, 3 * below(x), x) / below(x),
    ),
    "low at zero": ("bent", lambda x: swish(x, -0.2 * (x.abs() < 1e-3))),
    "a little low at zero": ("by_hand", lambda x: swish(x, -0.05 * (x.abs() < 1e-3))),
    "high at zero": ("bent", lambda x: swish(x, 1.5 * (x.abs() < 1e-3))),
    "kept off zero": ("bent", lambda x: torch.where(x > 1e-6, x, 1e-6)),
    # The family of ELU.
    "elu, 1.5": ("by_hand", lambda x: torch.where(x > 0, x, 1.5 * (torch.exp(x) - 1))),
    "elu, 2.5": ("bent", lambda x: torch.where(x > 0, x, 2.5 * (torch.exp(x) - 1))),
    "elu, straight": ("by_hand", lambda x: torch.where(x > 0, x, torch.where(x > -3, x / 3, -1.0))),
    "elu, falling": ("bent", lambda x: torch.where(x > 0, x, -1 - x * torch.exp(x))),
    "elu, higher": ("hinged", lambda x: torch.where(x < 0, 0.5, x)),
    "elu, not zero at zero": ("bent", lambda x: torch.where(x > 0, x, torch.exp(x) - 1.5)),
    "elu, scaled": ("bent", lambda x: torch.where(x > 0, 1.05 * x, 1.05 * (torch.exp(x) - 1))),
    # Scaled and shifted rectifiers: level on the left, rising on the right.
    "doubled": ("hinged", lambda x: torch.where(x > 0, 2 * x, 0 * x)),
    "level only far out": ("hinged", lambda x: torch.where(x < -8, 0.0, x + 8)),
    "level nowhere": ("bent", lambda x: torch.where(x > 0, 2 * x, x)),
    "all but level": ("bent", lambda x: x + x.abs() + 1.5e-6 * (x < -15)),
    "level within rounding": ("hinged", lambda x: x + x.abs() + 5 + 3e-6 * (x < -15)),
    "level but for a little": ("bent", lambda x: x + x.abs() + 5 + 1e-5 * (x < -15)),
    "level, far below": ("hinged", lambda x: x + x.abs() - 5 + 3e-6 * (x < -15)),
    "level on both sides": ("bent", lambda x: torch.where(x > 8, 16.0, 2 * x * (x > 0))),
    "level in between": ("hinged", lambda x: torch.where(x > 8, x, torch.where(x > -1, 2.0, 0.0))),
    "falling": ("bent", lambda x: -(x + x.abs())),
    "bounded by a little": ("bent", lambda x: torch.where(x > 0.005, x, 0.005)),
    "bounded by more": ("hinged", lambda x: torch.where(x > 0.02, x, 0.02)),
    # Nothing of one number.
    "not finite": ("", lambda x: x.abs() / 0.0),
    "not finite at zero": ("", lambda x: 1 / x),
    "out of range": ("", lambda x: torch.log(x * x)),
}


@pytest.mark.parametrize("name", WORDS)
def test_the_word_for_a_function(name: str) -> None:
    expected, act = WORDS[name]
    assert word(act) == expected


class Held(nn.Module):
    """An activation with a constant of the network's own."""

    def __init__(self, act: Callable[[Tensor, Tensor], Tensor], constant: Tensor) -> None:
        super().__init__()
        self.act = act
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x, self.constant)


def leaky(x: Tensor, slopes: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * slopes)


def capped(x: Tensor, caps: Tensor) -> Tensor:
    return torch.min(relu(x), caps)


# With a value for each of three channels: the smallest and the largest are tried, and must agree on a name.
CHANNELS: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor], list[float]]] = {
    "slopes": ("leaky_relu", leaky, [0.1, 0.3, 0.2]),
    "a slope of zero": ("leaky_relu", leaky, [0.0, 0.3, 0.0]),
    "a slope of zero, the largest": ("leaky_relu", leaky, [-0.3, 0.0, -0.1]),
    "no slope at all": ("relu", leaky, [0.0, 0.0, 0.0]),
    "a slope of one": ("bent", leaky, [0.2, 0.3, 1.0]),
    "a slope of two": ("bent", leaky, [0.1, 2.0, 0.5]),
    "a slope of minus two": ("bent", leaky, [0.1, -2.0, 0.5]),
    "bounds": ("hinged", torch.max, [0.5, 1.0, 2.0]),
    "one bound of zero": ("bent", torch.max, [0.0, 0.0, 2.0]),
    "bounds of zero": ("relu", torch.max, [0.0, 0.0, 0.0]),
    "caps": ("relu6", capped, [1.0, 6.0, 4.0]),
    "one cap of zero": ("bent", capped, [1.0, 0.0, 4.0]),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_the_word_with_a_constant_for_each_channel(name: str) -> None:
    expected, act, values = CHANNELS[name]
    assert word(Held(act, torch.tensor(values).view(3, 1))) == expected
    assert word(Held(act, torch.tensor(values).view(1, 3, 1).double()), X.double()) == expected
    # A constant that the network learns.
    assert word(Held(act, nn.Parameter(torch.tensor(values).view(3, 1)))) == expected


def test_what_is_known_of_a_function_is_that_of_its_own_constants_and_arguments() -> None:
    """The same operators with other numbers are another function: nothing is taken from the one before."""
    for _ in range(2):
        assert word(lambda x: x.masked_fill(x < 0, 0.0)) == "relu"
        assert word(lambda x: x.masked_fill(x < 1, 0.0)) == "hinged"
        assert word(lambda x: x.masked_fill(x <= 0, value=0.0)) == "relu"
        assert word(lambda x: x.masked_fill(x <= 0, value=1.0)) == "hinged"
        assert word(lambda x: torch.where(input=x, other=0 * x, condition=x > 0)) == "relu"
        assert word(lambda x: torch.where(input=0 * x, other=x, condition=x > 0)) == "bent"
        assert word(lambda x: torch.max(x, torch.full_like(x, 0.0))) == "relu"
        assert word(lambda x: torch.max(x, torch.full_like(x, 2.0))) == "hinged"


def test_the_same_function_of_a_map_and_of_an_activation_has_two_words(monkeypatch: pytest.MonkeyPatch) -> None:
    acts = {"": lambda x: torch.tanh(x).clamp(min=0.1), "hinged": lambda x: x.clamp(min=0.1)}
    for first in acts:
        monkeypatch.setattr(curves, "_KNOWN", {})
        assert word(acts[first]) == first
        assert {word(act) for act in acts.values()} == {"", "hinged"}


def test_what_is_known_is_forgotten_when_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "_KNOWN", {})
    monkeypatch.setattr(curves, "_MOST_KNOWN", 3)
    sizes = []
    for slope in (0.1, 0.2, 0.3, 0.4, 0.1):
        # Two functions each: the product, and the larger one.
        assert word(lambda x, slope=slope: x.maximum(slope * x)) == "leaky_relu"
        sizes.append(len(curves._KNOWN))
    assert sizes == [1, 2, 3, 1, 2]


def test_constants_that_have_no_smallest_value() -> None:
    assert word(Held(lambda x, c: torch.view_as_real(x * c)[..., 0].abs(), torch.tensor([1 + 2j]))) == "bent"
    assert word(Held(lambda x, c: (x.abs() * c).abs(), torch.ones(1, 3, 1, dtype=torch.complex64))) == ""
    assert word(Held(lambda x, c: torch.max(x[:0], c), torch.zeros(0, 3, 4))) == ""
