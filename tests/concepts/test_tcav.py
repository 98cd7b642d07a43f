"""Concept activation vectors: by hand, against float64 references and captum, and what chance gives."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from helpers.concepts import Attention, convolutional, reference, sets
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from interpnet import concepts
from interpnet.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::interpnet.concepts.ConceptWarning")


GOOD = {
    "concept": sets(1, 5, seed=1)[0], "random": sets(4, 5), "images": sets(1, 6, seed=2)[0], "target": 1, "layer": "1",
    "progress": False,
}  # fmt: skip


def channels(*weights: float) -> nn.Module:
    """Return a network with a channel for each weight, whose second logit is the sum of all their positions."""
    n = len(weights)
    net = nn.Sequential(nn.Conv2d(n, n, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * n, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(n)[:, :, None, None])
        net[3].weight.zero_()[1] = torch.tensor(weights).repeat_interleave(4)
    return net


def flat(*values: float) -> torch.Tensor:
    """Return an image (2, 2, 2) of which each channel is constant."""
    return torch.tensor(values)[:, None, None].expand(-1, 2, 2)


def test_a_vector_along_one_channel_gives_the_derivative_of_that_channel():
    # Random images differ in the second channel only, the concept lies beside them in the first.
    random = [torch.stack([flat(1.0, 1.0), flat(1.0, 3.0)]) + flat(0, j / 8) for j in range(4)]
    random[2][1] += flat(2.0, 0.0)  # the spread along the first channel, of one image
    random[2][0] -= flat(0.5, 0.0)
    concept = [torch.stack([part[0], part[1]]) for part in random]
    shifted = torch.cat([concept[0], concept[1], concept[3]]) + flat(5.0, 0.0)
    found = concepts.tcav(
        channels(3.0, -1.0), concept=shifted, random=random, images=torch.rand(2, 2, 2, 2) + 1, target=1, layer="1",
        outputs="independent", progress=False,
    )  # fmt: skip
    # Against set 0 the vector is (5, d) with d the difference of the second channel's means.
    seconds = [2.0, 2.125, 2.25, 2.375]
    ours = (seconds[0] + seconds[1] + seconds[3]) / 3
    v = np.array([5.0, ours - seconds[0]]) / np.hypot(5.0, ours - seconds[0]) / 2
    np.testing.assert_allclose(found.cavs[0][0, 0].reshape(2, 4), np.repeat(v[:, None], 4, 1), rtol=1e-6)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_effect_of_a_channel_is_its_weight_times_its_spread(which):
    weights = (3.0, -1.0, 0.5)
    # Every set has nearly the same mean, and images at -1 and +1 of it in each channel.
    base = torch.stack([sign * torch.eye(3)[c] + 2 for c in range(3) for sign in (-1.0, 1.0)])
    base = base[:, :, None, None].expand(-1, -1, 2, 2)
    random = [base + 1e-5 * j for j in range(4)]
    concept = base + torch.eye(3)[which][:, None, None]
    found = concepts.tcav(
        channels(*weights), concept=concept, random=random, images=torch.rand(2, 3, 2, 2) + 1, target=1, layer="1",
        pool=True, outputs="independent", progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(found.cavs[0][0, 0], np.eye(3)[which], atol=1e-4)
    # Each channel is at -1 and +1 in two of six images; its four positions have a weight each.
    np.testing.assert_allclose(found.effect, 4 * weights[which] * np.sqrt(2 / 6), rtol=1e-3)
    assert found.score.item() == float(weights[which] > 0)


def cut(net: nn.Module, at: int):
    double = copy.deepcopy(net).double()
    return double[:at], double[at:]


@pytest.mark.parametrize("cav", ["difference", "linear"])
@pytest.mark.parametrize(("layer", "at"), [("1", 2), ("2", 3)])
def test_scores_and_effects_are_those_of_a_reference(cav, layer, at):
    net = convolutional()
    random = sets(4, 7)
    concept, images = sets(1, 9, seed=1)[0] ** 2, sets(1, 8, seed=2)[0]
    found = concepts.tcav(
        net, concept=concept, random=random, images=images, target=2, layer=layer, cav=cav, progress=False
    )
    expected = reference(*cut(net, at), concept, random, images, 2, cav)
    np.testing.assert_allclose(found.scores[0, 0], expected["scores"], atol=1e-12)
    np.testing.assert_allclose(found.score[0, 0], np.mean(expected["scores"]), atol=1e-12)
    np.testing.assert_allclose(found.effect[0, 0], np.mean(expected["effects"]), rtol=2e-5)
    np.testing.assert_allclose(found.by_image[0, 0].mean(), found.effect[0, 0])
    ours = found.cavs[0][0].reshape(4, -1)
    np.testing.assert_allclose(ours, torch.stack(expected["cavs"]), atol=2e-5)


def test_pooled_maps_are_those_of_a_network_that_pools():
    net = convolutional()

    def maps(x):
        return cut(net, 2)[0](x).mean((2, 3))

    random = sets(4, 7)
    concept, images = sets(1, 7, seed=1)[0] ** 2, sets(1, 8, seed=2)[0]
    # A number added to a channel's mean is added to it everywhere.
    whole = cut(net, 2)[0](images.double()).detach()

    def head(means):
        added = (means - whole.mean((2, 3)))[:, :, None, None]
        return cut(net, 2)[1](whole + added)

    found = concepts.tcav(
        net, concept=concept, random=random, images=images, target=0, layer="1", pool=True, progress=False
    )
    expected = reference(maps, head, concept, random, images, 0)
    np.testing.assert_allclose(found.scores[0, 0], expected["scores"])
    np.testing.assert_allclose(found.effect[0, 0], np.mean(expected["effects"]), rtol=2e-5)
    assert found.cavs[0].shape == (1, 4, 4)


@pytest.mark.parametrize(("layer", "shape"), [("tokens", (9, 6)), ("unit", (9, 5))])
def test_token_sites_behind_and_before_a_fused_attention(layer, shape):
    net = Attention().eval()
    random = sets(4, 7)
    concept, images = sets(1, 7, seed=1)[0] ** 2, sets(1, 8, seed=2)[0]
    double = Attention().double().eval()
    kept = {}

    def maps(x):
        handle = getattr(double, layer).register_forward_hook(lambda _m, _a, out: kept.update(out=out.detach()))
        double(x)
        handle.remove()
        return kept["out"]

    def head(at):
        handle = getattr(double, layer).register_forward_hook(lambda _m, _a, _out: at)
        logits = double(images.double())
        handle.remove()
        return logits

    found = concepts.tcav(net, concept=concept, random=random, images=images, target=1, layer=layer, progress=False)
    expected = reference(maps, head, concept, random, images, 1)
    np.testing.assert_allclose(found.scores[0, 0], expected["scores"])
    np.testing.assert_allclose(found.effect[0, 0], np.mean(expected["effects"]), rtol=2e-5)
    assert found.cavs[0].shape == (1, 4, *shape)


def test_the_logit_takes_the_place_of_the_log_odds():
    net = channels(3.0, -1.0)
    arguments = {
        "concept": sets(1, 5, seed=1, side=2)[0] + flat(2.0, 0.0), "random": sets(3, 5, side=2),
        "images": sets(1, 5, seed=2, side=2)[0], "layer": "1", "progress": False,
    }  # fmt: skip
    first = concepts.tcav(net, target=0, outputs="independent", **arguments)
    assert first.score.item() == 0.0  # the first logit is 0 whatever comes
    assert first.effect.item() == 0.0
    odds = concepts.tcav(net, target=0, **arguments)
    assert odds.effect.item() == pytest.approx(-concepts.tcav(net, target=1, **arguments).effect.item())
    assert odds.effect.item() < 0


def test_captum_agrees_on_the_same_vectors(tmp_path):
    pytest.importorskip("captum")
    from captum.attr import LayerGradientXActivation
    from captum.concept import TCAV, Classifier, Concept

    class Means(Classifier):
        def __init__(self):
            pass

        def train_and_eval(self, dataloader, **_options):
            x, y = (torch.cat(parts) for parts in zip(*dataloader, strict=True))
            self.first, self.second = y.unique().tolist()
            v = x[y == self.first].double().mean(0) - x[y == self.second].double().mean(0)
            self.v = (v / v.norm()).float()

        def weights(self):
            return torch.stack([self.v, -self.v])

        def classes(self):
            return [self.first, self.second]

    net = convolutional()
    random = sets(3, 7)
    concept, images = sets(1, 7, seed=1)[0] ** 2, sets(1, 8, seed=2)[0]
    peers = [Concept(i, str(i), DataLoader(part, 7)) for i, part in enumerate([concept, *random])]
    gradients = LayerGradientXActivation(net, None, multiply_by_inputs=False)
    peer = TCAV(net, ["1"], layer_attr_method=gradients, classifier=Means(), save_path=str(tmp_path))
    told = peer.interpret(images, [[peers[0], one] for one in peers[1:]], target=2)
    found = concepts.tcav(
        net, concept=concept, random=random, images=images, target=2, layer="1", outputs="independent", progress=False
    )
    magnitudes = []
    for j in range(3):
        theirs = told[f"0-{j + 1}"]["1"]
        assert abs(float(theirs["sign_count"][0]) - found.scores[0, 0, j]) < 1e-6
        vector = peer.cavs[f"0-{j + 1}"]["1"].stats["weights"][0]
        np.testing.assert_allclose(found.cavs[0][0, j].ravel(), vector, atol=1e-6)
        rest = torch.cat([net[:2](part) for i, part in enumerate(random) if i != j]).flatten(1).double()
        spread = (rest.detach() @ vector.double()).std(correction=0)
        magnitudes.append(float(theirs["magnitude"][0].detach() * spread))
    assert abs(found.effect.item() - np.mean(magnitudes)) < 1e-6


@pytest.mark.filterwarnings("ignore:Precision loss")
def test_of_random_sets_few_are_found_where_the_t_test_finds_many():
    net = convolutional()
    every = sets(20, 12, seed=3)
    images = sets(1, 10, seed=4)[0]
    ours = 0
    scores = []
    for k in range(0, 20, 2):
        random = [part for i, part in enumerate(every) if i != k]
        found = concepts.tcav(
            net, concept=every[k], random=random, images=images, target=1, layer="3", pool=True, progress=False
        )
        ours += int(found.effect_p_value.item() <= 0.05) + int(found.p_value.item() <= 0.05)
        scores.append(found.scores[0, 0])
    assert ours <= 3  # of 20 p-values, 1 on average
    # The original: scores of the concept with each random set, against those of one random set with each other.
    theirs = [stats.ttest_ind(scores[k], scores[k - 1], equal_var=False).pvalue <= 0.05 for k in range(10)]
    assert sum(theirs) >= 5


def test_a_relative_concept_points_from_the_other_one():
    net = channels(1.0, -1.0)
    one, other = sets(1, 5, seed=1, side=2)[0] + flat(3.0, 0.0), sets(1, 5, seed=2, side=2)[0] + flat(0.0, 3.0)
    found = concepts.tcav(
        net, concept={"one": one}, against=other, random=sets(40, 5, side=2), images=sets(1, 5, seed=4, side=2)[0],
        target=1, layer="1", progress=False,
    )  # fmt: skip
    v = (one.mean(0) - other.mean(0)).flatten()
    np.testing.assert_allclose(found.cavs[0][0, 0].ravel(), v / v.norm(), atol=1e-6)
    assert found.scores.shape == (1, 1, 1)
    assert found.random_score.shape == (1, 20)
    assert found.effect_p_value.item() == pytest.approx(1 / 21)
    assert [name for name, _, _ in found.found()] == ["one"]


def test_several_concepts_and_layers_are_adjusted_together():
    net = convolutional()
    found = concepts.tcav(
        net, concept={"bright": sets(1, 6, seed=5)[0] + 1, "usual": sets(1, 6, seed=6)[0]}, random=sets(20, 6),
        images=sets(1, 9, seed=7)[0], target=0, layer=["1", "3"], progress=False,
    )  # fmt: skip
    assert (found.concepts, found.layers) == (("bright", "usual"), ("1", "3"))
    alone = concepts.tcav(
        net, concept=sets(1, 6, seed=5)[0] + 1, random=sets(20, 6), images=sets(1, 9, seed=7)[0], target=0, layer="3",
        progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(found.effect[0, 1], alone.effect[0, 0])
    assert found.effect_p_value[0, 1] >= alone.effect_p_value[0, 0]
    assert (found.interval[..., 0] <= found.score).all()
    assert (found.score <= found.interval[..., 1]).all()
    assert (found.effect_interval[..., 0] <= found.effect).all()
    assert (found.effect <= found.effect_interval[..., 1]).all()


def test_several_classes_of_one_call_are_those_of_single_calls():
    net = convolutional()
    arguments = {
        "concept": {"bright": sets(1, 6, seed=5)[0] + 1, "usual": sets(1, 6, seed=6)[0]}, "random": sets(5, 6),
        "layer": ["1", "3"], "progress": False,
    }  # fmt: skip
    images = [sets(1, n, seed=n)[0] for n in (4, 9)]
    found = concepts.tcav(net, target=[2, 0], images=images, **arguments)
    assert [one.target for one in found] == [2, 0]
    for one, own in zip(found, images, strict=True):
        alone = concepts.tcav(net, target=one.target, images=own, **arguments)
        for name in ("effect", "effect_interval", "effect_p_value", "score", "interval", "p_value", "accuracy"):
            np.testing.assert_allclose(getattr(one, name), getattr(alone, name), rtol=1e-6, err_msg=name)
        np.testing.assert_array_equal(one.cavs[1], alone.cavs[1])
        assert one.by_image.shape == (2, 2, len(own))


def test_several_classes_read_the_sets_once_and_warn_once():
    net = convolutional()
    counts = []
    net.register_forward_hook(lambda _m, args, _out: counts.append(len(args[0])))
    arguments = {"concept": sets(1, 5, seed=1)[0], "random": sets(4, 5), "layer": "1", "progress": False}
    images = sets(1, 3, seed=2)[0]
    concepts.tcav(net, images=images, target=0, **arguments)
    one = sum(counts)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        concepts.tcav(net, images=[images, images], target=[0, 1], **arguments)
    assert sum(counts) - 2 * one < one / 2
    assert len({str(warning.message) for warning in said}) == len(said)


def test_accuracy_is_that_of_images_held_out():
    net = channels(1.0, 1.0)
    random = sets(8, 10, side=2)
    arguments = {"images": sets(1, 5, seed=4, side=2)[0], "target": 1, "layer": "1", "progress": False}
    apart = concepts.tcav(net, concept=sets(1, 10, seed=1, side=2)[0] + 2, random=random, **arguments)
    assert apart.accuracy.item() == 1.0
    assert apart.separates.all()
    # In 8 directions 20 images are told apart where the vector knows them; not where they are held out.
    for cav in ("difference", "linear"):
        with pytest.warns(concepts.ConceptWarning, match=r"do not tell its images .* at '1' \(0\.\d\d\)"):
            same = concepts.tcav(net, concept=sets(1, 10, seed=9, side=2)[0], random=random, cav=cav, **arguments)
        assert 0.3 < same.accuracy.item() < 0.7
        assert 0.4 < same.random_accuracy.item() < 0.6
        assert same.found(1.0) == []


def test_few_random_sets_are_said():
    arguments = {
        "concept": sets(1, 10, seed=1)[0] + 2, "images": sets(1, 5, seed=4)[0], "target": 1, "layer": "1",
        "progress": False,
    }  # fmt: skip
    with pytest.warns(concepts.ConceptWarning, match=r"with 4 random sets no p-value is below 0\.20; 19 are needed"):
        concepts.tcav(convolutional(), random=sets(4, 10), **arguments)
    with pytest.raises(DataError, match=r"random: 2 sets of 10 images came.*at least 3 sets, and 19 for a p-value"):
        concepts.tcav(convolutional(), random=torch.cat(sets(1, 29)), **arguments)


def test_batches_loaders_and_the_split_of_a_single_set_change_nothing():
    net = convolutional().train()
    random = sets(5, 6)
    concept, images = sets(1, 6, seed=1)[0], sets(1, 9, seed=2)[0]
    arguments = {"target": 1, "layer": ["1", "3"], "progress": False}
    before = copy.deepcopy(net.state_dict())
    found = concepts.tcav(net, concept=concept, random=random, images=images, **arguments)
    labels = torch.zeros(9, dtype=torch.int64)
    again = concepts.tcav(
        net, concept=[(concept[:2], labels[:2]), (concept[2:], labels[2:6])], random=[[part] for part in random],
        images=[(images, labels)], max_batch=4, **arguments,
    )  # fmt: skip
    np.testing.assert_allclose(again.effect, found.effect, rtol=1e-4)
    np.testing.assert_allclose(again.scores, found.scores)
    split = concepts.tcav(net, concept=concept, random=torch.cat(random), images=images, **arguments)
    assert split.scores.shape == (1, 2, 5)
    loaded = concepts.tcav(
        net, concept=concept, random=DataLoader(TensorDataset(torch.cat(random)), 7),
        images=images, **arguments,
    )  # fmt: skip
    np.testing.assert_allclose(loaded.effect, split.effect, rtol=1e-4)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("layer", ["0", "1", "2"])
def test_a_network_that_works_in_place_is_read_as_one_that_does_not(layer):
    net = convolutional()
    inplace = copy.deepcopy(net)
    inplace[1].inplace = True
    arguments = {**GOOD, "layer": layer}
    one, other = (concepts.tcav(model, **arguments) for model in (net, inplace))
    np.testing.assert_allclose(other.scores, one.scores)
    np.testing.assert_allclose(other.effect, one.effect, rtol=1e-5)
    np.testing.assert_allclose(other.cavs[0], one.cavs[0], atol=1e-6)


def test_an_image_that_a_single_random_set_has_twice_counts_once():
    pool = torch.cat([*GOOD["random"], GOOD["random"][0]])
    assert concepts.tcav(convolutional(), **{**GOOD, "random": pool}).scores.shape == (1, 1, 4)


def test_larger_random_sets_are_cut_to_the_concept():
    net = convolutional()
    concept, images = sets(1, 5, seed=1)[0], sets(1, 9, seed=2)[0]
    random = sets(5, 9)
    arguments = {"concept": concept, "images": images, "target": 1, "layer": "1", "progress": False}
    found = concepts.tcav(net, random=random, **arguments)
    same = concepts.tcav(net, random=[part[:5] for part in random], **arguments)
    np.testing.assert_array_equal(found.effect, same.effect)
