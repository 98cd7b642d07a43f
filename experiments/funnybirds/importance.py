"""What each way of explaining says that the parts of a bird are worth: a number for every image and part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.maps import OPTIONS, quietly
from experiments.funnybirds.birds import Birds, Marked
from interpnet.attribution import methods
from interpnet.concepts import Dissection, dissect
from interpnet.datasets import make_loader
from interpnet.engine import find_sites
from interpnet.explanation import explain
from interpnet.interpretation import Interpretation, interpret
from interpnet.reliance import collect_contributions, image_contributions
from interpnet.support.types import Bools, Float64

Way = Callable[[], Float64]
OURS = "channels' contributions, by heatmaps"
MAP = "heatmap of the named channels"
NAMED, BEST = "channels named by dissection", "channels by their best part"
AREA, PAINTED = "area of the part", "part painted over"
#: Not of the image alone: what the removal cost in other images.
USUAL, USUAL_OF_CLASS = "usual loss of the part", "usual loss of the part in the class"
CONTROLS = (AREA, "random", "edge", "center")
_CHANNELS = 10  # of an image, whose contributions are laid out
_AT_ONCE = 60
# Dear, and of the families of others that are there: smoothgrad, integrated_gradients, lime.
_LEFT_OUT = ("vargrad", "expected_gradients", "kernel_shap")


@dataclass(frozen=True)
class Explained:
    """A network, and the classes of the test images that are explained."""

    model: nn.Module
    data: Birds
    classes: Tensor  # (N,)

    @cached_property
    def interpretation(self) -> Interpretation:
        """The channels that the classes rely on, from the training images."""
        loader = make_loader(self.data.train_on, batch_size=_AT_ONCE)
        found = collect_contributions(self.model, loader, progress=False, classes=self.data.train_on.classes)
        return interpret(found, by="reliance")

    @cached_property
    def dissection(self) -> Dissection:
        """Which part each channel detects, from training images with part maps."""
        return dissect(self.model, Marked(self.data), concepts=self.data.test.parts, step=1, progress=False)

    def within(self, maps: Tensor, rows: slice) -> Float64:
        """Return the sums of maps (B, H, W) over the parts (B, P)."""
        found: Float64 = torch.einsum("bhw,bphw->bp", maps.double(), self.data.masks[rows]).numpy()
        return found

    def ways(self) -> dict[str, Way]:
        """Return how each way measures the worth of all parts (N, P), by name."""
        area = self.data.masks.sum((2, 3)).numpy()
        found: dict[str, Way] = {
            OURS: lambda: self._by_rows(self._laid_out),
            MAP: lambda: self._by_rows(self._heatmap),
            NAMED: lambda: self._contributions @ (self._best & self.dissection.named[:, None]),
            BEST: lambda: self._contributions @ self._best,
            AREA: lambda: area,
        }
        for method in methods():
            if method.name not in _LEFT_OUT:
                found[method.name] = partial(self._by_rows, partial(self._attributed, method.name))
        return found

    def _by_rows(self, measure: Callable[[slice], Float64]) -> Float64:
        n = len(self.classes)
        return np.concatenate([measure(slice(start, min(n, start + _AT_ONCE))) for start in range(0, n, _AT_ONCE)])

    def _attributed(self, name: str, rows: slice) -> Float64:
        maps = quietly(self.model, self.data.images[rows], self.classes[rows], name, **OPTIONS.get(name, {}))
        return self.within(maps, rows)

    def _heatmap(self, rows: slice) -> Float64:
        shown = explain(self.model, self.data.images[rows], self.interpretation, classes=self.classes[rows])
        return self.within(shown.combined, rows)

    def _laid_out(self, rows: slice) -> Float64:
        """Return the contributions of an image's strongest channels, each shared out by its own heatmap."""
        shown = explain(
            self.model,
            self.data.images[rows],
            self.interpretation,
            k=_CHANNELS,
            classes=self.classes[rows],
            choose="all",
        )
        found = np.zeros((len(shown.classes), len(self.data.test.parts)))
        for k in range(_CHANNELS):
            maps = shown.heatmaps[:, k]
            shares = maps / maps.sum((1, 2), keepdim=True).clamp_min(1e-12)
            worth = [row[k] if k < len(row) else 0.0 for row in shown.responses]
            found += np.array(worth)[:, None] * self.within(shares, rows)
        return found

    @cached_property
    def _best(self) -> Bools:
        """Which part each channel overlaps most, for the channels that overlap with one (m, P)."""
        found = self.dissection
        parts: Bools = np.eye(len(found.concepts), dtype=np.bool_)[found.best]
        parts &= np.nan_to_num(found.iou).max(1, keepdims=True) > 0
        return parts

    @cached_property
    def _contributions(self) -> Float64:
        """What each channel contributes to each image's log-odds (N, m)."""
        sites = find_sites(self.model, self.data.images[:2]).select()

        def measured(rows: slice) -> Float64:
            classes = self.classes[rows].tolist()
            return image_contributions(self.model, self.data.images[rows], sites, lambda _: classes)

        return self._by_rows(measured)
