"""What comes of images and outputs of every kind: copies, types, logits, and the words of each refusal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from interpnet.engine import Site, Trace, check_dense, check_images, find_sites, finite_images, forward, logits_of
from interpnet.engine._forward import _CONVERSIONS, _remedy, own_copy, parameter_type
from interpnet.errors import DataError, ModelError

X = torch.rand(2, 3)
HALF = nn.Linear(3, 2).half()
WIDE = nn.Linear(3, 2)
REMEDIES: list[tuple[nn.Module, Tensor, str, str]] = [
    (HALF, X, "\"addmm\" not implemented for 'Half'", "The CPU lacks this operator for this type"),
    (nn.Linear(3, 2).bfloat16(), X, "not implemented", "The CPU lacks this operator for this type"),
    (WIDE, X, "not implemented", "Give images of the size, channels and type"),
    (HALF, X.to("meta"), "not implemented", "Give images of the size, channels and type"),
    (HALF, X, "shapes", "Give images of the size, channels and type"),
    (WIDE, X, "Inference tensors cannot be saved", "Make the model, and what it keeps between calls, outside"),
    (WIDE, X, "Can't call numpy() on Tensor that requires grad.", "The network leaves torch there"),
    (WIDE, X, "needs requires_grad=False", "The network leaves torch there"),
    (WIDE, X, "Expected all tensors to be on the same device", "Move the whole model to one device"),
]


@pytest.mark.parametrize(("model", "images", "text", "words"), REMEDIES)
def test_the_remedy_for_an_error(model: nn.Module, images: Tensor, text: str, words: str) -> None:
    assert _remedy(model, images, RuntimeError(text)).startswith(words)


REFUSED: list[tuple[Any, Any, str]] = [
    (torch.zeros(3), None, r"shape \(3,\); expected logits \(B=2, classes\). Pass output=FUNCTION that reduces it"),
    (torch.zeros(2, 3, 4), None, r"shape \(2, 3, 4\); .*for a dense prediction"),
    (torch.zeros(3, 2), None, r"shape \(3, 2\); .*for a dense prediction"),
    (torch.zeros(()), None, r"shape \(\); .*for a dense prediction"),
    (torch.zeros(2, 3, dtype=torch.int64), None, "type torch.int64; expected floating-point logits"),
    ({}, None, r"a dict with keys none; .*output='logits' \(command line: --output logits\)"),
    (
        {"a": 1, "b": 2},
        None,
        r"a dict with keys a, b; .*output='a' \(command line: --output a\)",
    ),
    ((1, 2, 3), None, r"a tuple of 3 items; .*output=0 \(command line: --output 0\)"),
    ([1], None, r"a list of 1 items; .*output=0 \(command line: --output 0\)"),
    (5, None, r"a int; expected logits \(B, classes\). Pass output=FUNCTION, which takes it"),
    (torch.zeros(2, 3), "logits", r"output='logits' does not exist: the model returns a tensor \(2, 3\); leave it out"),
    (torch.zeros(2, 2), 0, r"output=0 does not exist: the model returns a tensor \(2, 2\); leave it out"),
    (torch.zeros(2, 3), [1], r"output is \[1\]; expected a key, an index, or a function"),
    ({"logits": 1}, "logit", "output='logit' does not exist: .* a dict with keys logits; did you mean 'logits'?"),
    ((1, 2), 2, "output=2 does not exist: the model returns a tuple of 2 items"),
    (object(), "logits", "output='logits' does not exist: the model returns a object"),
    (torch.zeros(2, 3), lambda y: y[:1], r"shape \(1, 3\); .*for a dense prediction"),
    (torch.zeros(2, 3), lambda y: y.nothing, "output= failed on what the model returns, a Tensor: AttributeError"),
]


@pytest.mark.parametrize(("result", "output", "words"), REFUSED)
def test_what_are_no_logits(result: Any, output: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        logits_of(result, 2, output)


def test_logits_of_every_type() -> None:
    for dtype, expected in (
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        assert logits_of(torch.zeros(2, 3, dtype=dtype), 2, None).dtype == expected
    given = torch.zeros(2, 3)
    assert logits_of(given, 2, None) is given
    assert logits_of({"a": given}, 2, lambda y: y["a"]) is given
    own = DataError("ours")

    def fails(_y: Any) -> Tensor:
        raise own

    with pytest.raises(DataError, match="ours") as caught:
        logits_of(given, 2, fails)
    assert caught.value is own


def test_a_network_gets_one_copy_of_its_images() -> None:
    copies: list[Tensor] = []

    def put(x: Tensor) -> Tensor:
        copies.append(x.clone())
        return copies[-1]

    assert own_copy(WIDE, X, put) is copies[0]
    assert own_copy(WIDE, X).data_ptr() != X.data_ptr()
    assert own_copy(WIDE, X, lambda x: x).data_ptr() != X.data_ptr()
    # A part of the same memory is no copy.
    assert own_copy(WIDE, X, lambda x: x[1:]).untyped_storage().data_ptr() != X.untyped_storage().data_ptr()
    assert torch.equal(own_copy(WIDE, X), X)


def test_the_type_that_all_parameters_share() -> None:
    assert parameter_type(WIDE) == torch.float32
    assert parameter_type(WIDE.to(torch.float32)) == torch.float32
    assert parameter_type(nn.Linear(2, 2).double()) == torch.float64
    assert parameter_type(nn.ReLU()) is None
    assert parameter_type(nn.Sequential(WIDE, nn.Linear(2, 2).double())) is None
    mixed = nn.Sequential(WIDE)
    mixed.register_parameter("whole", nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False))
    assert parameter_type(mixed) == torch.float32
    narrow = nn.Module()
    narrow.register_parameter("p", nn.Parameter(torch.zeros(2).to(torch.float8_e5m2), requires_grad=False))
    assert parameter_type(narrow) is None


def test_whether_images_are_converted_is_tried_once_for_each_type() -> None:
    class Counting(nn.Linear):
        passes = 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            assert not torch.is_grad_enabled() or x.dtype == self.weight.dtype
            return super().forward(x)

    model = Counting(3, 2).double()
    for images, passes in ((X.double(), 1), (X, 2), (X, 1), (X.bfloat16(), 2), (X.bfloat16(), 1)):
        model.passes = 0
        assert forward(model, images).dtype == torch.float64
        assert model.passes == passes
    assert _CONVERSIONS[model] == {(torch.float32, torch.float64): True, (torch.bfloat16, torch.float64): True}

    class Takes(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.to(self.weight.dtype))

    assert own_copy(Takes(3, 2).double(), X).dtype == torch.float32

    class Broken(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no reason")

    # No conversion mends that.
    assert own_copy(Broken(3, 2).double(), X).dtype == torch.float32
    assert own_copy(nn.Linear(3, 2).double(), X.long()).dtype == torch.int64


def jagged() -> Tensor:
    return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged)


def test_batches_of_images_and_dense_tensors() -> None:
    assert check_images(X) is X
    assert finite_images(X) is X
    for images, words in (
        (torch.zeros(3), r"shape \(3,\) came; expected \(B, C, ...\) with at least one image"),
        (torch.zeros(0, 3), r"shape \(0, 3\) came"),
        (torch.zeros(2, 3, dtype=torch.int32), "dtype torch.int32 came; expected floating point"),
        (X.to("meta"), "on meta came"),
        (X.to_sparse(), "torch.sparse_coo on cpu came"),
        (jagged(), "came; expected a dense one with values"),
    ):
        with pytest.raises(DataError, match=words):
            check_images(images)
    for value in (float("nan"), float("inf")):
        bad = torch.zeros(3, 2, 2)
        bad[1, 1, 0] = value
        bad[2, 0, 0] = value
        with pytest.raises(DataError, match=r"image 1 of the batch"):
            finite_images(bad)
    check_dense(X, "x", "N")
    for values, words in (
        ([1], r"x: a list came; expected a tensor \(N\)"),
        (X.to("meta"), r"x: a tensor of torch.strided on meta came; expected a dense one \(N\)"),
        (X.to_sparse(), r"x: a tensor of torch.sparse_coo on cpu came"),
        (jagged(), "x: a tensor of"),
    ):
        with pytest.raises(DataError, match=words):
            check_dense(values, "x", "N")


def test_traces_are_compared_and_shown_by_their_sites() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    trace = find_sites(net, X)
    assert trace == find_sites(net, X)
    assert trace == Trace(trace.sites, trace.image_shape, trace.n_outputs, doubts=("x",))
    assert trace != Trace(trace.sites, trace.image_shape, 3)
    assert "doubts" not in repr(trace)
    assert "_modules" not in repr(trace)
    assert all(isinstance(site, Site) for site in trace.sites)
    assert find_sites(net, X, logits=False).n_outputs == 0
