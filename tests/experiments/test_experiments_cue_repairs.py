"""What the literature repairs with mends the toy that it must mend, and is what it says in numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.cued import CLASSES, Halves, cued
from torch import Tensor, nn

from experiments.cues import repairs
from experiments.cues.repairs import Images, afr, dfr, jtt, worst_group
from interpnet.errors import DataError


def grouped(n: int, *, agree: float, seed: int) -> Images:
    """Return images with their groups: the class, and whether the right half says it, too."""
    images, labels = cued(n, agree=agree, seed=seed)
    agrees = images[..., 4:].mean((2, 3)).argmax(1) == labels
    return Images(images, labels, 2 * labels + agrees)


def worst(model: nn.Module, seen: Images) -> float:
    with torch.no_grad():
        return worst_group(model(seen.images).argmax(1).numpy(), seen.labels.numpy(), seen.groups.numpy())


HELD, CHOOSE, TEST = (grouped(600, agree=0.7, seed=seed) for seed in (1, 2, 3))


def test_the_worst_group_by_hand() -> None:
    assert worst_group(np.array([0, 0, 1, 0]), np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])) == 0.5


def test_dfr_unlearns_the_cue_and_leaves_the_network() -> None:
    net = Halves()
    before = net.head.weight.clone()
    assert worst(net, TEST) < 0.2
    assert worst(dfr(net, HELD), TEST) > 0.95
    assert torch.equal(net.head.weight, before)


def test_dfr_of_two_classes_is_scikit_learns_decision() -> None:
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(60, 4)), rng.integers(0, 2, 60)
    fitted = repairs._regression(z, y, 1.0, 0.0)
    weight, bias = repairs._of_classes(fitted, 3)
    logits = z @ weight.T + bias
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], fitted.decision_function(z))
    assert (logits.argmax(1) < 2).all()  # the third class was not seen


def test_balanced_rows_have_as_many_of_each_group() -> None:
    groups = np.array([0] * 9 + [1] * 3 + [2] * 5)
    rows = repairs._balanced(np.arange(17), groups, np.random.default_rng(0))
    assert np.bincount(groups[rows]).tolist() == [3, 3, 3]
    assert len(set(rows.tolist())) == 9


def test_afr_unlearns_the_cue_without_groups_in_its_fit() -> None:
    assert worst(afr(Halves(), HELD._replace(groups=HELD.labels), CHOOSE), TEST) > 0.9


def test_jtt_learns_the_images_that_the_first_got_wrong() -> None:
    made = []

    class Two(nn.Module):
        """The cue is learned ten times as fast."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2 * CLASSES, CLASSES)
            nn.init.zeros_(self.head.weight)
            made.append(self)

        def forward(self, x: Tensor) -> Tensor:
            halves = torch.cat([x[..., :4].mean((2, 3)), 10 * x[..., 4:].mean((2, 3))], 1)
            return self.head(halves)

    train = grouped(600, agree=0.9, seed=5)
    fitted = jtt(Two, train.images, train.labels, CHOOSE, first=1, epochs=12, lr=0.05, upweights=(1, 10))
    first, plain = made[0], made[1]
    assert len(made) == 3
    assert worst(first, TEST) < 0.3
    assert worst(fitted, TEST) > worst(plain, TEST) + 0.1


def test_one_group_is_refused() -> None:
    with pytest.raises(DataError, match="all of one group"):
        dfr(Halves(), HELD._replace(groups=torch.zeros(600, dtype=torch.int64)))


def test_a_last_layer_that_is_not_linear_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be fitted again: the logits are not its output"):
        afr(nn.Sequential(Halves(), nn.Softmax(1)).eval(), HELD, CHOOSE)
