"""Tensors as the batches that training wants."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor


class Batches:
    """Batches of images (N, C, H, W) and labels (N,) in a new order each epoch, for :func:`interpnet.models.train`."""

    def __init__(self, images: Tensor, labels: Tensor, seed: int, size: int = 64) -> None:
        self.images = images
        self.labels = labels
        self._size = size
        self.n_images = len(labels)
        self._draws = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self._size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for part in torch.split(torch.randperm(len(self.labels), generator=self._draws), self._size):
            yield self.images[part], self.labels[part]
