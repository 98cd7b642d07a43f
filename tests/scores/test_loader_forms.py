"""Every form of a loader in every function: bit for bit the numbers of the plain one, or one line that says what to do.

The table of docs/loaders.md is held to FORMS.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import interpnet as ip
from interpnet.datasets import ImageData
from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import InterpNetError
from interpnet.pictures import embed

NAMES = ("cat", "dog", "emu")
N = 12
# 0, 1, ..., 255: half precision and bytes hold them as they are.
BYTES = torch.randint(0, 256, (N, 3, 6, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
X = BYTES.float()
Y = torch.tensor([0, 1, 2, 1, 0, 2, 0, 1, 2, 0, 0, 1])
ONE_HOT = torch.eye(3)[Y]


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return net.eval()


NET = network()
FOUND = ip.Interpretation(ChannelIndex((("1", 4),)), np.arange(12.0).reshape(3, 4) - 5, NAMES)
CONTRIBUTIONS = ip.collect_contributions(NET, [(X, Y)], classes=NAMES, progress=False)


class Items(Dataset[Any]):
    """A map-style data set of (image, label); an index past the end is no IndexError."""

    def __init__(self, images: Any, labels: Any = None) -> None:
        self.images = images
        self.labels = Y.tolist() if labels is None else labels

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        return self.images[i % N], self.labels[i % N]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(X[i], int(Y[i])) for i in range(N)])


def pillow() -> list[Image.Image]:
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in BYTES]


def to_tensors(images: list[Image.Image]) -> Tensor:
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1).float() for image in images])


def image_data() -> ImageData:
    return ImageData.from_dataset(TensorDataset(X, Y), NAMES)


def hugging_face(style: str | None = None) -> Any:
    # The tests' own folder of that name is found where the package is not installed.
    hugging = pytest.importorskip("datasets")
    if not hasattr(hugging, "Features"):
        pytest.skip("the package datasets is not installed")
    kind = hugging.Array3D((3, 6, 6), "float32")
    values: Any = X.numpy()
    if style is None:
        kind = hugging.Image()
        values = pillow()
    features = hugging.Features({"image": kind, "label": hugging.ClassLabel(names=list(NAMES))})
    with warnings.catch_warnings():
        # Its hash of the data warns of classes that it cannot pickle.
        warnings.simplefilter("ignore")
        made = hugging.Dataset.from_dict({"image": values, "label": Y.tolist()}, features=features)
        return made.with_format(style)


@dataclass(frozen=True)
class Form:
    """A way to give images and labels, with what it needs, and what each function says: nothing where it is right."""

    words: str
    make: Callable[[], Any]
    options: dict[str, Any] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)


def every(message: str) -> dict[str, str]:
    return dict.fromkeys(LOADED, message)


LOOP = dict.fromkeys(("explain", "attribute"), "for images, labels in loader: ")
LOADED = ("collect_scores", "collect_contributions", "measure_reliance", "ablation_study", "embed")
NO_LABELS = {
    "collect_scores": "the loader yields no labels",
    "collect_contributions": "the loader yields no labels; .* targets='predictions'",
    "measure_reliance": "the loader yields no labels; .* contributions of predictions",
    "ablation_study": "the loader yields no labels",
}
NEEDS_NAMES = {
    "collect_scores": r"labels are names .*pass classes=\[",
    "collect_contributions": r"labels are names .*pass classes=\[",
    "embed": r"labels are names .*pass classes=\[",
}
FORMS = [
    Form("a DataLoader", lambda: DataLoader(TensorDataset(X, Y), N)),
    Form("a list of batches (images, labels)", lambda: [(X, Y)]),
    Form("batches (images, labels, anything)", lambda: [(X, Y, ["a.png"] * N, torch.arange(99, 99 + N))]),
    Form("a function start -> batches", lambda: lambda start: [(X[start:], Y[start:])]),
    Form("a dictionary with known keys", lambda: [{"pixel_values": X, "labels": Y}]),
    Form("a dictionary with other keys", lambda: [{"photo": X, "kind": Y}], {"inputs": "photo", "labels": "kind"}),
    Form("... the keys not named", lambda: [{"photo": X, "kind": Y}], {}, every("name its images with inputs=")),
    Form("labels (N, 1)", lambda: [(X, Y[:, None])]),
    Form("labels of any whole-number type", lambda: [(X, Y.to(torch.uint8))]),
    Form("labels as a list or array", lambda: [(X, Y.tolist())]),
    Form("one-hot labels (N, C)", lambda: [(X, ONE_HOT)]),
    Form("names", lambda: [(X, [NAMES[i] for i in Y])], {"classes": NAMES}),
    Form("... classes= not given", lambda: [(X, [NAMES[i] for i in Y])], {}, NEEDS_NAMES),
    Form("labels as floats, for three classes", lambda: [(X, Y.float())], {}, every("labels.long")),
    Form(
        "labels that change their type",
        lambda: [(X[:6], Y[:6]), (X[6:], ONE_HOT[6:])],
        {},
        every("labels changed between batches, at image 6, from class numbers to a target matrix"),
    ),
    Form("images alone", lambda: [X], {}, NO_LABELS),
    Form("a tensor of images", lambda: X, {}, every("loader: a Tensor came")),
    Form("images of float64", lambda: [(X.double(), Y)]),
    Form("images of half precision", lambda: [(X.half(), Y)]),
    Form("bytes", lambda: [(BYTES, Y)], {}, every(r"torch.uint8 came; .*pass prepare=lambda images: images.float\(\)")),
    Form("bytes, with prepare=", lambda: [(BYTES, Y)], {"prepare": Tensor.float}),
    Form("(B, H, W, C)", lambda: [(X.permute(0, 2, 3, 1), Y)], {}, every(r"prepare=lambda images: images.permute\(0")),
    Form("(B, H, W, C), with prepare=", lambda: [(X.permute(0, 2, 3, 1), Y)], {"prepare": lambda x: x.movedim(3, 1)}),
    Form("arrays", lambda: [(X.numpy(), Y.numpy())], {}, every("pass prepare=torch.from_numpy")),
    Form("arrays, with prepare=", lambda: [(X.numpy(), Y.numpy())], {"prepare": torch.from_numpy}),
    Form("a torch Dataset", lambda: Items(X)),
    Form("a list of items (image, label)", lambda: [(X[i], int(Y[i])) for i in range(N)]),
    Form("an IterableDataset of items", Stream),
    Form("an ImageData", image_data),
    Form("a Dataset of Pillow images", lambda: Items(pillow()), {}, every(r"pass prepare=lambda images: torch.stack")),
    Form("... with prepare=", lambda: Items(pillow()), {"prepare": to_tensors}),
    Form("a Hugging Face data set", lambda: hugging_face("torch")),
    Form("... of Pillow images", hugging_face, {}, every(r"pass prepare=lambda images: torch.stack")),
    Form("... of Pillow images, with prepare=", hugging_face, {"prepare": to_tensors}),
]
IDS = [form.words for form in FORMS]


def run(function: str, loader: Any, options: dict[str, Any]) -> list[Any]:
    """Return the numbers that a function makes of a loader."""
    classes = {"classes": options.get("classes")}
    keys = {name: value for name, value in options.items() if name != "classes"} | {"progress": False}
    if function == "collect_scores":
        table = ip.collect_scores(NET, loader, **keys, **classes)
        return [table.X, table.predictions, table.indices]
    if function == "collect_contributions":
        found = ip.collect_contributions(NET, loader, **keys, **classes)
        return [found.mean, found.stderr, found.counts]
    if function == "measure_reliance":
        relied = ip.measure_reliance(NET, loader, CONTRIBUTIONS, **keys)
        return [relied.contributions.mean, relied.sizes, relied.intact]
    if function == "ablation_study":
        study = ip.ablation_study(NET, loader, FOUND, repeats=1, curve=False, single=False, **keys)
        return [study.intact, study.log_odds, study.support, study.condition("relevant").own]
    shown = embed(NET, loader, **keys, **classes)
    return [shown.vectors, shown.predictions, shown.labels]


PLAIN = {function: run(function, [(X, Y)], {}) for function in LOADED}


@pytest.mark.parametrize("function", LOADED)
@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_what_takes_a_loader(form: Form, function: str) -> None:
    loader = form.make()
    if function in form.refusals:
        with pytest.raises(InterpNetError, match=form.refusals[function]):
            run(function, loader, form.options)
        return
    found = run(function, loader, form.options)
    if form.words == "images alone":
        # No function but embed() goes on without labels.
        assert (found.pop() == -1).all()
    for here, plain in zip(found, PLAIN[function], strict=False):
        np.testing.assert_array_equal(here, plain)


TENSORS: dict[str, Callable[[Any], Any]] = {
    "explain": lambda images: ip.explain(NET, images, FOUND).combined,
    "attribute": lambda images: ip.attribute(NET, images, 0, "gradient"),
    "attribute_full": lambda images: ip.attribute_full(NET, images, 0, "gradient").maps,
    "channel_heatmap": lambda images: ip.channel_heatmap(NET, images, Channel("1", 0)),
    "find_sites": lambda images: ip.find_sites(NET, images).n_outputs,
}
NO_TENSORS: list[tuple[str, Callable[[], Any], str]] = [
    ("a DataLoader", lambda: DataLoader(TensorDataset(X, Y), N), r"for images, labels in loader: {}\(model, images"),
    ("a list of batches", lambda: [(X, Y)], r"for images, labels in loader: {}\(model, images"),
    ("a generator", lambda: iter([(X, Y)]), r"for images, labels in loader: {}\(model, images"),
    ("a batch (images, labels)", lambda: (X, Y), r"images, labels = batch; {}\(model, images"),
    ("a dictionary", lambda: {"id": "a", "photo": X}, r"that is a dictionary: {}\(model, batch\['photo'\]"),
    ("a list of images", lambda: list(X), r"{}\(model, torch.stack\(images\)"),
    ("a torch Dataset", lambda: Items(X), r"for image, label in data: {}\(model, image\[None\]"),
    ("a list of items (image, label)", lambda: [(X[0], 0)], r"for image, label in data: {}\(model, image\[None\]"),
    ("bytes", lambda: BYTES, r"uint8 came; .*images.float\(\) / 255"),
    ("(B, H, W, C)", lambda: X.permute(0, 2, 3, 1), r"pass images.permute\(0, 3, 1, 2\)"),
    ("an array", X.numpy, "torch.from_numpy"),
]


@pytest.mark.parametrize("function", TENSORS)
@pytest.mark.parametrize(("make", "message"), [row[1:] for row in NO_TENSORS], ids=[row[0] for row in NO_TENSORS])
def test_what_takes_images(make: Callable[[], Any], message: str, function: str) -> None:
    with pytest.raises(InterpNetError, match=message.format(function)):
        TENSORS[function](make())


def test_the_page_has_the_same_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "loaders.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    table = {words.strip("` "): [cell.strip() for cell in cells] for words, *cells in rows}
    for form in FORMS:
        cells = table.get(form.words)
        assert cells is not None, f"docs/loaders.md lacks a row {form.words!r}"
        assert [cell == "right" for cell in cells] == [name not in form.refusals for name in LOADED], form.words
    assert len(table) == len(FORMS) + 1, "the head is a row too"
    for words, _, _ in NO_TENSORS:
        assert f"| {words} |" in page


def test_positions_stand_under_a_key_that_is_named() -> None:
    batches = [{"image": X[i : i + 6], "label": Y[i : i + 6], "id": torch.arange(N)[i : i + 6] + 90} for i in (6, 0)]
    table = ip.collect_scores(NET, batches, indices="id", progress=False)
    assert table.indices.tolist() == [*range(96, 102), *range(90, 96)]
    assert ip.collect_scores(NET, batches, progress=False).indices.tolist() == list(range(N))
    for loader, key, message in (
        (batches, "ids", r"indices='ids' is no key of the batch"),
        ([(X, Y)], "id", "indices='id' names a key, and the loader yields a tuple"),
        ([{"image": X, "label": Y, "id": Y - 1}], "id", r"indices='id': shape \(12,\) came; expected 12 positions"),
        ([{"image": X, "label": Y, "id": Y[:3]}], "id", r"indices='id': shape \(3,\) came; expected 12 positions"),
        ([{"image": X, "label": Y, "id": Y / 2}], "id", "indices='id' is .*; expected whole numbers"),
        ([{"image": X, "label": Y, "id": ["a"] * N}], "id", "indices='id' is .*; expected real numbers"),
    ):
        with pytest.raises(InterpNetError, match=message):
            ip.collect_scores(NET, loader, indices=key, progress=False)


def test_a_data_set_is_read_in_batches_of_32() -> None:
    sizes = []

    def count(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return images

    items = [(X[i % N], int(Y[i % N])) for i in range(70)]
    table = ip.collect_scores(NET, items, prepare=count, progress=False)
    assert table.indices.tolist() == list(range(70))
    assert sizes[-3:] == [32, 32, 6]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([(X[0], 0), (X[1, :, :4], 1)], r"images of shapes \(3, 6, 6\) and \(3, 4, 6\); resize them in its transform"),
        ([(X[0], "cat"), (X[1], "dgo")], "image 1 has label 'dgo', which is none of the 3 classes; did you mean 'dog'"),
        ([(X[0], 0), (X[1], "dog")], "labels: .* came; expected class numbers"),
        ([(X[0], 0), (X[1], None)], "the loader yields no labels"),
        ([(X[0], 5)], "image 0 has label 5"),
    ],
)
def test_items_that_do_not_fit(items: Any, message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        ip.collect_scores(NET, items, classes=NAMES, progress=False)


def test_names_that_fit_two_classes_or_the_wrong_number_of_them() -> None:
    twice = ip.Interpretation(FOUND.channels, FOUND.coef, ("cat", "dog", "dog"))
    with pytest.raises(InterpNetError, match="label 'dog', which is the name of 2 classes; give class numbers"):
        ip.ablation_study(NET, [(X, [NAMES[min(i, 1)] for i in Y])], twice, progress=False)
    with pytest.raises(InterpNetError, match="classes has 2 names; the model has 3 outputs"):
        ip.collect_scores(NET, [(X, Y)], classes=["cat", "dog"], progress=False)
    with pytest.raises(InterpNetError, match="classes has 'cat' 2 times"):
        ip.collect_scores(NET, [(X, Y)], classes=["cat", "cat", "dog"], progress=False)


def test_what_prepare_raises_or_returns_is_told() -> None:
    with pytest.raises(InterpNetError, match=r"prepare= failed on a Tensor \(12, 3, 6, 6\) of .*: RuntimeError"):
        ip.collect_scores(NET, [(X, Y)], prepare=lambda x: x.view(1), progress=False)
    with pytest.raises(InterpNetError, match="images: a list came; expected a Tensor"):
        ip.collect_scores(NET, [(X, Y)], prepare=list, progress=False)
    with pytest.raises(InterpNetError, match="prepare is 'bytes'; expected a function"):
        ip.collect_scores(NET, [(X, Y)], prepare="bytes", progress=False)


@pytest.mark.parametrize("name", ["explain", "channel_heatmap", "attribute"])
def test_a_class_by_either_word(name: str) -> None:
    functions: dict[str, Callable[..., Any]] = {
        "explain": lambda **how: ip.explain(NET, X, FOUND, **how).combined,
        "channel_heatmap": lambda **how: ip.channel_heatmap(NET, X, Channel("1", 0), seed="contribution", **how),
        "attribute": lambda **how: ip.attribute(NET, X, method="gradient", **how),
    }
    function = functions[name]
    assert torch.equal(function(target=2), function(classes=2))
    with pytest.raises(InterpNetError, match="both came, which are the same"):
        function(target=2, classes=2)


@pytest.mark.parametrize("rows", [list(ONE_HOT), list(ONE_HOT.numpy()), ONE_HOT.tolist()])
def test_items_with_a_target_each(rows: Any) -> None:
    table = ip.collect_scores(NET, Items(X, rows), progress=False)
    np.testing.assert_array_equal(table.labels, ONE_HOT)
    study = ip.ablation_study(NET, Items(X, rows), FOUND, repeats=1, curve=False, single=False, progress=False)
    np.testing.assert_array_equal(study.log_odds, PLAIN["ablation_study"][1])


def test_a_list_of_items_with_a_target_each_is_told_from_nothing() -> None:
    items = [(X[i], ONE_HOT[i]) for i in range(N)]
    with pytest.raises(InterpNetError, match=r"single images \(C, H, W\), each with its target, go into a DataLoader"):
        ip.collect_scores(NET, items, progress=False)
    table = ip.collect_scores(NET, DataLoader(items, N), progress=False)
    np.testing.assert_array_equal(table.X, PLAIN["collect_scores"][0])


def test_a_dictionary_of_splits_is_no_loader() -> None:
    with pytest.raises(InterpNetError, match=r"loader: a dict came; .*of a dictionary of splits pass one split"):
        ip.collect_scores(NET, {"train": [(X, Y)]}, progress=False)


def test_an_interrupted_collection_of_names_and_bytes_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are known by the images after prepare= and by class numbers, so another form of the same data goes on."""
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", 1)
    names = [NAMES[i] for i in Y]

    def broken() -> Iterator[Any]:
        yield BYTES[:5], names[:5]
        yield BYTES[5:7], names[5:7]
        raise KeyboardInterrupt

    how: dict[str, Any] = {"out": tmp_path, "key": "k", "progress": False, "classes": NAMES}
    with pytest.raises(KeyboardInterrupt):
        ip.collect_scores(NET, broken(), prepare=Tensor.float, **how)
    others = [(X[:5].flip(0), names[:5]), (X[5:], names[5:])]
    with pytest.raises(InterpNetError, match="the first 5 images are not those that an interrupted collection scored"):
        ip.collect_scores(NET, others, **how)
    table = ip.collect_scores(NET, [(X[:7], Y[:7]), (X[7:], Y[7:])], **how)
    np.testing.assert_allclose(table.X, PLAIN["collect_scores"][0], rtol=1e-6)
    assert table.labels.tolist() == Y.tolist()
