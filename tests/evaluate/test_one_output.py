"""A network of one output z is the network of two outputs (-z/2, z/2), in everything that the library does."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import interpnet as ip
from interpnet import evaluate, pictures
from interpnet.attribution import METHODS, AttributionWarning, register_method, unregister_method
from interpnet.engine import Channel, OneColumn, check_function, find_sites
from interpnet.errors import InterpNetError, ModelError
from interpnet.explanation import Unit
from interpnet.reliance import ContributionSums

N = 24
X = torch.randn(N, 2, 12, 12, generator=torch.Generator().manual_seed(1))
X[::2, 0, 3:9, 3:9] += 1.0
Y = torch.tensor([1, 0] * (N // 2))


class One(nn.Module):
    """Two convolutions and one output, (B, 1) or (B,)."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 5, 3, padding=1)
        self.two = nn.Conv2d(5, 6, 3, stride=2, padding=1)
        self.last = nn.Linear(6, 1)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.two(torch.relu(self.one(x))))
        z = self.last(x.mean((2, 3)))
        if self.flat:
            return z[:, 0]
        return z


def pair(*, flat: bool = False) -> tuple[nn.Module, nn.Module]:
    """Return a network of one output, with images on either side of 0, and its twin of two."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(4)
        one = One(flat=flat).eval()
    with torch.no_grad():
        one.last.weight *= 4
        one.last.bias -= one(X).median()
    two = copy.deepcopy(one)
    two.flat = False
    two.last = nn.Linear(6, 2)
    with torch.no_grad():
        two.last.weight.copy_(torch.cat([-one.last.weight, one.last.weight]) / 2)
        two.last.bias.copy_(torch.cat([-one.last.bias, one.last.bias]) / 2)
    return one, two.eval()


def same(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    a = np.asarray(a, dtype=np.float64)
    b = np.asarray(b, dtype=np.float64)
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1e-3, float(np.abs(b).max(initial=0))))


def test_scores_reliance_ablation_and_explanations() -> None:
    found: list[list[Any]] = []
    for net in pair():
        batches = [(X[:10], Y[:10]), (X[10:], Y[10:])]
        options = {"progress": False}
        table = ip.collect_scores(net, batches, **options)
        assert table.n_classes == 2
        parts = ip.collect_contributions(net, batches, classes=["no", "yes"], **options)
        relied = ip.measure_reliance(net, batches, parts, **options)
        values: list[Any] = [table.X, table.predictions, parts.mean, parts.counts, parts.log_odds, relied.intact]
        values += [relied.sizes, relied.left]
        for source in (table, parts, relied):
            names = {"classes": ["no", "yes"]} if source is table else {}
            interpretation = ip.interpret(source, **names)
            study = ip.ablation_study(net, batches, interpretation, table=table, **options)
            shown = ip.explain(net, X[:4], interpretation)
            paper = ip.explain(net, X[:4], interpretation, classes=[0, 1, 0, 1], variant="paper")
            values += [interpretation.coef, study.intact, study.log_odds, study.log_probability]
            values += [condition.own for condition in study.conditions]
            values += [condition.others for condition in study.conditions]
            values += [shown.confidences, shown.combined, paper.combined, shown.classes]
        found.append(values)
    for a, b in zip(*found, strict=True):
        same(a, b, 1e-4)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("targets", [None, [0, 1, 0]])
def test_every_method_of_attribution(method: str, targets: Any) -> None:
    one, two = pair(flat=True)
    options = {"samples": 40} if method == "rise" else {}
    with warnings.catch_warnings():
        # Maps that are flagged: both are, or none.
        warnings.simplefilter("ignore", AttributionWarning)
        expected = ip.attribute(two, X[:3], targets, method, **options)
        if method == "deep_taylor":
            with pytest.raises(ModelError, match=r"cannot be right for this class.*class 1 can be explained"):
                ip.attribute(one, X[:3], targets, method)
            targets = 1
            expected = ip.attribute(two, X[:3], targets, method)
        same(ip.attribute(one, X[:3], targets, method, **options), expected, 2e-4)


@pytest.mark.parametrize("seed", ["activation", "ones"])
@pytest.mark.parametrize("rule", ["guided", "gradient", "lrp_gamma"])
def test_signals_of_a_class(seed: str, rule: str) -> None:
    units = [Unit(0), Unit(1), Channel("relu:1", 2)]
    found = [ip.channel_heatmap(net, X[:3], units, rule=rule, seed=seed) for net in pair()]
    same(found[0], found[1], 2e-4)


def test_measures_and_pictures() -> None:
    found = []
    for net in pair():
        maps = X[:4].abs().sum(1)
        values: list[Any] = []
        for score in ("probability", "logit"):
            values += [evaluate.insertion(net, X[:4], maps, steps=5, score=score).values]
            values += [evaluate.deletion(net, X[:4], maps, 0, steps=5, score=score).values]
        made = pictures.maximise(net, [0, 1, Channel("relu", 1)], (2, 12, 12), steps=3)
        values += [made.pictures, made.activations, made.reached]
        shown = pictures.embed(net, [(X, Y)], progress=False)
        values += [shown.vectors, shown.predictions]
        found.append(values)
    for a, b in zip(*found, strict=True):
        same(a, b, 1e-4)


def test_a_last_convolution_of_one_channel_is_shared_by_its_sign() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert ip.attribute(net, X[:2], 1, "lrp_gamma").shape == (2, 12, 12)
    assert ip.attribute(net, X[:2], 0, "lrp_epsilon").shape == (2, 12, 12)
    with pytest.raises(ModelError, match="method='lrp_gamma' cannot be right for this class"):
        ip.attribute(net, X[:2], 0, "lrp_gamma")


@pytest.mark.parametrize("outputs", ["exclusive", "independent"])
def test_one_label_that_is_a_question_of_its_own(outputs: str) -> None:
    """With independent outputs one output stays one: of its label the images that have it, and z as log-odds."""
    one, two = pair()
    found = ip.collect_contributions(one, [(X, Y[:, None].float())], outputs=outputs, progress=False)
    whole = ip.collect_contributions(two, [(X, Y)], progress=False)
    assert len(found.classes) == {"exclusive": 2, "independent": 1}[outputs]
    same(found.mean[-1], whole.mean[1])
    same(found.log_odds[-1], whole.log_odds[1])


class Ending(nn.Module):
    """One output behind a function of three values."""

    def __init__(self, end: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.end = end
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.end(torch.relu(self.conv(x)).mean((2, 3)))


PROBABILITIES = {
    "sigmoid": lambda z: z[:, :1].sigmoid(),
    "one column of a sigmoid": lambda z: z.sigmoid()[:, 0],
    "in place": lambda z: z[:, 0].sigmoid_(),
    "hardsigmoid": lambda z: F.hardsigmoid(z[:, 0]),
    "softmax": lambda z: z.softmax(1)[:, 1],
    "clamped": lambda z: z[:, 0].sigmoid().clamp(1e-3, 1 - 1e-3)[:, None],
    "half": lambda z: z.sigmoid()[:, 0].half(),
    "by hand": lambda z: 1 / (1 + torch.exp(-z[:, 0])),
    "by hand, reciprocal": lambda z: (1 + (-z[:, 0]).exp()).reciprocal(),
    "by hand, exp on both sides": lambda z: z[:, 0].exp() / (1 + z[:, 0].exp()),
}
LOGITS = {
    "between 0 and 1": lambda z: z[:, 0].clamp(0, 1),
    "a gated sum": lambda z: z[:, 0] * z[:, 1].sigmoid(),
    "a scaled sigmoid": lambda z: z[:, 0].sigmoid() * 4 - 2,
    "a sigmoid scaled in place": lambda z: z[:, 0].sigmoid().mul_(4).sub_(2),
    "a logit again": lambda z: torch.logit(z[:, 0].sigmoid()),
    "two outputs of a softmax": lambda z: z[:, :2].softmax(1),
    "a difference of logarithms": lambda z: torch.log_softmax(z, 1)[:, 0] - torch.log_softmax(z, 1)[:, 1],
}


@pytest.mark.parametrize("end", PROBABILITIES)
def test_a_probability_is_refused_with_the_remedy(end: str) -> None:
    """Every image would be of class 1, for a probability is above 0."""
    net = Ending(PROBABILITIES[end])
    message = r"one output is a probability .*\. Pass output=torch.logit, or, .* leave that operator out"
    with pytest.raises(ModelError, match=message):
        ip.collect_scores(net, [(X, Y)], progress=False)
    with pytest.raises(ModelError, match=message):
        ip.attribute(net, X[:2], 1, "gradient")
    assert find_sites(net, X, output=torch.logit).n_outputs == 2
    # What is known of the network with one output= says nothing of it with another.
    check_function(net, X, torch.logit)
    with pytest.raises(ModelError, match=message):
        check_function(net, X)
    assert find_sites(net, X, output=OneColumn()).n_outputs == 1


def test_a_log_probability_is_refused_with_its_own_remedy() -> None:
    for end in (lambda z: F.logsigmoid(z[:, 0]), lambda z: z.log_softmax(1)[:, 1]):
        with pytest.raises(ModelError, match=r"is a log-probability .*output=lambda y: y - torch.log1p\(-y.exp\(\)\)"):
            find_sites(Ending(end), X)
    found = find_sites(Ending(lambda z: F.logsigmoid(z[:, 0])), X, output=lambda y: y - torch.log1p(-y.exp()))
    assert found.n_outputs == 2


def test_a_probability_among_other_outputs_is_refused() -> None:
    net = Ending(lambda z: {"p": z.sigmoid(), "z": z})
    for output in ("p", lambda y: y["p"][:, 0], lambda y: y["z"].sigmoid(), lambda y: torch.softmax(y["zz"], 1)[:, 1]):
        net.end = lambda z: {"p": z[:, :1].sigmoid(), "z": z[:, :1], "zz": z[:, :2]}
        with pytest.raises(ModelError, match="one output is a probability"):
            find_sites(net, X, output=output)
    for output in ("z", lambda y: torch.logit(y["p"]), lambda y: y["zz"][:, 1] - y["zz"][:, 0]):
        assert find_sites(net, X, output=output).n_outputs == 2


@pytest.mark.parametrize("end", LOGITS)
def test_logits_are_none(end: str) -> None:
    net = Ending(LOGITS[end])
    assert find_sites(net, X).n_outputs == 2
    check_function(net, X)


def test_a_method_of_ones_own_sees_two_logits() -> None:
    def own(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        x = images.requires_grad_()
        (gradient,) = torch.autograd.grad(model(x).gather(1, target[:, None]).sum(), x)
        return gradient

    register_method("own_gradient", own)
    try:
        for net in pair(flat=True):
            found = ip.attribute(net, X[:3], [0, 1, 1], "own_gradient")
            same(found, ip.attribute(net, X[:3], [0, 1, 1], "gradient", reduction="sum"))
    finally:
        unregister_method("own_gradient")


def test_a_single_image_whose_output_is_squeezed_to_no_axis() -> None:
    one, _ = pair(flat=True)

    class Squeezed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = one

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).squeeze()

    net = Squeezed().eval()
    assert net(X[:1]).shape == ()
    assert find_sites(net, X[:1]).n_outputs == 2
    same(ip.attribute(net, X[:1], 1, "gradient"), ip.attribute(one, X[:1], 1, "gradient"))
    table = ip.collect_scores(net, [(X[:4], Y[:4]), (X[4:5], Y[4:5])], progress=False)
    assert table.predictions.tolist() == (one(X[:5]) > 0).long().tolist()


def test_two_outputs_of_an_image_without_a_batch_axis_are_not_one_output_of_two() -> None:
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)
            self.last = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.conv(x)).mean((-2, -1)))

    net = Loose().eval()
    assert net(X[0]).shape == (2,)
    for use in (lambda x: find_sites(net, x), lambda x: check_function(net, x)):
        with pytest.raises(ModelError, match=r"shape \(2,\) for images of shape \(2, 12, 12\), and is not one number"):
            use(X[0])
    with pytest.raises(ModelError, match="not one number for one image alone"):
        ip.collect_scores(net, [(X[0], Y[:2])], progress=False)


def test_contributions_beside_scores() -> None:
    one, two = pair(flat=True)
    found = []
    for net in (one, two):
        sums = ContributionSums()
        ip.collect_scores(net, [(X, Y)], contributions=sums, progress=False)
        found.append(sums.result())
    same(found[0].mean, found[1].mean)
    with pytest.raises(InterpNetError, match=r"network of one output, which is one question: pass output=.*OneColumn"):
        ip.collect_scores(one, [(X, Y)], contributions=ContributionSums(outputs="independent"), progress=False)
    alone = ContributionSums(outputs="independent")
    labels = Y[:, None].float()
    ip.collect_scores(one, [(X, labels)], contributions=alone, output=OneColumn(), progress=False)
    same(alone.result().mean[0], found[1].mean[1])
