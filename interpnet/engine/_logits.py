"""What a network returns, as logits (B, classes): which part of it, one output as two classes, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from interpnet.engine._failure import UNTOUCHED, what_failed, where_raised
from interpnet.errors import ModelError, did_you_mean
from interpnet.support.checks import is_whole

#: Which part of what a network returns are the logits: a key or attribute, an index, or a function.
Output = Callable[[Any], Any] | str | int


class OneColumn:
    """An ``output=`` for networks of which one output is no binary classifier: it stays one column (B, 1).

    So it is with a regression, whose targets are (N, 1), and with one label that is a question of its own. ``output``
    says which part of what the network returns is meant, as ``output=`` itself does.

    Examples
    --------
    >>> from interpnet.engine import find_sites
    >>> net = torch.nn.Linear(2, 1)
    >>> images = torch.rand(3, 2)
    >>> find_sites(net, images).n_outputs, find_sites(net, images, output=OneColumn()).n_outputs
    (2, 1)
    """

    def __init__(self, output: Output | None = None) -> None:
        self.output = output

    def __call__(self, result: Any) -> Any:
        """Return the part of what a network returned."""
        return part_of(result, self.output)

    def __repr__(self) -> str:
        """Return how it is written."""
        if self.output is None:
            return "OneColumn()"
        return f"OneColumn({self.output!r})"


def for_outputs(output: Output | None, outputs: str) -> Output | None:
    """Return ``output`` for outputs that are ``"exclusive"`` or ``"independent"``: of these, each is its own column."""
    if outputs == "independent" and not isinstance(output, OneColumn):
        return OneColumn(output)
    return output


def logits_of(result: Any, batch: int, output: Output | None) -> Tensor:
    """Return the (B, classes) logits in what a model returned, half precision as float32.

    One output z, (B, 1) or (B,), or () for one image, is a binary classifier: its logits are (-z/2, z/2), so that
    class 1 is z > 0, their softmax is the sigmoid of z, and the log-odds of class 1 are z; :class:`OneColumn` leaves it
    alone. Anything else is a :class:`ModelError` that explains ``output=`` where it is needed.

    Examples
    --------
    >>> logits_of(torch.tensor([[3.0]]), 1, None)
    tensor([[-1.5000,  1.5000]])
    """
    values = part_of(result, output)
    if not isinstance(values, Tensor):
        raise ModelError(f"{_what(values)}; expected logits (B, classes). Pass {_remedy(values)}")
    # squeeze() leaves no axis at all of a single image's output.
    if values.shape in {(batch,), ()} and values.numel() == batch:
        values = values.reshape(batch, 1)
    if values.dim() != 2 or values.shape[0] != batch:
        raise ModelError(
            f"the model's output has shape {tuple(values.shape)}; expected logits (B={batch}, classes). Pass "
            "output=FUNCTION that reduces it, e.g. output=lambda y: y.mean((2, 3)) for a dense prediction"
        )
    if not values.is_floating_point():
        raise ModelError(f"the model's output has type {values.dtype}; expected floating-point logits")
    if values.dtype in {torch.float16, torch.bfloat16}:
        values = values.float()
    if values.shape[1] == 1 and not isinstance(output, OneColumn):
        # Operators that every backward rule knows; halves are exact.
        return torch.cat([values * -0.5, values * 0.5], 1)
    return values


def part_of(result: Any, output: Output | None, name: str = "") -> Any:
    """Return the part of what a network returned that ``output`` says; ``name`` is what the user wrote, for errors.

    Examples
    --------
    >>> part_of({"logits": 1, "maps": 2}, "logits"), part_of((1, 2), -1), part_of(3, lambda y: y + 1)
    (1, 2, 4)
    """
    if output is None:
        return result
    if not isinstance(output, str) and not is_whole(output):
        if not callable(output):
            raise ModelError(
                f"output is {output!r}; expected a key, an index, or a function that takes what the model returns"
            )
        return _taken(result, output)
    name = name or f"output={output!r}"
    if isinstance(result, Tensor):
        raise ModelError(
            f"{name} does not exist: the model returns a tensor {tuple(result.shape)}; leave it out, or pass a "
            "function, e.g. output=lambda y: y[:, :10] for some of its columns"
        )
    try:
        if is_whole(output) or isinstance(result, dict):
            return result[output]
        # A named tuple, or an object such as transformers' outputs.
        return getattr(result, str(output))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        hint = ""
        if isinstance(result, dict):
            hint = did_you_mean(str(output), map(str, result))
        raise ModelError(f"{name} does not exist: {_what(result)}{hint}") from error


def output_key(output: Output | None) -> Hashable:
    """Return what tells one ``output`` from another without holding on to what a function holds."""
    if isinstance(output, OneColumn):
        return (OneColumn, output_key(output.output))
    if isinstance(output, partial):
        return (output_key(output.func), repr(output.args), repr(output.keywords))
    if callable(output):
        own = getattr(output, "__qualname__", type(output).__qualname__)
        cells = [cell.cell_contents for cell in getattr(output, "__closure__", None) or ()]
        held = [*cells, *(getattr(output, "__defaults__", None) or ())]
        simple = tuple(value for value in held if isinstance(value, str | int))
        return (own, getattr(output, "__code__", None), simple)
    return output


def _what(result: Any) -> str:
    """Return what a network returned, as the beginning of a sentence."""
    words = f"the model returns a {type(result).__name__}"
    if isinstance(result, dict):
        return f"{words} with keys {', '.join(map(str, result)) or 'none'}"
    if isinstance(result, tuple | list):
        return f"{words} of {len(result)} items"
    return words


def _remedy(result: Any) -> str:
    """Return how to take logits out of what a network returned."""
    if isinstance(result, dict):
        first = next(iter(result), "logits")
        return f"output={first!r} (command line: --output {first})"
    if isinstance(result, tuple | list):
        return "output=0 (command line: --output 0)"
    return "output=FUNCTION, which takes it, or output='NAME' of an attribute"


def _taken(result: Any, output: Callable[[Any], Any]) -> Any:
    try:
        return output(result)
    except UNTOUCHED:
        raise
    except Exception as error:
        raise ModelError(
            f"output= failed on what the model returns, a {type(result).__name__}: {what_failed(error)} "
            f"({where_raised(error)})"
        ) from error
