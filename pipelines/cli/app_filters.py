"""The words of the command ``interpnet filters``."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options as o
from . import options_filters as f
from .dispatch import run_command


def filters(
    model: o.ModelArgument = None,
    data: o.DataArgument = None,
    out: Annotated[
        str | None, typer.Option("--out", help="The run folder.", metavar="DIR", show_default="runs/MODEL-DATA-filters")
    ] = None,
    fresh: o.Fresh = False,
    open_report: o.OpenReport = False,
    weights: o.Weights = None,
    num_classes: o.NumClasses = None,
    output: o.Output = None,
    data_root: o.DataRoot = None,
    classes: o.Classes = None,
    image_size: o.ImageSize = None,
    crop: o.Crop = None,
    mean: o.Mean = None,
    std: o.Std = None,
    channels: o.Channels = None,
    on_bad_image: o.OnBadImage = None,
    split: f.Split = None,
    max_images: f.MaxShown = None,
    layers: f.PicturedLayers = None,
    per_layer: f.PerLayer = None,
    max_classes: f.MaxClasses = None,
    neighbours: f.Neighbours = None,
    perplexity: f.Perplexity = None,
    steps: f.Steps = None,
    jitter: f.Jitter = None,
    blur: f.Blur = None,
    l2: f.L2 = None,
    seed: o.Seed = None,
    device: o.Device = None,
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
) -> None:
    """Picture a network: filters, what channels and classes answer to, a map of the images, nearest images.

    Writes report/filters.html into the run folder, one file that opens anywhere. The same command, or
    [bold]--out runs/NAME[/] alone, goes on after an interruption; the same --seed gives the same page.

    [green]interpnet filters torchvision:resnet18 imagefolder:photos --open[/]
    [green]interpnet filters smallcnn digits --weights digits.safetensors --out runs/digits-filters[/]
    [green]interpnet filters torchvision:vgg16 imagefolder:photos --layers 'features.2*' --per-layer 12 --steps 256[/]

    A few seconds for a small network; minutes for an ImageNet one on a CPU, most of them for gradient ascent:
    fewer --steps, --per-layer or --max-classes are quicker.
    """
    run_command("filters", locals(), module="interpnet.pipelines.cli.commands_filters")
