"""Networks that hold no values, no floats or no Python code: right, or one line that says what to pass."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import QuantWrapper

from interpnet.attribution import attribute
from interpnet.engine import Channel, find_sites, resolve_device, unwrap
from interpnet.errors import ModelError
from interpnet.explanation import channel_heatmap
from interpnet.models import describe_model
from interpnet.scores import collect_scores


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()


def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def scores(model: nn.Module) -> Tensor:
    return torch.from_numpy(collect_scores(model, [(images(), torch.arange(4))], progress=False).X)


def quantised(kind: str) -> nn.Module:
    """Return the network prepared for quantisation, quantised, or with quantisation faked."""
    ao = torch.ao.quantization
    backend = torch.backends.quantized.supported_engines[-1]
    torch.backends.quantized.engine = backend
    with warnings.catch_warnings():
        # The whole of torch.ao.quantization is deprecated, and in use.
        warnings.simplefilter("ignore")
        if kind == "dynamic":
            flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
            return ao.quantize_dynamic(flat, {nn.Linear}, dtype=torch.qint8)
        if kind.startswith("fx"):
            from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

            model = prepare_fx(net(), ao.get_default_qconfig_mapping(backend), (images(),))
            model(images())
            return convert_fx(model)
        model = QuantWrapper(net())
        if kind.startswith("fake"):
            model.train()
            model.qconfig = ao.get_default_qat_qconfig(backend)
            ao.prepare_qat(model, inplace=True)
            model(images())
            if kind == "fake":
                model.apply(ao.disable_observer)
            return model.eval()
        model.qconfig = ao.get_default_qconfig(backend)
        ao.prepare(model, inplace=True)
        model(images())
        if kind == "static":
            return ao.convert(model)
        return model


@pytest.mark.parametrize("kind", ["static", "dynamic", "fx"])
def test_quantised_networks_are_refused_with_the_part(kind: str) -> None:
    model = quantised(kind)
    with pytest.raises(ModelError, match=r"quantised: it.*Pass the floating-point model"):
        scores(model)
    with pytest.raises(ModelError, match=r"quantised: it.*Pass the floating-point model"):
        channel_heatmap(model, images(), Channel("1", 0))
    assert len(describe_model("net.py:make".replace(".py", ""), None, model).fingerprint) == 64


def test_fingerprints_of_quantised_networks_tell_them_apart() -> None:
    model = quantised("static")
    other = quantised("static")
    assert describe_model("net", None, model).fingerprint == describe_model("net", None, other).fingerprint
    linear = other.module[4]
    weight, bias = linear._packed_params._weight_bias()
    again = torch.quantize_per_tensor(weight.dequantize() * 2, 0.01, 0, torch.qint8)
    linear.set_weight_bias(again, bias)
    assert describe_model("net", None, model).fingerprint != describe_model("net", None, other).fingerprint


def test_observers_and_fake_quantisation_are_read_as_they_compute() -> None:
    prepared = quantised("prepared")
    before = {name: value.clone() for name, value in prepared.state_dict().items()}
    torch.testing.assert_close(scores(prepared), scores(net()))
    assert all(torch.equal(value, before[name]) for name, value in prepared.state_dict().items())
    fake = quantised("fake")
    assert [site.name for site in find_sites(fake, images()).select()] == ["module.1"]
    assert channel_heatmap(fake, images(), Channel("module.1", 0)).abs().sum() > 0
    with pytest.raises(ModelError, match=r"observer of fake quantisation.*disable_observer"):
        scores(quantised("fake, observed"))


EMPTY: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)), "is lazy; run the"),
    "a lazy part": (lambda: nn.Sequential(*net()[:4], nn.LazyLinear(4)), "'4.weight' has no shape yet"),
    "meta": (lambda: net().to("meta"), "'0.weight' is on the device 'meta'"),
    "a part on meta": (lambda: nn.Sequential(*net()[:4], nn.Linear(8, 4, device="meta")), "'4.weight' is on the dev"),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_networks_without_values_are_refused_everywhere(kind: str) -> None:
    make, said = EMPTY[kind]
    for run in (
        lambda: find_sites(make(), images()),
        lambda: scores(make()),
        lambda: attribute(make(), images(), 0, "gradient"),
        lambda: channel_heatmap(make(), images(), Channel("1", 0)),
        lambda: describe_model("net", None, make()),
    ):
        with pytest.raises(ModelError, match=said):
            run()


def test_exported_programs_say_what_to_pass_and_traced_graphs_work() -> None:
    program = torch.export.export(net(), (images(),))
    with pytest.raises(ModelError, match=r"ExportedProgram; expected a torch.nn.Module: the Python module"):
        unwrap(program)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"was exported: it calls aten.conv2d.default"):
        scores(program.module())
    with pytest.raises(ModelError, match=r"an instance, such as Linear\(\)"):
        unwrap(nn.Linear)  # type: ignore[arg-type]
    assert torch.equal(scores(torch.fx.symbolic_trace(net())), scores(net()))


def test_networks_made_under_inference_mode_are_scored_and_not_explained() -> None:
    with torch.inference_mode():
        model = net()
    assert torch.equal(scores(model), scores(net()))
    for run in (
        lambda: channel_heatmap(model, images(), Channel("1", 0)),
        lambda: attribute(model, images(), 0, "gradient"),
    ):
        with pytest.raises(ModelError, match=r"made under torch.inference_mode\(\).*deepcopy"):
            run()
    made = copy.deepcopy(model)
    assert channel_heatmap(made, images(), Channel("1", 0)).shape == (4, 8, 8)


@pytest.mark.parametrize("device", ["hpu", "xpu", "vulkan", "ipu", "cpu:7", "meta", "cuda:99"])
def test_devices_that_are_not_here_are_refused(device: str) -> None:
    with pytest.raises(ModelError, match=f"device='{device}' was asked for.*use device='cpu'"):
        resolve_device(device)
    assert resolve_device("cpu:0").type == "cpu"
