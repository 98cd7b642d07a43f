"""The table of operators against torch itself: what a row says is what the function does."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import interpnet
from interpnet.engine import _factor_rules
from interpnet.engine._layout import _RULES
from interpnet.engine._operators import OPERATORS, Operator, _rows, operator, operator_name

X = torch.linspace(-4, 4, 81, dtype=torch.float64)
ROWS = list(OPERATORS.values())
KINDS = {"", "conv", "linear", "norm", "rectifier", "activation", "softmax", "pool", "add", "mul", "cat", "product"}
# Arguments that a function needs apart from its input.
NEEDS = {
    "softmax": (0,),
    "threshold": (0.0, 0.0),
    "clamp_min": (0.0,),
    "maximum": (torch.zeros((), dtype=torch.float64),),
    "max": (torch.zeros((), dtype=torch.float64),),
    "prelu": (torch.full((1,), 0.25, dtype=torch.float64),),
}


def names(rows: list[Operator]) -> list[str]:
    return [row.name for row in rows]


def value(row: Operator, x: Tensor) -> Tensor:
    func = getattr(F, row.name, None) or getattr(torch, row.name)
    return func(x, *NEEDS.get(row.name, ()))


def test_every_operator_has_one_row_of_known_words() -> None:
    rows = list(_rows())
    assert len(rows) == len(OPERATORS)
    assert {row.kind for row in rows} == KINDS
    assert {row.kind_if for row in rows} == {"", "rectifier", "pool", "linear"}
    assert {row.axes for row in rows} <= {"", "convolution", "transposed", "features", *_RULES, *_factor_rules._RULES}
    assert operator("no_such_thing") == Operator("no_such_thing")


def test_no_other_file_keeps_a_table_of_operators() -> None:
    for path in Path(interpnet.__file__).parent.rglob("*.py"):
        # The layout's rules have the names of the operators that they follow.
        if path.name in {"_operators.py", "_layout.py", "_factor_rules.py"}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
            words = [part.value for part in parts if isinstance(part, ast.Constant)]
            # A list of kinds of sites is none of operators, though some have the same name.
            listed = [] if set(words) <= KINDS else [word for word in words if word in OPERATORS]
            # Three may be reductions of colours ("sum", "abs", "max").
            assert len(listed) <= 3, f"{path.name}, line {node.lineno}: {listed} belong into engine/_operators.py"


UNIT = [row for row in ROWS if row.unit_slope]


@pytest.mark.parametrize("row", UNIT, ids=names(UNIT))
def test_unit_slopes_are_1_where_the_input_is_positive(row: Operator) -> None:
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(row, x).sum(), x)
    torch.testing.assert_close(slope[X > 0], torch.ones_like(slope[X > 0]))


SQUASHES = [row for row in ROWS if row.squashes or row.logistic]


@pytest.mark.parametrize("row", SQUASHES, ids=names(SQUASHES))
def test_what_squashes_is_bounded_and_gates(row: Operator) -> None:
    assert row.gates
    assert value(row, 1e3 * X).abs().max() <= 1
    if row.logistic:
        assert value(row, 1e3 * X).min() == 0


INPLACE = [row for row in ROWS if row.inplace is not None]


@pytest.mark.parametrize("row", INPLACE, ids=names(INPLACE))
def test_the_position_of_inplace_is_that_of_torchs_signature(row: Operator) -> None:
    assert list(inspect.signature(getattr(F, row.name)).parameters)[row.inplace] == "inplace"


AFFINE = [r for r in ROWS if r.affine and hasattr(torch, r.name) and r.kind in {"", "add", "mul"} and not r.kind_if]


@pytest.mark.parametrize("row", AFFINE, ids=names(AFFINE))
def test_affine_operators_have_one_slope_everywhere(row: Operator) -> None:
    func = getattr(torch, row.name)
    more = {"cumsum": (0,), "neg": (), "negative": (), "sum": ()}.get(row.name, (3.0,))
    slopes = []
    for x in (X, X + 5):
        x = x.clone().requires_grad_()
        slopes.append(torch.autograd.grad(func(x, *more).sum(), x)[0])
    torch.testing.assert_close(slopes[0], slopes[1])


NAMES = {
    "relu": "relu",
    "relu_": "relu",
    "_conv": "conv",
    "__add__": "add",
    "__iadd__": "add",
    "__imul__": "mul",
    "__isub__": "sub",
    "__itruediv__": "div",
    "__idiv__": "div",
    "__truediv__": "div",
    "__radd__": "add",
    "__rmul__": "mul",
    "__rsub__": "rsub",
    "__rpow__": "rpow",
    "__invert__": "invert",
    "__private": "private",
    "twice__": "twice",
    "iadd": "iadd",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_lose_underscores_and_marks_of_in_place(name: str) -> None:
    def called() -> None:
        raise AssertionError

    called.__name__ = name
    assert operator_name(called) == NAMES[name]


def test_a_callable_without_a_name_goes_by_its_type() -> None:
    class Overload:
        def __call__(self) -> None:
            raise AssertionError

    assert operator_name(Overload()) == "Overload"
