"""The data flow of one forward pass: who feeds whom, what is a gate, and what is the classifier's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from torch import Tensor

from interpnet.engine._call import Call, tensors_in
from interpnet.engine._layout import Layout, input_layout, propagate
from interpnet.errors import ModelError


@dataclass
class Node:
    """One operator call with its inputs (numbers of other nodes) and what was found out about its output.

    The marks mean what :class:`Site` says; ``gate_operand`` is the number of the factor that scales the other one.
    """

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

    @property
    def weighted(self) -> bool:
        """Whether it is a convolution or a linear map."""
        return self.call.kind in {"conv", "linear"}

    @property
    def kind(self) -> str:
        """The kind of its site: a swish counts as the rectifier that it is."""
        return "rectifier" if self.swish else self.call.kind or ""


class Graph:
    """Built by observing a forward pass; the marks are set afterwards."""

    def __init__(self, images: Tensor) -> None:
        self.nodes: list[Node] = []
        self._made: dict[int, int] = {}
        self._layouts: dict[int, Layout] = {id(images): input_layout(images)}
        # Tensors are kept while tracing, so that no two of them share an id.
        self._keep: list[Any] = []

    def observe(self, call: Call, out: Any) -> None:
        outs = list(tensors_in((out,)))
        if not outs:
            return
        tensors = call.tensors()
        known = [(t, self._layouts[id(t)]) for t in tensors if id(t) in self._layouts]
        inputs = [self._made[id(t)] for t in tensors if id(t) in self._made]
        # Nothing of the images goes in and no site comes out: arithmetic of the network with its own numbers.
        if not known and call.kind is None:
            return
        layout = propagate(call, outs[0], known)
        node = Node(call, inputs, layout, tuple(outs[0].shape), isinstance(out, Tensor))
        if call.op in {"mul", "multiply"}:
            self._gate(node, tensors)
        before = next((self.nodes[i].family for i in inputs if self.nodes[i].family), "")
        node.family = str(call.kind) if node.weighted else before
        self._keep.append((call, out))
        self.nodes.append(node)
        for o in outs:
            self._made[id(o)] = len(self.nodes) - 1
            self._layouts[id(o)] = layout

    def _gate(self, node: Node, tensors: Sequence[Tensor]) -> None:
        """Note which operand of a product is a gate, and whether the product spells a swish."""
        for (gate, small), (other, large) in permutations(zip(node.inputs, tensors, strict=False), 2):
            operator = self.nodes[gate].call.operator
            # x * sigmoid(x) is a swish, whatever else it is.
            if operator.logistic and self.nodes[gate].inputs[:1] == [other]:
                node.swish = True
            gates = operator.gates and not self.nodes[other].call.operator.gates
            if gates or small.numel() < large.numel():
                node.gate_operand = gate
                return

    def mark_gates(self) -> None:
        consumers: dict[int, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for j in set(node.inputs):
                consumers.setdefault(j, []).append(i)
        # Backwards, as a node is a gate by what its users are.
        for i in reversed(range(len(self.nodes))):
            users = [self.nodes[u] for u in consumers.get(i, [])]
            # Every user scales another map by it, or makes of it what does.
            self.nodes[i].gate = bool(users) and all(
                user.gate or (user.gate_operand == i and user.inputs.count(i) == 1) for user in users
            )

    def mark_output(self, results: Sequence[Tensor]) -> None:
        """Mark everything from the last operators with weights on: reading it would read the logits."""
        open_nodes = [self._made[id(t)] for t in results if id(t) in self._made]
        if not open_nodes:
            raise ModelError(
                "the model's output was not made by an operator that the engine saw in this forward pass; "
                "the model may return a cached or detached value"
            )
        while open_nodes:
            node = self.nodes[open_nodes.pop()]
            if not node.output:
                node.output = True
                if not node.weighted:
                    open_nodes.extend(node.inputs)
