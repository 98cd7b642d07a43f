"""The command line's words, each described once; importing this needs no heavy library.

Every option's default is ``None``, "not given": the value then comes from ``run.toml`` or, in a new run,
from :class:`pipelines.config.RunConfig`, whose defaults the help texts name.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

MODEL, DATA, STUDY, PICTURES, MACHINE, FOLDER = (
    "Model", "Data", "Method and study", "Pictures", "Machine", "Run folder",
)  # fmt: skip


def option(*names: str, help: str, panel: str, default: str | None = None, metavar: str | None = None) -> Any:  # noqa: A002
    """Return an option of one panel of the help; ``default`` is what the help shows, the value stays ``None``."""
    return typer.Option(
        *names,
        help=help,
        rich_help_panel=panel,
        show_default=False if default is None else default,
        metavar=metavar,
    )


ModelArgument = Annotated[
    str | None,
    typer.Argument(
        help="torchvision:NAME, timm:NAME, path/to/file.py:factory, or smallcnn (with --weights).",
        metavar="MODEL",
        show_default=False,
    ),
]
DataArgument = Annotated[
    str | None,
    typer.Argument(
        help="digits, mnist, cifar10, imagefolder:PATH, or an8flower-single-6c.", metavar="DATA", show_default=False
    ),
]
RunArgument = Annotated[str, typer.Argument(help="An existing run folder.", metavar="RUN", show_default=False)]

Weights = Annotated[
    str | None,
    option(
        "--weights",
        help="A file (.safetensors; .pt or .pth with a state dict), pretrained, random, or published weights' name.",
        panel=MODEL,
        default="pretrained for torchvision and timm",
    ),
]
NumClasses = Annotated[
    int | None,
    option("--num-classes", help="Outputs of the model.", panel=MODEL, default="the architecture's", metavar="N"),
]
Output = Annotated[
    str | None,
    option(
        "--output",
        help="Which entry of a returned tuple or dict is the logits.",
        panel=MODEL,
        metavar="KEY_OR_INDEX",
    ),
]
DataRoot = Annotated[
    str | None, option("--data-root", help="Where mnist and cifar10 lie.", panel=DATA, default="data", metavar="DIR")
]
Shortcut = Annotated[
    str | None,
    option(
        "--shortcut",
        help="Plant a cue outside the plant that agrees with the class (an8flower only).",
        panel=DATA,
        default="none",
        metavar="background|pot|watermark|texture|position",
    ),
]
Strength = Annotated[
    float | None,
    option(
        "--strength",
        help="Share of the training images in which the cue agrees, 0 to 1; in the test it is drawn by chance.",
        panel=DATA,
        default="1",
        metavar="X",
    ),
]
Classes = Annotated[
    str | None,
    option(
        "--classes",
        help="Text file naming the model's outputs, one a line in order; the data's classes are found in it.",
        panel=DATA,
        default="the data's classes are the outputs",
        metavar="FILE",
    ),
]
ImageSize = Annotated[
    str | None,
    option(
        "--image-size",
        help="Resize: N for the shorter side (then the square centre is cut out), or HxW.",
        panel=DATA,
        default="as the weights' publisher, else none",
        metavar="N|HxW",
    ),
]
Crop = Annotated[str | None, option("--crop", help="Centre crop after resizing.", panel=DATA, metavar="N|HxW")]
Mean = Annotated[
    str | None,
    option(
        "--mean",
        help="Subtracted from pixels in [0, 1]: one number, or one a channel.",
        panel=DATA,
        default="the weights' or the data's own",
        metavar="X[,X,X]",
    ),
]
Std = Annotated[
    str | None,
    option(
        "--std",
        help="Divides them afterwards.",
        panel=DATA,
        default="the weights' or the data's own",
        metavar="X[,X,X]",
    ),
]
Channels = Annotated[
    int | None,
    option(
        "--channels", help="Convert images to 1 (grey) or 3 (colour).", panel=DATA, default="the data's", metavar="1|3"
    ),
]
OnBadImage = Annotated[
    str | None,
    option(
        "--on-bad-image",
        help="An unreadable image stops the run, or is left out and listed in the report.",
        panel=DATA,
        default="fail",
        metavar="fail|skip",
    ),
]
MaxImages = Annotated[
    int | None,
    option(
        "--max-images", help="Use so many training images, balanced by class.", panel=DATA, default="all", metavar="N"
    ),
]
LayersOption = Annotated[
    list[str] | None,
    option(
        "--layers",
        help="default, conv, all, names or globs as `interpnet layers` prints them; comma-separated or repeated.",
        panel=STUDY,
        default="default: every activation after a convolution or linear layer",
        metavar="LAYERS",
    ),
]
Norm = Annotated[
    str | None,
    option(
        "--norm",
        help="Score of a channel: the L2 norm of its map (the paper), or its square (the released code).",
        panel=STUDY,
        default="l2",
        metavar="l2|l2sq",
    ),
]
Mu = Annotated[
    str | None,
    option(
        "--mu",
        help="Sparsity: bound on the L1 norm of a class's weights; the smaller, the fewer channels. auto tries about "
        "twenty values on held-out images (5 folds) and takes the smallest within one standard error of the best.",
        panel=STUDY,
        default="10",
        metavar="X|auto",
    ),
]
Positive = Annotated[
    bool | None,
    option("--positive/--signed", help="Weights not below zero, or of either sign.", panel=STUDY, default="signed"),
]
FitOn = Annotated[
    str | None,
    option(
        "--fit-on",
        help="Fit on the labels or on the network's predictions; auto takes predictions below 5 images a class.",
        panel=STUDY,
        default="auto",
        metavar="labels|predictions|auto",
    ),
]
ClassWeight = Annotated[
    str | None,
    option(
        "--class-weight",
        help="none: every image counts alike. balanced: every class counts alike, however few its images.",
        panel=STUDY,
        default="none",
        metavar="none|balanced",
    ),
]
StabilityPairs = Annotated[
    int | None,
    option(
        "--stability",
        help="Solve again on N random pairs of halves of the images and give each channel the share of halves that "
        "name it too; 20 to 50 are usual.",
        panel=STUDY,
        default="0: off",
        metavar="N",
    ),
]
Repeats = Annotated[
    int | None,
    option("--repeats", help="Draws of every random control.", panel=STUDY, default="10", metavar="N"),
]
Fill = Annotated[
    str | None,
    option(
        "--fill",
        help="What a removed map is overwritten with: zero, or the channel's mean.",
        panel=STUDY,
        default="zero",
        metavar="zero|mean",
    ),
]
MaxAblationImages = Annotated[
    int | None,
    option(
        "--max-ablation-images",
        help="Use so many test images, balanced by class.",
        panel=STUDY,
        default="all",
        metavar="N",
    ),
]
Examples = Annotated[
    int | None,
    option(
        "--examples", help="Recognised test images explained for each class.", panel=PICTURES, default="2", metavar="N"
    ),
]
Misclassified = Annotated[
    int | None,
    option(
        "--misclassified",
        help="Misclassified test images explained, in all.",
        panel=PICTURES,
        default="10",
        metavar="N",
    ),
]
TopK = Annotated[
    int | None, option("--k", help="Channels shown for each image.", panel=PICTURES, default="3", metavar="K")
]
MaxChannels = Annotated[
    int | None,
    option(
        "--max-channels", help="Channels pictured for each class, by weight.", panel=PICTURES, default="12", metavar="N"
    ),
]
Top = Annotated[
    int | None,
    option("--top", help="Images averaged in a channel's visualization.", panel=PICTURES, default="100", metavar="N"),
]
Rectifier = Annotated[
    str | None,
    option(
        "--rectifier",
        help="How heatmaps pass rectifiers on their way back.",
        panel=PICTURES,
        default="guided",
        metavar="guided|deconvnet|gradient",
    ),
]
Resample = Annotated[
    bool | None,
    option(
        "--resample/--no-resample",
        help="Strided convolutions run backwards with stride 1 on a resampled signal (the paper), or as they are.",
        panel=PICTURES,
        default="resample",
    ),
]
Reduction = Annotated[
    str | None,
    option(
        "--reduction",
        help="One value a pixel from the colours' signals: sum of absolute values, sum of positive parts, or maximum.",
        panel=PICTURES,
        default="abs",
        metavar="abs|positive|max",
    ),
]
Methods = Annotated[
    list[str] | None,
    option(
        "--methods",
        help="Attribution methods shown beside (docs/methods.md), and always the controls edge, random and center; "
        "comma-separated or repeated.",
        panel=PICTURES,
        default="gradient,guided,gradcam++",
        metavar="METHODS",
    ),
]
Seed = Annotated[int | None, option("--seed", help="Fixes everything random.", panel=MACHINE, default="0", metavar="N")]
Device = Annotated[
    str | None,
    option("--device", help="cpu, cuda, cuda:1, mps.", panel=MACHINE, default="the best there is", metavar="DEVICE"),
]
BatchSize = Annotated[
    int | None, option("--batch-size", help="Images a batch.", panel=MACHINE, default="64", metavar="N")
]
Workers = Annotated[
    int | None,
    option("--workers", help="Processes that read images ahead.", panel=MACHINE, default="0: none", metavar="N"),
]
Out = Annotated[
    str | None,
    option("--out", help="The run folder.", panel=FOLDER, default="runs/MODEL-DATA", metavar="DIR"),
]
Config = Annotated[
    str | None,
    option(
        "--config",
        help="Take settings from this run.toml; options given here override it.",
        panel=FOLDER,
        metavar="FILE",
    ),
]
Fresh = Annotated[bool, option("--fresh", help="Start the run folder over instead of going on.", panel=FOLDER)]
OpenReport = Annotated[bool, option("--open", help="Open the report in a browser.", panel=FOLDER)]
