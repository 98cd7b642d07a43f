"""Several outputs merged into one class: the names, the folders, and numbers like those of a network that merges."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_audit import folder_of_images, manifest
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.groups import Merged, grouped
from torch import Tensor, nn

from interpnet.ablation import ablation_study
from interpnet.attribution import attribute, attribute_full
from interpnet.engine import find_sites, log_odds
from interpnet.errors import InterpNetError, ModelError
from interpnet.explanation import explain
from interpnet.interpretation import interpret
from interpnet.reliance import collect_contributions
from interpnet.scores import collect_scores

LISTED = ("ant", "beagle", "cat", "collie", "dalmatian")


def data(*classes: str) -> Any:
    return SimpleNamespace(classes=classes, spec="x", numbered=False)


@pytest.fixture
def names(tmp_path: Path) -> str:
    (tmp_path / "names.txt").write_text("\n".join(LISTED))
    return str(tmp_path / "names.txt")


# --- names and folders ------------------------------------------------------------------------------------


def test_groups_come_first_and_folders_of_members_and_of_the_group_are_its_own(names: str) -> None:
    config = RunConfig(classes=names, group=("dogs=beagle, 4", "pets=cat,collie"))
    found = grouped(data("dalmatian", "ant", "dogs", "beagle", "cat"), 5, config)
    assert found.names == ("dogs", "pets", "ant")
    assert found.of_data.tolist() == [0, 2, 0, 0, 1]
    assert found.outputs == ((1, 4), (2, 3))
    assert found.groups == {"dogs": ("beagle", "dalmatian"), "pets": ("cat", "collie")}


def test_without_a_list_the_folders_are_the_outputs() -> None:
    found = grouped(data("b", "a", "c"), 3, RunConfig(group=("b=b,c",)))
    assert (found.names, found.of_data.tolist()) == (("b", "a"), [0, 1, 0])
    assert grouped(data("b", "a"), 2, RunConfig()).names == ("b", "a")


def test_classes_that_are_numbers_have_the_names_that_are_listed() -> None:
    numbered = SimpleNamespace(classes=("0", "1", "2"), spec="x", numbered=True)
    found = grouped(numbered, 3, RunConfig(group=("pets=bee,1",)), ["ant", "cat", "bee"])
    assert (found.names, found.of_data.tolist()) == (("pets", "ant"), [1, 0, 0])


def test_imagenets_classes_are_members_by_name_id_and_number() -> None:
    pytest.importorskip("timm", reason="WordNet ids come from timm")
    config = RunConfig(classes="imagenet", group=("dogs=Beagle,n02106030,207",))
    found = grouped(data("n02106030", "dogs", "goose"), 1000, config)
    assert found.names[:2] == ("dogs", "tench")
    assert len(found.names) == 998
    assert found.groups == {"dogs": ("beagle", "collie", "golden retriever")}
    assert found.outputs == ((162, 231, 207),)
    assert found.of_data.tolist()[:2] == [0, 0]
    assert found.names[found.of_data[2]] == "goose"


@pytest.mark.parametrize(
    ("group", "match"),
    [
        (("dogs=beagle,colie",), "--group dogs: unknown class 'colie'; did you mean 'collie'"),
        (("dogs=beagle,9",), "--group dogs: class 9 does not exist; expected 0 to 4"),
        (("dogs=beagle,collie", "pets=cat,collie"), "--group: 'collie' is in two groups"),
        (("dogs=beagle,collie,1",), "--group: 'beagle' is in dogs twice"),
        (("dogs=beagle,collie", "dogs=cat,ant"), "--group: two groups are called 'dogs'"),
        (("cat=beagle,collie",), "--group cat: another class is called so; give the group another name"),
        (("dogs=beagle",), "--group dogs has 1 members; expected NAME=CLASS,CLASS, .* at least two"),
        (("dogs=",), "--group dogs has 0 members"),
        (("beagle,collie",), "--group is 'beagle,collie'; expected NAME=CLASS,CLASS, such as"),
        (("=beagle,collie",), "--group is '=beagle,collie'; expected NAME=CLASS,CLASS"),
        (("all=0,1,2,3,4",), "--group: every class is in one group, so there is none left to tell it from"),
    ],
)
def test_groups_that_cannot_be_are_refused(group: tuple[str, ...], match: str, names: str) -> None:
    with pytest.raises(InterpNetError, match=match):
        grouped(data("beagle", "cat"), 5, RunConfig(classes=names, group=group))


@pytest.mark.parametrize(
    ("member", "match"),
    [
        ("tenche", "--group fish: class 'tenche' is none of ImageNet's 1,000; did you mean 'tench'"),
        ("1000", "--group fish: class 1000 does not exist; expected 0 to 999"),
    ],
)
def test_members_that_are_none_of_imagenets_are_refused(member: str, match: str) -> None:
    with pytest.raises(InterpNetError, match=match):
        grouped(data("goose"), 1000, RunConfig(classes="imagenet", group=(f"fish=goldfish,{member}",)))


# --- numbers ----------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.out = nn.Linear(8, 5)
        for p in self.parameters():
            p.data = 0.4 * torch.randn(p.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.out(x.mean((2, 3)))


class Wrapped(nn.Module):
    """The same network with a class of its outputs 1 and 3, worked out by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        dogs = torch.log(z[:, 1].exp() + z[:, 3].exp())
        return torch.stack([dogs, z[:, 0], z[:, 2], z[:, 4]], 1)


MERGED = Merged(((1, 3),), 5)


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(6)
    x = torch.rand(16, 3, 10, 10, generator=generator)
    return list(zip(x.split(8), (torch.arange(16) % 4).split(8), strict=True))


def renamed(names: Any) -> Any:
    """Return sites' names of the wrapped network as the network itself has them."""
    return [str(name).replace("net:", "").replace("net.", "") for name in names]


def test_a_groups_probability_is_the_sum_of_its_members() -> None:
    logits = torch.randn(50, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 8
    p = logits.softmax(1)
    merged = MERGED(logits)
    expected = torch.stack([p[:, 1] + p[:, 3], p[:, 0], p[:, 2], p[:, 4]], 1)
    torch.testing.assert_close(merged.softmax(1), expected, rtol=1e-12, atol=1e-15)
    odds = log_odds(merged, torch.zeros(50, dtype=torch.int64))
    torch.testing.assert_close(odds, (expected[:, 0].log() - (expected[:, 1:].sum(1)).log()), rtol=1e-9, atol=1e-9)


def test_half_precision_does_not_lose_members() -> None:
    merged = Merged(((0, 1),), 3)(torch.tensor([[12.0, 4.0, 0.0]], dtype=torch.float16))
    assert merged.dtype == torch.float32
    assert float(merged[0, 0]) == pytest.approx(np.logaddexp(12, 4), rel=1e-6)


def test_what_the_network_returns_is_taken_first_and_must_fit() -> None:
    merged = Merged(((0, 1),), 3, take=lambda result: result["logits"])
    assert merged({"logits": torch.zeros(2, 3)}).shape == (2, 2)
    with pytest.raises(ModelError, match=r"--group: the model returned logits of shape \(2, 4\); expected \(B, 3\)"):
        merged({"logits": torch.zeros(2, 4)})


def test_every_number_is_that_of_a_network_that_merges_itself() -> None:
    net = Net().eval()
    wrapped = Wrapped().eval()
    given = batches()
    x = given[0][0][:4]
    ours = find_sites(net, x, output=MERGED)
    theirs = find_sites(wrapped, x)
    assert ours.n_outputs == theirs.n_outputs == 4
    # The members' logits are no channels: they are the label.
    assert list(ours.index().layers) == renamed(theirs.index().layers) == ["relu", "relu:1"]
    scores = [
        collect_scores(net, given, output=MERGED, progress=False),
        collect_scores(wrapped, given, progress=False),
    ]
    np.testing.assert_array_equal(scores[0].X, scores[1].X)
    np.testing.assert_array_equal(scores[0].predictions, scores[1].predictions)
    contributions = [
        collect_contributions(net, given, output=MERGED, progress=False),
        collect_contributions(wrapped, given, progress=False),
    ]
    np.testing.assert_allclose(contributions[0].mean, contributions[1].mean, rtol=1e-4, atol=1e-6)
    found = [interpret(one, price=0.5) for one in contributions]
    assert np.count_nonzero(found[0].coef[0]) > 0
    explained = [
        explain(net, x, found[0], classes=[0, 0, 1, 2], seed="contribution", output=MERGED),
        explain(wrapped, x, found[1], classes=[0, 0, 1, 2], seed="contribution"),
    ]
    torch.testing.assert_close(explained[0].combined, explained[1].combined, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(explained[0].confidences, explained[1].confidences, rtol=1e-5, atol=1e-6)
    for method in ("gradient", "gradcam++", "integrated_gradients"):
        maps = attribute(net, x, torch.tensor([0, 0, 1, 2]), method, output=MERGED)
        expected = attribute(wrapped, x, torch.tensor([0, 0, 1, 2]), method)
        torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    studies = [
        ablation_study(net, given, found[0], output=MERGED, progress=False),
        ablation_study(wrapped, given, found[1], progress=False),
    ]
    for one, other in zip(studies[0].conditions, studies[1].conditions, strict=True):
        np.testing.assert_array_equal(one.own, other.own)
        np.testing.assert_allclose(
            one.changes["log_odds"].own.mean, other.changes["log_odds"].own.mean, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("method", ["lrp_gamma", "lrp_epsilon", "lrp_epsilon_plus_flat"])
def test_the_relevance_of_a_group_is_shared_among_its_members(method: str) -> None:
    """By their share of the group's probability: what each member gets is what LRP sends from it alone."""
    net = Net().eval()
    x = batches()[0][0]
    logits = net(x).detach()
    group = list(MERGED.groups[0])
    shares = logits[:, group].softmax(1)
    merged = logits[:, group].logsumexp(1)
    found = attribute(net, x, torch.zeros(8, dtype=torch.int64), method, output=MERGED, reduction="sum")
    # LRP is linear in the relevance that it starts with, which of a member alone is its logit.
    expected = torch.zeros_like(found)
    for member, share in zip(group, shares.T, strict=True):
        alone = attribute(net, x, torch.full((8,), member), method, reduction="sum")
        expected += (share * merged / logits[:, member])[:, None, None] * alone
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_deeplift_goes_through_what_merges() -> None:
    x = batches()[0][0]
    found = attribute_full(Net().eval(), x, torch.zeros(8, dtype=torch.int64), "deeplift", output=MERGED)
    assert float(found.residual.max()) < 1e-3


def test_maps_of_a_group_start_from_its_relevance() -> None:
    given = batches()
    found = interpret(collect_contributions(Net().eval(), given, output=MERGED, progress=False), price=0.5)
    explained = explain(Net().eval(), given[0][0], found, classes=[0] * 8, seed="relevance", output=MERGED)
    assert float(explained.combined.max()) > 0


# --- a run ------------------------------------------------------------------------------------------------

NETWORK = """
from torch import nn


def make():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    return net
"""


def test_a_run_with_groups_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "names.txt").write_text("class 0\nclass 1\nclass 2\nother\n")
    folder_of_images(tmp_path / "images", 3, each=3)
    for split in ("train", "test"):
        (tmp_path / "images" / split / "class 1").rename(tmp_path / "images" / split / "bright")
    common = ["collect", "net.py:make", "imagefolder:images", "--classes", "names.txt", "--out", "run", "--anyway"]
    assert main([*common, "--group", "bright=class 1,class 2"]) == 0
    facts = manifest(tmp_path / "run")
    assert facts["model"]["classes"] == ["bright", "class 0", "other"]
    assert facts["model"]["n_outputs"] == 3
    assert facts["model"]["groups"] == {"bright": ["class 1", "class 2"]}
    labels = np.fromfile(tmp_path / "run" / "scores" / "labels.bin", np.int64)
    assert np.bincount(labels, minlength=3).tolist() == [6, 3, 0]
    assert any(note.startswith("Class bright: class 1, class 2, merged") for note in facts["notes"])
    assert 'group = [\n    "bright=class 1,class 2",\n]' in (tmp_path / "run" / "run.toml").read_text()
    capsys.readouterr()
    # Goes on by itself, and not with other members.
    assert main(["collect", "--out", "run"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert main(["collect", "--out", "run", "--group", "bright=class 1,other", "--group", "dark=class 0,class 2"]) == 2
    assert "another list of classes" in capsys.readouterr().err
