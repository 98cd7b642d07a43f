"""The data flow of one forward pass: who feeds whom, what is a gate, and what is the classifier's output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from interpnet.engine._by_hand import ByHand
from interpnet.engine._call import Call, tensors_in
from interpnet.engine._factor_rules import factors_of
from interpnet.engine._factors import Axes, factors_of_images, over_image
from interpnet.engine._layout import Layout, input_layout, propagate
from interpnet.engine._operators import OPERATORS
from interpnet.errors import ModelError

# Kinds of sites whose maps stand for themselves: what lies before is not what an operator behind bends.
_MAPS = frozenset({"conv", "linear", "norm", "rectifier", "activation", "softmax", "pool", "add", "mul", "cat"})


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
    gate: bool = False
    output: bool = False
    # Something that an activation written by hand was made of, and nothing else.
    part: bool = False
    # It bends or curves a map, and is no activation that is known; see Call.curve.
    curve: str = ""
    family: str = ""
    # What its axes are made of, where that is followed.
    factors: Axes | None = None
    # Nothing of the images goes in.
    free: bool = False
    # Of a product of two maps: what it makes; "attention" where the weights of a softmax gather values.
    product: str = ""

    @property
    def weighted(self) -> bool:
        """Whether it is a convolution or a linear map."""
        return self.kind in {"conv", "linear"}

    @property
    def kind(self) -> str:
        """The kind of its site, ``""`` for none."""
        if self.call.kind == "product":
            return self.product
        return self.call.kind or ""


class Graph:
    """Built by observing a forward pass; the marks are set afterwards."""

    def __init__(self, images: Tensor, own: Iterable[Tensor] = ()) -> None:
        self.nodes: list[Node] = []
        self._batch = len(images)
        self._factors: dict[int, Axes | None] = {id(images): factors_of_images(images)}
        # Tensors that the images have no part in: the network's ``own``, and what is made of these alone.
        self._free = {id(t) for t in own}
        self._made: dict[int, int] = {}
        self._layouts: dict[int, Layout] = {id(images): input_layout(images)}
        # Tensors are kept while tracing, so that no two of them share an id.
        self._keep: list[Any] = []
        self._parts: set[int] = set()
        # The last node that wrote into the memory of a tensor, maybe through a view of it.
        self._written: dict[int, int] = {}

    def observe(self, call: Call, out: Any) -> None:
        outs = list(tensors_in((out,)))
        tensors = call.tensors()
        # Zeros like a map have nothing of its values.
        fills = call.operator.fills is not None
        free = fills or all(self._is_free(t) for t in tensors)
        if free:
            self._free.update(map(id, outs))
            self._keep.append(outs)
        else:
            self._free.difference_update(map(id, outs))
        if not outs or fills:
            return
        known = [(t, layout) for t in tensors if (layout := self._layout(t)) is not None]
        inputs = self._makers(tensors)
        # Nothing of the images goes in and no site comes out: arithmetic of the network with its own numbers.
        if not known and call.kind is None:
            return
        layout = propagate(call, outs[0], known)
        node = Node(call, inputs, layout, tuple(outs[0].shape), isinstance(out, Tensor))
        node.free = free
        node.factors = self._factored(call, outs, known)
        if call.kind == "product" and sum(not self._is_free(t) for t, _ in known) > 1:
            node.product = "attention" if any(self._softened(i) for i in inputs) else "product"
            layout = Layout(None, why=f"{call.op!r} multiplied two maps")
        if layout.axis is None:
            layout = _by_factors(layout, node.factors, heads=bool(node.product))
        node.layout = layout
        node.curve = "" if free else _curve(call, known)
        if isinstance(call.func, ByHand):
            self._parts.update(self._makers(call.func.parts()))
        if call.op in {"mul", "multiply"}:
            self._gate(node, tensors)
        before = next((self.nodes[i].family for i in inputs if self.nodes[i].family), "")
        node.family = str(call.kind) if node.weighted else before
        self._keep.append((call, out))
        self.nodes.append(node)
        for o in outs:
            self._made[id(o)] = len(self.nodes) - 1
            self._layouts[id(o)] = layout
            if (call.inplace or "out" in call.kwargs) and _memory(o):
                self._written[_memory(o)] = len(self.nodes) - 1

    def _factored(self, call: Call, outs: Sequence[Tensor], known: Sequence[tuple[Tensor, Layout]]) -> Axes | None:
        """Note the factors of everything that a call made, and return the first one's."""
        inputs = [(t, self._factors.get(id(t))) for t, _ in known if not self._is_free(t)]
        for o in outs:
            found = factors_of(call, o, inputs)
            if call.operator.axes in {"convolution", "transposed"} and o.shape[:1] == (self._batch,):
                found = over_image(found, o, call.operator.dimensions)
            self._factors[id(o)] = found
        return self._factors[id(outs[0])]

    def folded(self) -> bool:
        """Whether the batch axis is not in front everywhere, as where windows or heads share axes with it."""
        return any(not n.free and n.shape[:1] != (self._batch,) for n in self.nodes)

    def forget_factors(self) -> None:
        """Take nothing for known of what axes are made of."""
        for node in self.nodes:
            node.factors = None

    def _is_free(self, tensor: Tensor) -> bool:
        return id(tensor) in self._free

    def _softened(self, node: int) -> bool:
        """Whether a node is made of a softmax, through what leaves its positions to each other as they are."""
        return any(
            self.nodes[i].kind == "softmax"
            for i in self._before([node], through=lambda n: n.kind in {"", "add", "mul", "linear"})
        )

    def _makers(self, tensors: Iterable[Tensor]) -> list[int]:
        """Return the nodes that made the tensors, as far as they are known."""
        return [node for t in tensors if (node := self._maker(t)) is not None]

    def _maker(self, tensor: Tensor) -> int | None:
        made = self._made.get(id(tensor))
        written = self._written.get(_memory(tensor))
        if written is None:
            return made
        # A part of the memory may be another one than what was written to.
        if made is not None and tensor.numel() * tensor.element_size() < tensor.untyped_storage().nbytes():
            return made
        return max(made or 0, written)

    def _layout(self, tensor: Tensor) -> Layout | None:
        layout = self._layouts.get(id(tensor))
        if layout is None and self._maker(tensor) is not None:
            return Layout(None, why="it was written to in parts")
        return layout

    def _gate(self, node: Node, tensors: Sequence[Tensor]) -> None:
        """Note which operand of a product is a gate."""
        for (gate, small), (other, large) in permutations(zip(node.inputs, tensors, strict=False), 2):
            operator = self.nodes[gate].call.operator
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
        ends = self._makers(results)
        if not ends:
            raise ModelError(
                "the model's output was not made by an operator that the engine saw in this forward pass; "
                "the model may return a cached or detached value"
            )
        for i in self._before(ends, through=lambda node: not node.weighted):
            self.nodes[i].output = True

    def mark_parts(self, results: Sequence[Tensor]) -> None:
        """Mark what only activations written by hand were made of, and take back what is no activation by itself."""
        ends = self._makers(results)
        live = self._before(ends)
        for i in self._before(self._parts) - live:
            self.nodes[i].part = True
        for i, node in enumerate(self.nodes):
            if i not in live or node.output or node.gate or not self._bends_a_map(node):
                node.curve = ""

    def _bends_a_map(self, node: Node) -> bool:
        """Whether what a node bends or curves is a convolution's or linear map's result that no activation had yet."""
        if not node.curve:
            return False
        before = self._before(node.inputs, through=lambda node: node.kind not in _MAPS)
        kinds = {self.nodes[i].kind for i in before}
        return bool(kinds & {"conv", "linear", "norm", "add"}) and not kinds & {"rectifier", "activation", "softmax"}

    def _before(self, ends: Iterable[int], through: Callable[[Node], bool] = lambda _node: True) -> set[int]:
        """Return the nodes from ``ends`` backwards, as far as they let ``through``."""
        found: set[int] = set()
        open_nodes = list(ends)
        while open_nodes:
            i = open_nodes.pop()
            if i not in found:
                found.add(i)
                if through(self.nodes[i]):
                    open_nodes.extend(self.nodes[i].inputs)
        return found


def _memory(tensor: Tensor) -> int:
    """Return where a tensor's memory begins, which its views share; 0 where it has none of its own."""
    if tensor.layout is not torch.strided:
        return 0
    return tensor.untyped_storage().data_ptr()


def _curve(call: Call, known: Sequence[tuple[Tensor, Layout]]) -> str:
    """Return how a call bends or curves its input; the larger of two maps is bent too, as is what a mask is put on."""
    maps = {id(t) for t, _ in known if t.is_floating_point()}
    masked = any(t.dtype == torch.bool for t, _ in known)
    if call.operator.bends and call.kind is None and (masked or (len(maps) > 1 and call.op != "setitem")):
        return "bent"
    if call.kind == "mul" and masked:
        return "bent"
    return call.curve


def _by_factors(layout: Layout, factors: Axes | None, *, heads: bool) -> Layout:
    """Return a layout that lost its channel axis with the one axis of all channels or, with ``heads``, of heads."""
    own = [(a, axis[0]) for a, axis in enumerate(factors or ()) if len(axis) == 1 and axis[0].what == "channel"]
    if len(own) == 1 and (heads or own[0][1].alone):
        return Layout(own[0][0], layout.fields)
    return layout


def active_site(node: Node) -> bool:
    """Whether a node is the activation of a convolution's or linear map's result."""
    return node.kind in {"rectifier", "activation"} and bool(node.family)


def doubts(graph: Graph) -> tuple[str, ...]:
    """Return the operators that may be activations which were not recognised, as text for a warning.

    Smooth functions, extremes of several maps and unknown operators count where the network has no activation at all:
    others use them for much else.
    """
    none = not any(active_site(n) and not n.gate and not n.output and not n.part for n in graph.nodes)
    found = [n for n in graph.nodes if n.curve in {"bent", "hinged"} or (none and (n.curve or _is_strange(n)))]
    return tuple(f"{n.call.op!r} in {n.call.module or 'the network itself'}" for n in found)


def _is_strange(node: Node) -> bool:
    """Whether nothing tells that a node leaves the shape of a convolution's or linear map's values as it is."""
    if not node.family or node.output or node.part:
        return False
    # A pooling over positions keeps the channel axis; the largest of several maps, stacked, does not.
    facts = node.call.operator
    if facts.bends or (facts.axes == "reduce" and not facts.affine):
        return node.layout.axis is None
    return node.call.kind is None and node.call.op not in OPERATORS
