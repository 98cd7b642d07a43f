"""One watched forward pass: its graph, what the network returned, and where its logits came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.engine._call import Call, tensors_in
from interpnet.engine._forward import RunError, own_copy, run
from interpnet.engine._graph import Graph
from interpnet.engine._origins import Origins
from interpnet.engine._trace import Instrument, instrument

Read = Callable[[Any, int], list[Tensor]]


@dataclass(frozen=True)
class Watched:
    """What one pass showed."""

    batch: Tensor
    graph: Graph
    result: Any
    # The tensors in the result, those that were read as logits, and what these were made of.
    results: list[Tensor]
    outputs: list[Tensor]
    origins: Sequence[Tensor]


def watched(model: nn.Module, images: Tensor, read: Read, *observers: Callable[[Call, Any], None]) -> Watched:
    """Run ``model`` on a copy of ``images`` and watch."""
    batch = own_copy(model, images)
    graph = Graph(batch, (*model.parameters(), *model.buffers()))

    def observe(call: Call, out: Any) -> None:
        for one in (graph.observe, *observers):
            one(call, out)

    with instrument(model, Instrument(observe=observe)):
        result = run(model, batch)
    results = returned(result)
    with Origins(results) as origins:
        outputs = read(result, len(batch))
    return Watched(batch, graph, result, results, outputs, origins.of(outputs))


def told_apart(model: nn.Module, seen: Watched, read: Read) -> Watched:
    """Return a pass in which the batch axis can be told from others: over two images, where axes are folded.

    Of one image, nothing tells whether it stands before or behind an axis that another joins.
    """
    if len(seen.batch) > 1 or not seen.graph.folded():
        return seen
    try:
        return watched(model, torch.cat([seen.batch, seen.batch]), read)
    except RunError:
        # It takes one image at a time.
        seen.graph.forget_factors()
        return seen


def returned(result: Any) -> list[Tensor]:
    """Return the tensors in what a network returned, also in the attributes of an object."""
    if isinstance(result, Tensor | list | tuple | dict) or not hasattr(result, "__dict__"):
        return list(tensors_in((result,)))
    return list(tensors_in((vars(result),)))
