"""The data flow of one forward pass: who feeds whom, what is a gate, and what is the classifier's output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interpnet.engine._layout import Layout, input_layout, propagate
from interpnet.engine._trace import Call
from interpnet.errors import ModelError


@dataclass
class Node:
    """One operator call with its inputs (numbers of other nodes) and what was found out about its output."""

    call: Call
    inputs: list[int]
    layout: Layout
    shape: tuple[int, ...]
    tensor: bool
    gate_operand: int | None = None
    swish: bool = False
    gate: bool = False
    output: bool = False
    family: str = ""


class Graph:
    """Built by observing a forward pass; the marks are set afterwards."""

    def __init__(self, images: Tensor) -> None:
        self.nodes: list[Node] = []
        self._batch = images.shape[0]
        self._made: dict[int, int] = {}
        self._layouts: dict[int, Layout] = {id(images): input_layout(images)}
        self._shapes: dict[int, torch.Size] = {}
        # Tensors are kept while tracing, so that no two of them share an id.
        self._keep: list[Any] = []

    def observe(self, call: Call, out: Any) -> None:
        outs = [o for o in (out if isinstance(out, tuple | list) else (out,)) if isinstance(o, Tensor)]
        if not outs:
            return
        tensors = list(tensors_in(call.args)) + list(tensors_in(tuple(call.kwargs.values())))
        known = [(t, self._layouts[id(t)]) for t in tensors if id(t) in self._layouts]
        inputs = [self._made[id(t)] for t in tensors if id(t) in self._made]
        if not known and call.kind is None:
            return
        layout = propagate(call, outs[0], known)
        node = Node(call, inputs, layout, tuple(outs[0].shape), isinstance(out, Tensor))
        if call.op in {"mul", "multiply"} and len(inputs) >= 2:
            self._gate(node, tensors)
        self._keep.append((call.args, call.kwargs, out))
        self.nodes.append(node)
        for o in outs:
            self._made[id(o)] = len(self.nodes) - 1
            self._layouts[id(o)] = layout

    def _gate(self, node: Node, tensors: Sequence[Tensor]) -> None:
        """Note which operand of a product is a gate, and whether the product spells a swish."""
        a, b = node.inputs[:2]
        sizes = [t.numel() for t in tensors[:2]]
        for gate, other, size, other_size in ((a, b, *sizes), (b, a, *reversed(sizes))):
            operator = self.nodes[gate].call.operator
            if operator.logistic and self.nodes[gate].inputs[:1] == [other]:
                node.swish = True
            if size < other_size or (operator.gates and not self.nodes[other].call.operator.gates):
                node.gate_operand = gate
                return

    def mark_gates(self) -> None:
        consumers: dict[int, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for j in set(node.inputs):
                consumers.setdefault(j, []).append(i)
        for i in reversed(range(len(self.nodes))):
            users = consumers.get(i, [])
            self.nodes[i].gate = bool(users) and all(
                self.nodes[u].gate or (self.nodes[u].gate_operand == i and self.nodes[u].inputs.count(i) == 1)
                for u in users
            )

    def mark_output(self, results: Sequence[Tensor]) -> None:
        """Mark everything from the last operators with weights on: reading it would read the logits."""
        start = [self._made[id(t)] for t in results if id(t) in self._made]
        if not start:
            raise ModelError(
                "the model's output was not made by an operator that the engine saw in this forward pass; "
                "the model may return a cached or detached value"
            )
        open_nodes = list(start)
        while open_nodes:
            i = open_nodes.pop()
            node = self.nodes[i]
            if node.output:
                continue
            node.output = True
            if node.call.kind not in {"conv", "linear"}:
                open_nodes.extend(node.inputs)

    def mark_families(self) -> None:
        for node in self.nodes:
            if node.call.kind in {"conv", "linear"}:
                node.family = node.call.kind
            else:
                node.family = next((self.nodes[j].family for j in node.inputs if self.nodes[j].family), "")


def tensors_in(values: Any) -> Iterable[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())
