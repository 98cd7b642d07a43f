"""The images and networks of C4, and for every test image what the removal of each part costs its answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from interpnet.datasets import FunnyBirds, ImageData, funny_birds, load_dataset, make_loader, stack_images
from interpnet.engine import log_odds
from interpnet.errors import DataError
from interpnet.models import SmallCNN, accuracy, train
from interpnet.support.io import atomic_path
from interpnet.support.types import Bools, Bytes, Float64

SIZE = 96  # pixels, as the networks see them
BACKGROUND = (85, 85, 153)  # the colour behind everything
_MEAN, _STD = 0.45, 0.25
_WIDTH, _RATE, _SHIFT = 8, 3e-3, 6
_AT_ONCE = 60
_LEAST_SEEN = 4  # pixels of the rendered picture, for a part to be seen


@dataclass(frozen=True)
class Birds:
    """A rendered set, as the networks want it."""

    folder: Path

    @cached_property
    def train_on(self) -> ImageData:
        """The training images, in half of which some parts are absent."""
        return self._split("train")

    @cached_property
    def test_on(self) -> ImageData:
        """The test images, with all parts."""
        return self._split("test")

    def _split(self, split: str) -> ImageData:
        return load_dataset(f"funnybirds:{self.folder}", split=split, image_size=SIZE, mean=_MEAN, std=_STD)

    @cached_property
    def test(self) -> FunnyBirds:
        """The test images with their part maps and changes."""
        return funny_birds(self.folder, "test")

    @cached_property
    def images(self) -> Tensor:
        """The test images (N, 3, SIZE, SIZE)."""
        return stack_images(self.test_on, range(len(self.test_on)))

    @cached_property
    def removed(self) -> Tensor:
        """The test images rendered without each part (N, P, 3, SIZE, SIZE)."""
        birds = self.test
        return self._seen_by_networks([birds.without(i, (p,)) for i in range(len(birds)) for p in birds.parts])

    @cached_property
    def painted(self) -> Tensor:
        """The test images with each part's pixels in the background's colour (N, P, 3, SIZE, SIZE)."""
        birds = self.test
        colour = np.array(BACKGROUND, dtype=np.uint8)
        every = [np.where(mask[..., None], colour, birds.image(i)) for i, row in enumerate(self._wide) for mask in row]
        return self._seen_by_networks(every)

    def _seen_by_networks(self, pictures: Sequence[Bytes]) -> Tensor:
        pairs = [(picture, 0) for picture in pictures]
        data = ImageData.from_dataset(pairs, 1, image_size=SIZE, mean=_MEAN, std=_STD, channels=3)
        return stack_images(data, range(len(data))).view(-1, len(self.test.parts), 3, SIZE, SIZE)

    @cached_property
    def _drawn(self) -> Bools:
        """Masks as they were rendered (N, P, H, W)."""
        birds = self.test
        return np.array([[birds.masks(i)[p] for p in birds.parts] for i in range(len(birds))])

    @cached_property
    def _wide(self) -> Bools:
        """Masks two pixels wider, with the lines around the parts, as the authors' protocol has them (N, P, H, W)."""
        wide: Bools = F.max_pool2d(torch.from_numpy(self._drawn).float(), 5, stride=1, padding=2).bool().numpy()
        return wide

    @cached_property
    def masks(self) -> Tensor:
        """How much of each pixel of the test images a part with its line covers (N, P, SIZE, SIZE)."""
        return F.interpolate(torch.from_numpy(self._wide).double(), size=(SIZE, SIZE), mode="area")

    @cached_property
    def seen(self) -> Bools:
        """Which parts are seen in which test image (N, P)."""
        found: Bools = self._drawn.sum((2, 3)) >= _LEAST_SEEN
        return found


@dataclass(frozen=True)
class Marked:
    """Batches of (images, masks of the parts) of the training images with part maps, for dissection."""

    data: Birds

    @cached_property
    def _rows(self) -> tuple[FunnyBirds, list[int]]:
        birds = funny_birds(self.data.folder, "train")
        rows = [i for i in range(len(birds)) if birds.has_masks(i)]
        if not rows:
            raise DataError(f"{str(self.data.folder)!r} has no part map of a training image; render it with --masks 15")
        return birds, rows

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        birds, known = self._rows
        for start in range(0, len(known), _AT_ONCE):
            rows = known[start : start + _AT_ONCE]
            masks = np.array([[birds.masks(i)[p] for p in birds.parts] for i in rows])
            sized = F.interpolate(torch.from_numpy(masks).byte(), size=(SIZE, SIZE), mode="nearest-exact")
            yield stack_images(self.data.train_on, rows), sized


def network(data: Birds, seed: int, file: Path, epochs: int) -> tuple[SmallCNN, float]:
    """Return a small trained network and its accuracy on the test images; its weights stay in ``file``."""
    model = SmallCNN(3, len(data.train_on.classes), SIZE, _WIDTH, seed=seed)
    if file.exists():
        model.load_state_dict(load_file(str(file)))
        model.eval()
    else:
        loader = make_loader(data.train_on, batch_size=_AT_ONCE, shuffle=True, seed=seed)
        train(model, loader, epochs=epochs, lr=_RATE, max_shift=_SHIFT, seed=seed, progress=False)
        with atomic_path(file) as part:
            save_file({name: value.contiguous() for name, value in model.state_dict().items()}, part)
    return model, accuracy(model, make_loader(data.test_on, batch_size=_AT_ONCE))


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of many images (N, C)."""
    with torch.no_grad():
        return torch.cat([model(part) for part in torch.split(images, _AT_ONCE)])


def losses(model: nn.Module, images: Tensor, changed: Tensor, classes: Tensor) -> tuple[Float64, Bools]:
    """Return by how much each change lowers the log-odds of the images' classes, and whether it changes the answer."""
    before = log_odds(logits_of(model, images), classes)
    after = logits_of(model, changed.flatten(0, 1))
    many = classes.repeat_interleave(changed.shape[1])
    lost = before[:, None] - log_odds(after, many).view(len(images), -1)
    other = (after.argmax(1) != many).view(len(images), -1)
    return lost.double().numpy(), other.numpy()
