"""Three trained networks, the channels identified in them, images to show and images to measure on.

What is shown may be shown: three photographs in the public domain that ship with scikit-image, and generated flowers.
The shared ImageNet and CIFAR-10 images are measured on and not reproduced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms import v2

from experiments.ablation.subjects import every_fifth
from experiments.common.flower_networks import trained
from experiments.common.networks import cifar_resnet
from experiments.common.shared_data import shared_data
from experiments.methods.subject import MEAN, SIZE, STD, batch, class_name, squeezenet
from interpnet.datasets import load_dataset, make_loader, stack_images
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import ScoreTable, collect_scores

#: By their names in skimage.data; all CC0 or NASA's.
PHOTOGRAPHS = ("chelsea", "coffee", "rocket")


@dataclass(frozen=True)
class Subject:
    """A network, what was identified in it, and its images.

    Attributes
    ----------
    model : nn.Module
    found : Interpretation
    table : ScoreTable
        What it was solved on.
    shown, measured : Tensor (B, 3, H, W)
        Images of the sheet, and of the numbers.
    pixels : Tensor (B, 3, H, W)
        ``shown`` in [0, 1].
    masks : Tensor (B, H, W) or None
        What tells the class, of the shown images and then of the measured ones.
    """

    model: nn.Module
    found: Interpretation
    table: ScoreTable
    shown: Tensor
    measured: Tensor
    pixels: Tensor
    masks: Tensor | None = None


def photographs(size: int) -> Tensor:
    """Return the photographs (3, 3, size, size), shorter side reduced to ``size``, centre cropped, normalised."""
    import skimage.data

    shorter = 256 if size == SIZE else size
    transform = v2.Compose([
        v2.ToImage(), v2.Resize(shorter, antialias=True), v2.CenterCrop(size), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ])  # fmt: skip
    return torch.stack([transform(Image.fromarray(getattr(skimage.data, name)())) for name in PHOTOGRAPHS])


def _unnormalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    view = (1, -1, 1, 1)
    return (images * torch.tensor(std).view(view) + torch.tensor(mean).view(view)).clamp(0, 1)


def imagenet(work: Path, options: str) -> Subject:
    """Return SqueezeNet 1.0, solved on its predictions for 500 samples and the photographs: an image a class or two."""
    del work, options
    model, shown = squeezenet(), photographs(SIZE)
    batches = [batch(list(range(i, i + 50))) for i in range(0, 500, 50)]
    table = collect_scores(model, [*batches, (shown, torch.zeros(len(shown)).long())], progress=False)
    table = replace(table, labels=table.predictions)
    found = interpret(table, mu=10.0, classes=[class_name(i) for i in range(1000)])
    measured = torch.cat([images for images, _ in batches])[::20]
    return Subject(model, found, table, shown, measured, _unnormalised(shown, MEAN, STD))


def cifar(work: Path, options: str) -> Subject:
    """Return ResNet-20, solved on every fifth training image of CIFAR-10; measured on 100 test images."""
    del work, options
    model = cifar_resnet(20)
    model.load_state_dict(load_file(str(shared_data() / "cifar10" / "resnet20.safetensors")))
    train_on, classes = every_fifth("train")
    table = collect_scores(model.eval(), train_on, progress=False)
    shown = photographs(32)
    measured = torch.cat([b.images for b in every_fifth("test")[0]])[::20]
    return Subject(
        model, interpret(table, mu=10.0, classes=classes), table, shown, measured, _unnormalised(shown, MEAN, STD)
    )


def flowers(work: Path, options: str) -> Subject:
    """Return the small network of E3 with seed 0, solved on single-6c; a third of the classes shown, 60 test images."""
    spec = f"an8flower-single-6c{options}"
    train_on, test_on = (load_dataset(spec, split=s, root=work) for s in ("train", "test"))
    file = work / "single-6c-smallcnn-0.safetensors"
    model, _ = trained("smallcnn", train_on, test_on, 0, file, epochs=10 if options else None)
    table = collect_scores(model, make_loader(train_on, batch_size=64), progress=False)
    which = list(range(min(len(test_on), 63)))  # the classes come in turn
    images = stack_images(test_on, which)
    if test_on.masks is None:
        raise RuntimeError("an8Flower has masks")
    plain = load_dataset(spec, split="test", root=work, mean=0.0, std=1.0)
    return Subject(
        model, interpret(table, mu=5.0, classes=train_on.classes), table, images[:3], images[3:],
        stack_images(plain, which[:3]), torch.from_numpy(test_on.masks["discriminative"][which]),
    )  # fmt: skip


SUBJECTS: dict[str, tuple[str, Callable[[Path, str], Subject]]] = {
    "squeezenet": ("SqueezeNet 1.0", imagenet),
    "resnet20": ("CIFAR-10 ResNet-20", cifar),
    "flowers": ("an8Flower single-6c, small network", flowers),
}
