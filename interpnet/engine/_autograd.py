"""The backward graph that autograd recorded: what really lies between a result and the image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor


def backward_nodes(results: Iterable[Tensor]) -> Iterator[Any]:
    """Yield every autograd node that the gradients of ``results`` pass through, each once.

    Examples
    --------
    >>> x = torch.ones(1, requires_grad=True)
    >>> [node_name(node) for node in backward_nodes([2 * x.relu()])]
    ['Mul', 'Relu', 'AccumulateGrad']
    """
    yield from nodes_before(*[r.grad_fn for r in results])


def nodes_before(*nodes: Any) -> Iterator[Any]:
    """Yield every autograd node that gradients pass through from ``nodes`` on, these included, each once."""
    # Inputs that take no gradient have no node.
    known = {None}
    open_nodes = list(nodes)
    while open_nodes:
        node = open_nodes.pop()
        if node in known:
            continue
        known.add(node)
        yield node
        open_nodes.extend(child for child, _ in node.next_functions)


def node_name(node: Any) -> str:
    """Return what a node is the backward of: ``"Relu"`` of a ``ReluBackward0``, a custom function's own name."""
    # A digit at the end tells overloads apart; nodes of C++ extensions have their namespace in front.
    name: str = node.name().rsplit("::", 1)[-1]
    return name.rstrip("0123456789").removesuffix("Backward")


def is_custom(node: Any) -> bool:
    """Whether a node belongs to a ``torch.autograd.Function`` written in Python, which shows no call inside it."""
    return isinstance(node, torch.autograd.function.BackwardCFunction)
