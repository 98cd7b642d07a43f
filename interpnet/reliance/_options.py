"""How contributions are collected: the arguments that every way of collecting them shares, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interpnet.engine import OUTPUTS, ChannelIndex, Trace
from interpnet.errors import InterpNetError
from interpnet.reliance._contributions import MOMENTS, Contributions
from interpnet.support.checks import (
    distinct_names,
    listed,
    number,
    one_of,
    optional,
    real_array,
    whole_number,
    whole_numbers,
)
from interpnet.support.types import Float64, Int64

TARGETS = ("labels", "predictions")
Fill = Any  # "zero", "mean", or an array (m,)


@dataclass(frozen=True)
class Options:
    """The checked arguments of :func:`interpnet.collect_contributions`."""

    fill: str  # one of FILLS
    level: Float64 | None  # (m,): the reference where it is given
    images: int | None
    outputs: str
    targets: str
    classes: tuple[str, ...] | None
    removed: list[Any] | None
    thinned: tuple[float, ...]

    @property
    def removes(self) -> bool:
        """Whether channels are overwritten while the contributions are taken."""
        return self.removed is not None or bool(self.thinned)

    @classmethod
    def checked(
        cls,
        fill: Fill,
        images: int | None,
        outputs: str,
        targets: str,
        classes: Sequence[str] | None,
        removed: Sequence[Sequence[int]] | None,
        thinned: Sequence[float] = (),
    ) -> Options:
        """Return the options, or raise :class:`InterpNetError` for the first that cannot be."""
        optional(whole_number, images, "images", least=1)
        one_of(outputs, "outputs", OUTPUTS)
        one_of(targets, "targets", TARGETS)
        names = optional(distinct_names, classes, "classes")
        lists = optional(listed, removed, "removed")
        shares = tuple(number(share, "a share in thinned", least=0.0, most=0.9) for share in listed(thinned, "thinned"))
        level = None
        if isinstance(fill, str):
            one_of(fill, "fill", ("zero", "mean"))
        else:
            level = real_array(fill, "fill").astype(np.float64)
            fill = "given"
            if not np.isfinite(level).all():
                raise InterpNetError("fill holds NaN or infinity; every reference must be finite")
        if (lists is not None or shares) and fill == "mean":
            raise InterpNetError(
                "fill='mean' is known only when the pass ends, and removed channels are overwritten with it; pass "
                "fill=contributions.reference of an earlier pass"
            )
        return cls(fill, level, images, outputs, targets, names, lists, shares)

    def empty(self, channels: ChannelIndex, trace: Trace, weights: str | None) -> Contributions:
        """Return the contributions of no image to the outputs of a network; ``weights`` tells it from others."""
        C = trace.n_outputs
        m = len(channels)
        names = self.classes
        if names is None:
            names = tuple(map(str, range(C)))
        if len(names) != C:
            raise InterpNetError(f"classes has {len(names)} names; the model has {C} outputs")
        level = self.level
        if level is None:
            level = np.zeros(m)
        if level.shape != (m,):
            raise InterpNetError(f"fill has shape {level.shape}; expected ({m},): one reference for each channel")
        info: dict[str, Any] = {
            "image_shape": list(trace.image_shape),
            "outputs": self.outputs,
            "targets": self.targets,
            "weights": weights,
        }
        lists = self.lists(C, m)
        if any(map(len, lists)):
            info["removed"] = [columns.tolist() for columns in lists]
        if self.thinned:
            info["thinned"] = list(self.thinned)
        moments = np.zeros((MOMENTS[self.fill], 0, m))
        none = np.zeros(C, dtype=np.int64)
        return Contributions(channels, names, none, np.zeros(C), moments, level, self.fill, info=info)

    def lists(self, n_classes: int, m: int) -> list[Int64]:
        """Return the columns that are overwritten in the images of each class."""
        if self.removed is None:
            return [np.zeros(0, dtype=np.int64)] * n_classes
        if len(self.removed) != n_classes:
            raise InterpNetError(f"removed has {len(self.removed)} lists; the model has {n_classes} outputs")
        lists = [np.atleast_1d(whole_numbers(columns, "removed")) for columns in self.removed]
        for columns in lists:
            if len(columns) and not 0 <= int(columns.min()) <= int(columns.max()) < m:
                raise InterpNetError(
                    f"removed reaches from {columns.min()} to {columns.max()}; expected columns from 0 to {m - 1}"
                )
        return lists
