"""What the images of a class have in common: the fine detail in the same place, and where in the image they vary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from interpnet.shortcuts._blur import blurred

_COARSE = 4  # times that a mean image is blurred: what is left beyond it is detail


@dataclass(frozen=True)
class ByClass:
    """What is known of the k classes with images, on the CPU; :meth:`details` and :meth:`moves` are what is asked.

    A row for each of them, and a last one, of zeros, for the classes without.
    """

    rows: Tensor  # (K,) int64: the row of every class
    mean_details: Tensor  # (k + 1, C, H, W): the detail that the class's images have in common, less that of all
    # (k + 1, H, W // 2 + 1) complex: transforms of the maps of standard deviations, less their means
    spectra: Tensor
    varies: Tensor  # (k + 1,) bool: classes of at least two images that differ somewhere

    def details(self, classes: Tensor) -> Tensor:
        """Return (N, C, H, W), on the CPU: the detail of each image's class (N,)."""
        return self.mean_details[self.rows[classes.cpu()]]

    def moves(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Return (N, 2): by how many rows and columns what varies in the one class lies beside that of the other.

        ``theirs`` (N,) beside ``ours`` (N,): where the maps of standard deviations agree most (cross-correlation), at
        most a quarter of a side away. 0 where one of the classes has fewer than two images, or equal ones.
        """
        pairs, which = torch.unique(torch.stack([ours.cpu(), theirs.cpu()], 1), dim=0, return_inverse=True)
        found = torch.zeros(len(pairs), 2, dtype=torch.int64)
        for number, (one, other) in enumerate(self.rows[pairs].tolist()):
            if self.varies[one] and self.varies[other]:
                found[number] = self._move(one, other)
        return found[which]

    def _move(self, one: int, other: int) -> Tensor:
        height, width = self.mean_details.shape[2:]
        down = height // 4
        across = width // 4
        agreement = torch.fft.irfft2(self.spectra[other] * self.spectra[one].conj(), s=(height, width))
        near = agreement.roll((down, across), (0, 1))[: 2 * down + 1, : 2 * across + 1]
        best = near.argmax()
        return torch.stack([best // (2 * across + 1) - down, best % (2 * across + 1) - across])


def by_class(pixels: Tensor, classes: Tensor, n_classes: int) -> ByClass:
    """Return what the images (N, C, H, W) of each class (N,) have in common, on the CPU."""
    counts = torch.bincount(classes, minlength=n_classes)
    seen = torch.nonzero(counts).flatten()
    rows = torch.full((n_classes,), len(seen))
    rows[seen] = torch.arange(len(seen))
    spread = torch.zeros(len(seen) + 1, *pixels.shape[2:], dtype=pixels.dtype)
    for row, k in enumerate(seen):
        if counts[k] > 1:
            spread[row] = pixels[classes == k].var(0).sum(0).sqrt()
    spread -= spread.mean((1, 2), keepdim=True)
    varies = spread.abs().amax((1, 2)) > 0
    return ByClass(rows, _details(pixels, rows[classes], counts[seen]), torch.fft.rfft2(spread), varies)


def _details(pixels: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
    """Return (k + 1, C, H, W): the mean image of each class, without what a blur leaves of it, less that of all."""
    sums = torch.zeros(len(counts) + 1, *pixels.shape[1:], dtype=pixels.dtype)
    sums.index_add_(0, rows, pixels)
    means = sums[:-1] / counts.view(-1, 1, 1, 1)
    fine = means - means.mean(0)
    sums[:-1] = fine - blurred(fine, _COARSE)
    return sums
