"""Repair: what is mended on planted cues, what is refused, what stays as it was, and what is written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cued import CLASSES, Halves, RightHalf, batches, cued
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from interpnet.errors import DataError, InterpNetError
from interpnet.models import SmallCNN, load_smallcnn, smallcnn_extra
from interpnet.shortcuts import Repair, repair
from interpnet.shortcuts import _repair_images as images_module

IMAGES, LABELS = cued(300)
BATCHES = batches(IMAGES, LABELS)


def repaired(model: nn.Module, loader: Any = BATCHES, findings: Any = None, **options: Any) -> Repair:
    return repair(model, loader, findings or RightHalf(), progress=False, **options)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).double().mean())


@pytest.mark.parametrize("how", ["ridge", "logistic", "projection"])
def test_a_cue_is_unlearned_and_new_images_agree(how: str) -> None:
    found = repaired(Halves(), how=how, max_clean_loss=0.2)
    assert found.accepted
    assert found.how == how
    assert found.before.exchanged < 0.5
    assert found.after.exchanged > 0.8
    assert found.after.clean >= found.before.clean - 0.2
    assert found.control is not None
    # Parts of the same class tell nothing new. A projection takes their direction all the same, which is the cue's.
    assert how == "projection" or found.control.exchanged < 0.6
    # On images that no repair has seen, whose right half says another class.
    images, labels = cued(300, agree=0.0, seed=7)
    assert accuracy(Halves(), images, labels) < 0.5
    assert accuracy(found.model, images, labels) > 0.8


def test_training_on_unlearns_a_cue_that_the_features_have_merged() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(96, 12), nn.ReLU(), nn.Linear(12, CLASSES))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        loss = nn.functional.cross_entropy(net(IMAGES), LABELS)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = repaired(net.eval(), how="training", epochs=30, max_clean_loss=0.05)
    assert found.accepted
    assert found.after.exchanged > found.before.exchanged + 0.2


@pytest.mark.parametrize(("how", "share"), [("training", 0.5), ("exchanged", 1.0)])
def test_training_on_sees_exchanged_images_in_equal_shares_or_alone(how: str, share: float) -> None:
    marked = []

    class Marking:
        """Findings whose exchange is seen in every pixel: it is below zero."""

        def exchange(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
            return -images

    class Watched(Halves):
        def forward(self, x: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                marked.extend((x.flatten(1).sum(1) < 0).tolist())
            return super().forward(x)

    repaired(Watched(), findings=Marking(), how=how, epochs=1)
    assert len(marked) > 100
    assert np.mean(marked) == share


def test_auto_takes_the_way_that_gains_most_within_the_bound() -> None:
    found = repaired(Halves())
    assert found.accepted
    tried = {one.how for one in found.candidates}
    assert {"ridge", "logistic", "projection"} <= tried
    assert "reactive" not in tried
    assert "not tried" in found.without["training"]
    within = [one for one in found.candidates if one.clean >= -0.005 - 1e-9]
    best = max(within, key=lambda one: one.exchanged)
    assert found.how == best.how
    assert sum(one.why == "taken" for one in found.candidates) == 1


def test_no_repair_that_costs_more_clean_accuracy_than_the_bound() -> None:
    # The left half says the class unclearly: without the right half a part of the accuracy is lost.
    images, labels = cued(600, clear=0.15)
    net = Halves()
    free = repaired(net, batches(images, labels), how="logistic", max_clean_loss=1.0)
    assert free.accepted
    assert free.after.clean < free.before.clean - 0.05
    bound = repaired(net, batches(images, labels), how="logistic", max_clean_loss=0.005)
    assert not bound.accepted
    assert "of clean accuracy" in bound.why
    for mine, old in zip(bound.model.parameters(), net.parameters(), strict=True):
        assert torch.equal(mine, old)
    assert bound.after is bound.before
    assert bound.control is None


def test_bound_on_the_unmoved_images_a_cue_in_every_image_can_be_unlearned() -> None:
    images, labels = cued(600, clear=0.25)
    loader = batches(images, labels)
    assert not repaired(Halves(), loader, how="logistic", max_clean_loss=0.02).accepted
    found = repaired(Halves(), loader, how="logistic", max_clean_loss=0.02, clean="unmoved")
    assert found.accepted
    assert found.after.exchanged > found.before.exchanged + 0.2


def test_a_network_that_does_not_use_the_part_is_left_alone() -> None:
    found = repaired(Halves(left=4.0, right=0.0))
    assert not found.accepted
    assert "no gain with exchanged parts that stands out" in found.why


def test_the_model_and_the_random_state_are_as_before() -> None:
    net = Halves().train()
    net.head.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    repaired(net, how="training", epochs=1)
    assert torch.equal(torch.rand(3), expected)
    assert net.training
    assert net.norm.training
    assert [p.requires_grad for p in net.parameters()] == [True, True, True, True, False]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_training_on_leaves_frozen_parameters_and_statistics() -> None:
    net = Halves()
    for parameter in (net.stem.weight, net.norm.weight, net.norm.bias):
        parameter.requires_grad_(False)
    found = repaired(net, how="training", epochs=20, max_clean_loss=1.0)
    state, old = found.model.state_dict(), net.state_dict()
    same = {name for name in old if torch.equal(state[name], old[name])}
    assert same >= {"stem.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}
    assert all(p.grad is None for p in found.model.parameters())
    assert [p.requires_grad for p in found.model.parameters()] == [p.requires_grad for p in net.parameters()]


def test_frozen_altogether_it_cannot_be_trained_and_still_be_fitted_again() -> None:
    net = Halves()
    net.requires_grad_(False)
    with pytest.raises(InterpNetError, match=r"every parameter of the model is frozen.*how='ridge'"):
        repaired(net, how="training")
    with pytest.raises(InterpNetError, match=r"every parameter of the model is frozen.*how='ridge'"):
        repaired(net, how="exchanged")
    assert repaired(net, how="ridge").accepted


class Tied(Halves):
    """The last layer's weights are used elsewhere, too."""

    def forward(self, x: Tensor) -> Tensor:
        z = torch.relu(self.norm(self.stem(x))).flatten(1)
        return self.head(z + 0.0 * nn.functional.linear(self.head(z), self.head.weight.T))


class Activated(Halves):
    """A ReLU stands behind the last layer, as in SqueezeNet."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x))


@pytest.mark.parametrize("how", ["ridge", "logistic", "projection", "reactive"])
def test_shared_weights_leave_training(how: str) -> None:
    with pytest.raises(InterpNetError, match=r"cannot be done: .*shares 'head.weight'.*how='training' is left"):
        repaired(Tied(), how=how)


def test_a_last_layer_that_is_not_linear_says_what_is_left() -> None:
    with pytest.raises(InterpNetError, match=r"an activation.* how='training' is left, and 'projection'"):
        repaired(Activated(), how="ridge")
    found = repaired(Activated(), how="projection", max_clean_loss=0.2)
    assert found.accepted
    assert found.after.exchanged > 0.8


def test_a_last_layer_without_bias_is_fitted_without() -> None:
    found = repaired(Halves(bias=False), how="ridge")
    assert found.accepted
    assert found.after.exchanged > 0.9
    assert set(found.model.state_dict()) == set(Halves(bias=False).state_dict())


@pytest.mark.parametrize("how", ["ridge", "logistic"])
def test_one_output_is_two_classes(how: str) -> None:
    keep = LABELS < 2
    images, labels = IMAGES[keep], LABELS[keep]
    net = Halves(outputs=1)
    with torch.no_grad():
        net.head.weight[0] = torch.tensor([-0.5, -4, 0.5, 4, 0, 0, -0.5, -4, 0.5, 4, 0, 0])
    found = repaired(net, batches(images, labels), how=how)
    assert found.accepted
    assert found.before.recall.shape == (2,)
    assert found.after.exchanged > 0.95
    assert found.model(images[:3]).shape == (3, 1)


def test_validation_images_are_what_is_reported_on() -> None:
    other = cued(90, seed=3)
    found = repaired(Halves(), how="ridge", validation=batches(*other))
    assert found.before.n == found.after.n == 36  # two fifths
    assert found.accepted


def test_images_that_do_not_fit_the_memory_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = repaired(Halves(), how="ridge")
    monkeypatch.setattr("interpnet.shortcuts._repair.KEEP_BYTES", 1000)
    monkeypatch.setattr(images_module, "_POOL_BYTES", 50 * IMAGES[0].nbytes)
    few = repaired(Halves(), how="ridge")
    assert few.accepted
    assert few.after.exchanged == pytest.approx(whole.after.exchanged, abs=0.05)


def test_the_same_seed_gives_the_same_repair_whatever_the_batches() -> None:
    one, two = (repaired(Halves(), how="logistic", seed=3) for _ in range(2))
    assert one.facts() == two.facts()
    for mine, other in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_loaders_of_dictionaries_and_other_pixels_are_read() -> None:
    loader = [{"pixels": (x * 60).round().to(torch.uint8), "kind": y} for x, y in BATCHES]
    found = repaired(Halves(), loader, how="ridge", inputs="pixels", labels="kind", prepare=lambda x: x.float() / 60)
    assert found.accepted


def test_weights_are_written_with_what_was_done_and_loaded_as_before(tmp_path: Any) -> None:
    found = repaired(Halves(), how="ridge")
    path = tmp_path / "repaired.safetensors"
    found.save(path)
    other = Halves()
    other.load_state_dict(load_file(path))
    torch.testing.assert_close(other(IMAGES), found.model(IMAGES))
    with safe_open(str(path), framework="pt") as handle:
        facts = json.loads(handle.metadata()["interpnet-repair"])
    assert facts == json.loads(json.dumps(found.facts()))
    assert facts["after"]["n"] == found.after.n
    assert facts["how"] == "ridge"


def test_a_smallcnn_stays_one(tmp_path: Any) -> None:
    images, labels = cued(300)
    images = images.repeat_interleave(2, 2)  # 8 x 8
    net = SmallCNN(3, 3, 8, width=4, seed=0).eval()
    found = repaired(net, batches(images, labels), how="logistic", max_clean_loss=1.0)
    assert found.accepted
    found.save(tmp_path / "net.safetensors", {"preprocessing": {"channels": 3}, "repair": "an earlier one"})
    torch.testing.assert_close(load_smallcnn(tmp_path / "net.safetensors")(images), found.model(images))
    assert smallcnn_extra(tmp_path / "net.safetensors")["preprocessing"] == {"channels": 3}
    assert smallcnn_extra(tmp_path / "net.safetensors")["repair"]["accepted"] is True


def test_what_was_not_repaired_is_not_written(tmp_path: Any) -> None:
    found = repaired(Halves(left=4.0, right=0.0), how="ridge")
    with pytest.raises(InterpNetError, match="nothing was repaired"):
        found.save(tmp_path / "x.safetensors")


def test_a_reactive_repair_is_no_state_dict_and_says_so(tmp_path: Any) -> None:
    # One class alone has the cue, so that there are images without it.
    images, labels = cued(600)
    images[labels != 0, :, :, 4:] = torch.rand(400, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    found = repaired(Halves(left=2.0), batches(images, labels), how="reactive", max_clean_loss=0.2)
    assert found.accepted, found.why
    assert found.after.exchanged > found.before.exchanged + 0.05
    with pytest.raises(InterpNetError, match=r"no state dict of the architecture; use repair\(..., how='projection'\)"):
        found.save(tmp_path / "x.safetensors")


class Wrong:
    """Findings whose exchange gives something else."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def exchange(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Any:
        return self.made(images)


@pytest.mark.parametrize(
    ("loader", "findings", "options", "message"),
    [
        (iter(BATCHES), RightHalf(), {}, "can be read once only, and repair reads"),
        (BATCHES, object(), {}, "findings is a object; expected what has exchange"),
        (BATCHES, Wrong(lambda x: x[:3]), {}, r"findings.exchange returned torch.float32 \(3, 3, 4, 8\)"),
        (BATCHES, Wrong(lambda x: x.double()), {}, "findings.exchange returned torch.float64"),
        (BATCHES, Wrong(lambda x: None), {}, "findings.exchange returned NoneType"),
        (
            [(IMAGES[:3], LABELS[:3])],
            RightHalf(),
            {},
            "3 images came, too few to hold some out; expected at least 10",
        ),
        (batches(IMAGES[LABELS == 1], LABELS[LABELS == 1]), RightHalf(), {}, "all of one class"),
        ([*BATCHES, (IMAGES[:6, :, :, :4], LABELS[:6])], RightHalf(), {}, "came after .* expected .* the same for all"),
        (BATCHES, RightHalf(), {"how": "ridged"}, "how"),
        (BATCHES, RightHalf(), {"validation": iter(BATCHES)}, "can be read once only"),
        (batches(IMAGES, torch.rand(300, 3)), RightHalf(), {}, "repair needs one class number per image"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(
    loader: Any, findings: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InterpNetError, match=message):
        repair(Halves(), loader, findings, progress=False, **options)


def test_another_order_in_a_later_pass_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpnet.shortcuts._repair.KEEP_BYTES", 1000)

    class Shuffled:
        def __iter__(self) -> Any:
            order = torch.randperm(300)
            return iter(batches(IMAGES[order], LABELS[order]))

    with pytest.raises(DataError, match=r"repair reads the images several times.*no shuffling"):
        repaired(Halves(), Shuffled(), how="ridge")


def test_one_image_of_each_class_is_enough_for_the_last_layer() -> None:
    images, _ = cued(200)

    class Many(Halves):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(12, 200)
            with torch.no_grad():
                # An image's own class is the nearest of the features.
                z = self.read(images)
                self.head.weight.copy_(40 * z)
                self.head.bias.copy_(-20 * z.square().sum(1))

        def read(self, x: Tensor) -> Tensor:
            return torch.relu(self.norm(self.stem(x))).flatten(1)

    found = repaired(Many(), batches(images, torch.arange(200)), how="ridge", max_clean_loss=1.0)
    assert found.before.n == 40
    assert found.before.clean == 1.0
    assert found.after.exchanged >= found.before.exchanged


def test_one_image_of_a_class_is_no_hindrance() -> None:
    keep = torch.cat([torch.nonzero(LABELS != 2).flatten(), torch.nonzero(LABELS == 2)[:1].flatten()])
    found = repaired(Halves(), batches(IMAGES[keep], LABELS[keep]), how="logistic", max_clean_loss=0.02)
    # The one image was not held out.
    assert np.isnan(found.before.recall[2])
    assert found.before.counts.tolist() == [20, 20, 0]
    assert found.facts()["before"]["recall"][2] is None
    assert found.accepted
