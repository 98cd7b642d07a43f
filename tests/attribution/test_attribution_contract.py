"""One contract over the registry: every attribution method on every network is right, or an error that says why."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from experiments.attribution_table import networks
from experiments.attribution_table import run as attribution_table
from experiments.attribution_table.networks import NETWORKS, QUICK, images, network
from interpnet.attribution import Attribution, AttributionCall, attribute, attribute_full, methods
from interpnet.attribution import _registry as registry
from interpnet.errors import InterpNetError, ModelError

METHODS = {m.name: m for m in methods()}

#: The methods that cannot be right on a network, with what they must name. Nothing else may refuse.
REFUSED = {
    ("vgg11_bn", "cam"): "'features.27'",
    ("mobilenet_v3_small", "cam"): "'features.8.2'",
    ("vit_b_16", "cam"): "self_attention:matmul'",
    ("convnext_tiny", "cam"): "'classifier.0'",
    ("deit_tiny", "cam"): "attn:matmul'",
    ("maxvit_tiny", "cam"): "'head.norm'",
}
HEAVY = {"vgg11_bn", "densenet121", "googlenet", "efficientnet_b0"}  # marked slow
TWICE = {
    "mobilenet_v3_small",
    "vit_b_16",
}  # run once more: gates and attention; the small network has a test of its own
ONLY_IN_TABLE = set(NETWORKS[NETWORKS.index("vit_b_16") + 1 :])  # their operators are those of the others
CONTRACT = [n for n in NETWORKS if n not in ONLY_IN_TABLE]
PAIRS = [(n, m) for n in CONTRACT for m in METHODS]


def pairs(which: Callable[[str, str], bool] = lambda _n, _m: True) -> list[Any]:
    """Return the pairs of network and method, network by network, so that each network is built once."""
    return [
        pytest.param(n, m, id=f"{n}-{m}", marks=[pytest.mark.slow] if n in HEAVY else [])
        for n, m in PAIRS
        if which(n, m) and (n, m) not in REFUSED
    ]


def claims(axiom: str) -> Callable[[str, str], bool]:
    return lambda _n, m: axiom in METHODS[m].axioms


def net(name: str) -> nn.Module:
    return network(name, double=True, narrow=True)


def run(name: str, method: str, x: Tensor | None = None, target: Any = None, **more: Any) -> Attribution:
    x = images(double=True) if x is None else x
    return attribute_full(net(name), x, target, method, **{**QUICK.get(method, {}), **more})


def state(model: nn.Module) -> dict[str, Any]:
    """Return all of a model that a method could leave changed."""
    hooks = [
        len(getattr(m, f"_{kind}"))
        for m in model.modules()
        for kind in ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
    ]
    return {
        "modules": [(n, id(m), type(m), m.training, id(type(m).forward)) for n, m in model.named_modules()],
        "patched": [k for m in model.modules() for k in vars(m) if k == "forward"],
        "hooks": hooks,
        "flags": [(n, id(p), p.requires_grad, p.grad is None) for n, p in model.named_parameters()],
        "weights": model.state_dict(),
    }


@lru_cache(maxsize=1)
def kept_state(model: nn.Module) -> dict[str, Any]:
    """Return the state of a model with copies of its weights, made once: no test may leave anything changed."""
    kept = state(model)
    kept["weights"] = {k: v.clone() for k, v in kept["weights"].items()}
    return kept


def assert_same_state(a: dict[str, Any], b: dict[str, Any]) -> None:
    for part in ("modules", "patched", "hooks", "flags"):
        assert a[part] == b[part], part
    assert a["weights"].keys() == b["weights"].keys()
    for k, v in a["weights"].items():
        assert torch.equal(v, b["weights"][k]), k


@lru_cache(maxsize=1)
def plain_gradient(name: str) -> Tensor:
    raw = run(name, "gradient").raw
    assert raw is not None
    return raw


@pytest.mark.parametrize(("name", "method"), pairs())
def test_right_on_every_network(name: str, method: str) -> None:
    model = net(name)
    x = images(double=True)
    before = kept_state(model)
    kept = x.clone()
    random_state = torch.get_rng_state()
    found = run(name, method, x)

    assert found.maps.shape == (2, 64, 64)
    assert found.maps.dtype == torch.float64
    assert not found.maps.requires_grad
    assert torch.isfinite(found.maps).all()
    assert all(float(m.std()) > 0 for m in found.maps), "a map is constant"
    if found.raw is not None:
        assert found.raw.shape == x.shape
        assert torch.isfinite(found.raw).all()
    assert (found.residual is None) == (not found.residual_kind) == (found.flagged is None)
    if found.residual is not None and found.flagged is not None:
        assert found.residual.shape == found.flagged.shape == (2,)
        assert found.flagged.dtype == torch.bool
        assert torch.isfinite(found.residual).all()
        assert bool((found.residual >= 0).all())

    assert torch.equal(x, kept), "the images were changed"
    assert torch.equal(torch.get_rng_state(), random_state), "the caller's random state was changed"
    assert_same_state(before, state(model))

    axioms = METHODS[method].axioms
    assert found.residual is not None or not axioms & {"exact", "conservation", "completeness"}
    if "exact" in axioms:
        assert found.residual is not None
        assert float(found.residual.max()) < 1e-4
        assert found.flagged is not None
        assert not found.flagged.any()
    if "not-gradient" in axioms:
        assert found.raw is not None
        cosine = torch.cosine_similarity(found.raw.flatten(1), plain_gradient(name).flatten(1))
        assert float(cosine.abs().max()) < 0.999, "the rule is the plain gradient"

    alone = run(name, method, x[1:])
    size = float(found.maps[1].abs().max())
    torch.testing.assert_close(alone.maps[0], found.maps[1], rtol=1e-6, atol=1e-9 * size)
    if name in TWICE:
        assert torch.equal(run(name, method, x[1:]).maps, alone.maps), "two runs differ"


@pytest.mark.parametrize(
    ("name", "method"), [pytest.param(*p, id="-".join(p)) for p in REFUSED if p[0] not in ONLY_IN_TABLE]
)
def test_refuses_and_names_the_operator(name: str, method: str) -> None:
    model = net(name)
    before = kept_state(model)
    with pytest.raises(ModelError, match=REFUSED[name, method]):
        run(name, method)
    assert_same_state(before, state(model))


@pytest.mark.parametrize(("name", "method"), pairs(claims("completeness")))
def test_completeness_improves_with_steps(name: str, method: str) -> None:
    # The error itself: relative to a score's difference, which is near zero by chance here, it would mostly be noise.
    model = net(name)
    x = images(double=True)
    with torch.no_grad():
        logits = model(x.clone())
        blank = model(torch.zeros_like(x))
    expected = (logits - blank).gather(1, logits.argmax(1, keepdim=True))[:, 0]

    def error(steps: int) -> float:
        raw = run(name, method, steps=steps).raw
        assert raw is not None
        return float((raw.sum((1, 2, 3)) - expected).abs().sum())

    few = error(4)
    many = error(64)
    assert many < 0.5 * few or many < 1e-10


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in HEAVY else []) for n in CONTRACT if (n, "cam") not in REFUSED],
)
def test_gradcam_is_cam_on_networks_that_average_globally(name: str) -> None:
    found = run(name, "cam", relu=False)
    cam = found.maps.flatten(1)
    grad = run(name, "gradcam", relu=False, layer=found.info["layer"]).maps.flatten(1)
    factor = (cam * grad).sum(1) / (cam * cam).sum(1)
    assert bool((factor > 0).all())
    torch.testing.assert_close(factor[:, None] * cam, grad, rtol=1e-7, atol=1e-9 * float(grad.abs().max()))


class Functions(TorchFunctionMode):
    """Collects the functions of torch that run; of a convolution also its kernel, stride and grouping."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[Any] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ == "conv2d":
            self.found.add((args[1].shape[2:], args[3], args[6] > 1))
        elif func.__name__ != "__get__":
            self.found.add(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", networks.NARROW)
def test_a_narrow_network_has_every_operator_of_the_whole_one(name: str) -> None:
    found = []
    for make in (lambda: networks.whole(name), networks.NARROW[name]):
        with torch.device("meta"), Functions() as seen:
            model = make().eval()
            seen.found.clear()  # what drew the weights
            model(torch.zeros(2, 3, 64, 64))
        found.append(seen.found)
    assert found[0] == found[1]


# The rest depends on the method, not on the network: the small one with strides is enough.


@pytest.mark.parametrize("method", METHODS)
def test_knows_its_target_or_says_that_it_does_not(method: str) -> None:
    one, other = (run("strided", method, target=t).maps for t in ([0, 1], [2, 3]))
    assert torch.equal(one, other) == ("ignores-target" in METHODS[method].axioms)


@pytest.mark.parametrize("method", METHODS)
def test_one_target_a_sample(method: str) -> None:
    x = images(double=True)
    both = run("strided", method, x, torch.tensor([3, 1])).maps
    torch.testing.assert_close(run("strided", method, x[:1], 3).maps[0], both[0], rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(run("strided", method, x[1:], 1).maps[0], both[1], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", [1, 3])
def test_max_batch_is_kept_and_changes_nothing(method: str, limit: int) -> None:
    model = net("strided")
    x = images(4, double=True)
    sizes = []
    handle = model.register_forward_pre_hook(lambda _m, args: sizes.append(len(args[0])))
    try:
        free = run("strided", method, x)
        sizes.clear()
        held = run("strided", method, x, max_batch=limit)
    finally:
        handle.remove()
    assert 0 < max(sizes) <= limit
    size = float(free.maps.abs().max())
    torch.testing.assert_close(held.maps, free.maps, rtol=1e-6, atol=1e-9 * size)
    assert held.info.keys() == free.info.keys()
    if free.residual is not None:
        torch.testing.assert_close(held.residual, free.residual, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_matters_to_methods_that_draw_and_to_no_others(method: str) -> None:
    first, same, other = (run("strided", method, seed=s).maps for s in (0, 0, 1))
    assert torch.equal(first, same)
    assert torch.equal(first, other) == ("samples" not in METHODS[method].needs)


@pytest.mark.parametrize("method", [m.name for m in methods() if "samples" in m.needs])
def test_images_differ_in_their_noise(method: str) -> None:
    draws = run("strided", "random", images(2, double=True)).maps
    assert not torch.equal(draws[0], draws[1])
    x = images(1, double=True).repeat(2, 1, 1, 1)
    twins = run("strided", method, x, 1).maps
    torch.testing.assert_close(twins[0], twins[1], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_untouched_after_an_exception(method: str) -> None:
    model = net("strided")
    calls = [0]
    before = kept_state(model)

    def output(logits: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] > 1:
            raise KeyError("on the way")
        return logits

    try:
        run("strided", method, output=output)
    except ModelError:
        pass
    else:
        assert calls[0] == 1, "the exception was swallowed"
    assert_same_state(before, state(model))


class Live(TorchDispatchMode):
    """Counts the bytes of tensors alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in tree_iter(out):
            if isinstance(t, Tensor) and t._base is None:
                storage = t.untyped_storage()
                if not hasattr(storage, "_counted"):
                    storage._counted = True
                    self._change(storage.nbytes())
                    weakref.finalize(storage, self._change, -storage.nbytes())
        return out

    def _change(self, n: int) -> None:
        self.now += n
        self.most = max(self.most, self.now)


STEPS = ("steps", "samples", "orders")


@pytest.mark.parametrize("method", [m.name for m in methods() if set(STEPS) & set(m.options)])
def test_memory_does_not_grow_with_steps(method: str) -> None:
    name = next(s for s in STEPS if s in METHODS[method].options)

    def peak(n: int) -> int:
        with Live() as live:
            run("strided", method, max_batch=2, **{name: n})
        assert live.most > 2 * 3 * 64 * 64 * 8, "nothing was counted"
        return live.most

    peak(2)
    assert peak(64) < 1.1 * peak(8)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Nothing here may depend on what ran before: each test starts without gradients recorded."""
    with torch.no_grad():
        yield


def test_the_command_writes_the_table_and_fails_where_a_method_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def constant(call: AttributionCall) -> Attribution:
        return Attribution(torch.ones_like(call.images[:, 0]))

    def refusing(call: AttributionCall) -> Attribution:
        raise ModelError("no rule for 'fold' at 'head'")

    kept = [METHODS["gradient"], METHODS["deeplift"]]
    monkeypatch.setattr(attribution_table, "NETWORKS", ("strided",))
    monkeypatch.setattr(attribution_table, "methods", lambda: kept)
    out = tmp_path / "table.md"
    where = ["--out", str(out), "--results", str(tmp_path / "results.json")]
    assert attribution_table.main(where) == 0
    page = out.read_text(encoding="utf-8")
    assert "| `gradient` | gradient | 3 | right |" in page
    assert "| `deeplift` | relevance | 4 | right, < 1e-9 |" in page
    assert "## Refusals" not in page

    for name, run in (("constant", constant), ("refusing", refusing)):
        made = replace(METHODS["gradient"], name=name, run=run)
        monkeypatch.setitem(registry.METHODS, name, made)
        kept.append(made)
    assert attribution_table.main(where) == 1
    page = out.read_text(encoding="utf-8")
    assert "| `constant` | gradient | 3 | **wrong** |" in page
    assert "| `refusing` | gradient | 3 | refused [1] |" in page
    assert "1. `refusing` on strided: no rule for 'fold' at 'head'" in page


def test_the_table_in_the_docs_is_of_these_methods_and_networks() -> None:
    page = (Path(attribution_table.__file__).parents[2] / "docs" / "attribution-table.md").read_text(encoding="utf-8")
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")]
    again = f"run: {attribution_table._COMMAND}"
    assert rows[0][3:] == list(NETWORKS), again
    assert [r[0].strip("`") for r in rows[2:]] == list(METHODS), again
    cells = {(n, r[0].strip("`")): cell for r in rows[2:] for n, cell in zip(NETWORKS, r[3:], strict=True)}
    assert {k for k, cell in cells.items() if cell.startswith("refused")} == set(REFUSED), again
    assert all(cell.startswith(("right", "refused")) for cell in cells.values()), again


def test_the_registry_says_what_each_method_is() -> None:
    for m in methods():
        assert m.name
        assert m.family
        assert m.paper
        assert m.run.__doc__, m.name
        price = m.price()
        assert (isinstance(price, str) and price) or price >= 0
        kinds = {"baseline", "layer", "samples"}
        assert all(need in kinds or need.startswith("extra:") for need in m.needs), m.needs
    assert {"random", "edge", "center"} <= METHODS.keys()
    with pytest.raises(InterpNetError, match="unknown method"):
        attribute(network("strided"), images(), 0, "nothing")
