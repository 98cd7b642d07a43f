"""Training on: a few epochs on images with their suspicious part exchanged, and on the same images as they are.

Where the cue is in nearly every image, an image as it is goes on teaching it: of two halves, one as they are, the cue
still names the class of the one half. On exchanged images alone it tells nothing.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from interpnet.engine import forward_logits
from interpnet.errors import ModelError
from interpnet.models import copied, shift_images
from interpnet.shortcuts._repair_bench import Bench
from interpnet.shortcuts._repair_images import CONTROL
from interpnet.support.progress import progress_bar
from interpnet.support.seed import seeded

# Images of a step, exchanged ones and those as they are together.
_BATCH = 64
# Of the shorter side: as training at first mostly did, and so that images are not learned by heart.
_SHIFT = 16
# The share of the steps over which the learning rate rises; then it falls along a cosine.
_WARM_UP = 0.1


def trained_on(
    bench: Bench, wanted: Any, kind: str, *, alone: bool, lr: float, epochs: int, seed: int, progress: bool
) -> nn.Module:
    """Return a copy of the network trained on with AdamW: cross-entropy of images as they are, and exchanged.

    ``alone``: of exchanged images alone.
    Parameters that take no gradient stay as they are, and so do the statistics of batch norms: the copy is in
    evaluation mode. ``wanted`` (N,): of which images; those of the pool are trained on.
    """
    network = bench.network
    images = bench.images
    model = copied(network.model).eval()
    chosen = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(chosen, lr=lr, weight_decay=0.0)
    draws = torch.Generator().manual_seed(seed)
    own = torch.nonzero(torch.from_numpy(wanted[images.pool_positions])).flatten()
    at_once = _BATCH if alone else _BATCH // 2
    steps = epochs * math.ceil(len(own) / at_once)
    device = next(iter(chosen)).device
    step = 0
    bar = progress_bar("Training on", epochs * len(own), enabled=progress)
    with seeded(seed, device), torch.enable_grad(), bar as advance:
        for _ in range(epochs):
            for part in torch.split(own[torch.randperm(len(own), generator=draws)], at_once):
                plain = images.pool[part]
                labels = images.pool_labels[part]
                shown = images.exchanged(plain, labels, draws, within_class=kind == CONTROL)
                if not alone:
                    shown = torch.cat([plain, shown])
                for group in optimiser.param_groups:
                    group["lr"] = lr * _rate(step / steps)
                shown = shift_images(shown, min(plain.shape[2:]) // _SHIFT)
                logits = forward_logits(model, network.put(shown), network.output)
                loss = cross_entropy(logits, labels.repeat(len(shown) // len(labels)).to(logits.device))
                _step(optimiser, loss)
                advance(len(part))
                step += 1
    for parameter in chosen:
        parameter.grad = None
    return model


def _rate(done: float) -> float:
    if done < _WARM_UP:
        return max(done / _WARM_UP, 0.05)
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    if not loss.requires_grad:
        raise ModelError(
            "no gradient comes from the logits to the parameters that may be trained: the model runs under no_grad or "
            "detaches what it computes; use how='ridge', 'logistic' or 'projection'"
        )
    if not math.isfinite(float(loss.detach())):
        raise ModelError(f"the loss became {float(loss.detach())} while training on; use how='ridge' or 'projection'")
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimiser.step()
