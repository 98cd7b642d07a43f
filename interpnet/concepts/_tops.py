"""The exact upper quantile of every channel over all positions of all images, in one pass and a bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor


class Tops:
    """The largest values of C channels, as many as lie above the wanted quantile, and the limit below them.

    Examples
    --------
    >>> tops = Tops(1, 2)  # the value below the two largest
    >>> for values in ([[1.0, 5.0, 2.0]], [[4.0, 3.0, 0.0]]):
    ...     tops.add(torch.tensor(values))
    >>> tops.limits().tolist()
    [3.0]
    """

    def __init__(self, channels: int, above: int) -> None:
        self._above = above
        # Values at most so large are not among the wanted ones.
        self._bounds = torch.full((channels,), -torch.inf)
        self._values: list[Tensor] = []
        self._channels: list[Tensor] = []
        self._held = 0
        self._most = max(4096, 2 * channels * (above + 1))

    def add(self, values: Tensor) -> None:
        """Take more values (C, n), the same number of each channel."""
        values = values.detach().float().cpu()
        if values.shape[1] > self._above and bool(self._bounds.isinf().any()):
            # Of these alone so many lie above: most of the others need not be held.
            own = values.kthvalue(values.shape[1] - self._above, dim=1).values
            self._bounds = torch.maximum(self._bounds, own)
        wanted = values > self._bounds[:, None]
        # At the bound itself values are kept until it is known to be the limit: there they make no difference.
        self._channels.append(torch.nonzero(wanted)[:, 0].to(torch.int32))
        self._values.append(values[wanted])
        self._held += len(self._values[-1])
        if self._held > self._most:
            self._settle()

    def limits(self) -> Tensor:
        """Return (C,) float32: of each channel the largest value that is not among its ``above`` largest.

        With fewer values than that, minus infinity.
        """
        self._settle()
        return self._bounds.clone()

    def _settle(self) -> None:
        """Keep of each channel the values among its largest, and raise the bounds."""
        values = torch.cat([torch.zeros(0), *self._values])
        channels = torch.cat([torch.zeros(0, dtype=torch.int32), *self._channels])
        order = values.argsort(descending=True)
        order = order[channels[order].argsort(stable=True)]
        values = values[order]
        channels = channels[order]
        counts = torch.bincount(channels, minlength=len(self._bounds))
        starts = counts.cumsum(0) - counts
        ranks = torch.arange(len(values)) - starts[channels.long()]
        full = counts > self._above
        limits = values[(starts + self._above).clamp(max=max(0, len(values) - 1))[full]]
        self._bounds[full] = torch.maximum(self._bounds[full], limits)
        keep = (ranks < self._above) & (values > self._bounds[channels.long()])
        self._values = [values[keep]]
        self._channels = [channels[keep]]
        self._held = int(keep.sum())
