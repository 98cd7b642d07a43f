"""The log-odds of a class against probabilities in float64, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from interpnet.engine import all_log_odds, log_odds
from interpnet.errors import DataError, InterpNetError


def test_it_is_the_log_odds_of_the_softmax():
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 3, 1, 1, 2])
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    own = p[torch.arange(5), classes]
    torch.testing.assert_close(log_odds(logits, classes), (own / (1 - own)).log(), rtol=1e-12, atol=1e-12)


def test_two_classes_give_the_difference_of_their_logits_also_where_p_rounds_to_1():
    logits = torch.tensor([[60.0, -60.0], [60.0, -60.0]])
    assert log_odds(logits, torch.tensor([0, 1])).tolist() == [120.0, -120.0]


def test_three_classes_by_hand():
    value = float(log_odds(torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64), torch.tensor([0])))
    assert value == pytest.approx(1 - math.log(math.e**2 + math.e**3), abs=1e-14)


@pytest.mark.parametrize(("logits", "outputs"), [([[0.5, 7.0]], "independent"), ([[0.5]], "exclusive")])
def test_an_output_of_its_own_gives_its_logit(logits, outputs):
    assert log_odds(torch.tensor(logits), torch.tensor([0]), outputs=outputs).tolist() == [0.5]


def test_the_gradient_is_one_for_the_own_logit_and_minus_the_others_softmax():
    logits = torch.tensor([[5.0, 1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_odds(logits, torch.tensor([0])).sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, -0.5, -0.5]], dtype=torch.float64))


def test_half_precision_is_computed_in_float32():
    value = log_odds(torch.tensor([[9.0, 1.0]], dtype=torch.float16), torch.tensor([0]))
    assert value.dtype == torch.float32
    assert value.tolist() == [8.0]


@pytest.mark.parametrize(
    ("logits", "classes", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 3]), "classes reach from 0 to 3; expected 0 to 2"),
        (torch.zeros(2, 3), torch.tensor([0, -1]), "classes reach from -1 to 0; expected 0 to 2"),
        (torch.zeros(2, 3), torch.tensor([0]), r"classes: shape \(1,\) .* expected \(2,\) class numbers"),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), r"classes: shape \(2,\) and type torch.float32"),
        (torch.zeros(2), torch.tensor([0, 0]), r"logits: shape \(2,\)"),
        (torch.zeros(2, 3).long(), torch.tensor([0, 0]), "logits: .* torch.int64"),
        ([[1.0]], torch.tensor([0]), "logits: a list came|logits is"),
    ],
)
def test_what_does_not_fit_is_refused(logits, classes, message):
    with pytest.raises((DataError, InterpNetError), match=message):
        log_odds(logits, classes)


def test_an_unknown_kind_of_outputs_is_refused():
    with pytest.raises(InterpNetError, match="outputs is 'softmax'; expected 'exclusive' or 'independent'"):
        log_odds(torch.zeros(1, 2), torch.tensor([0]), outputs="softmax")


def test_log_odds_of_all_classes_are_those_of_one_by_one() -> None:
    logits = np.random.default_rng(0).normal(0, 20, (50, 7))
    found = all_log_odds(torch.from_numpy(logits)).numpy()
    for c in range(7):
        rest = np.delete(logits, c, 1)
        expected = logits[:, c] - rest.max(1) - np.log(np.exp(rest - rest.max(1, keepdims=True)).sum(1))
        np.testing.assert_allclose(found[:, c], expected, rtol=1e-12)
