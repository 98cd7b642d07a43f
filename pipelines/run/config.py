"""Everything that defines a run, in one value: from the command line, to ``run.toml`` and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from interpnet.errors import InterpNetError

from .check_settings import CheckSettings
from .config_file import read_tables, written
from .settings import SECTIONS, about, setting

#: Methods that need no network, shown beside every other: a map like theirs says nothing of it.
CONTROLS = ("edge", "random", "center")
#: The two ways to name channels: those that predict a class, and those that the network relies on for it.
MU_LASSO = "mu-lasso"
RELIANCE = "reliance"
#: Of fewer training images the weights of a regression name noise.
FEWEST_IMAGES = 10
#: What runs did before there was a setting, whose settings therefore lack it.
EARLIER: Mapping[str, Any] = {"identify": MU_LASSO, "mu_rule": "error", "variant": "paper"}
#: The defaults of the settings that a variant stands for, in runs from before there were variants.
UNVARIED: Mapping[str, Any] = {"rectifier": "guided", "resample": True, "reduction": "abs"}
#: What stands before the name of an object of a Python program, where a configuration names a model, data or output.
PYTHON = "python:"
#: The rules by which signals go down, as :mod:`interpnet.backward` knows them; ``--help`` must not wait for torch.
RULES = (
    "guided",
    "deconvnet",
    "gradient",
    "lrp_gamma",
    "lrp_epsilon_plus_flat",
    "lrp_epsilon",
    "lrp_0",
    "lrp_alpha1beta0",
    "lrp_alpha2beta1",
    "lrp_zbox",
    "deep_taylor",
)


# A setting of each section: its default, and what --help says of it.
_model = partial(setting, section="model")
_data = partial(setting, section="data")
_collect = partial(setting, section="collect")
_solve = partial(setting, section="solve")
_ablate = partial(setting, section="ablate")
_explain = partial(setting, section="explain")
_run = partial(setting, section="run")


@dataclass(frozen=True)
class RunConfig(CheckSettings):
    """The settings of a run; ``interpnet audit --help`` explains each.

    Examples
    --------
    >>> RunConfig(model="smallcnn", data="digits", mu=5.0).override({"mu": 20.0, "k": None}).mu
    20.0
    """

    model: str = _model(
        "",
        "torchvision:NAME, timm:NAME, path/to/file.py:factory, smallcnn (with --weights), or efficientnet-lite0 "
        "(ImageNet, no download).",
        names="MODEL",
    )
    weights: str | None = _model(
        None,
        "A file (.safetensors; .pt or .pth with a state dict), pretrained, random, or published weights' name.",
        shown="pretrained for torchvision and timm",
    )
    weights_key: str | None = _model(
        None,
        "Which part of a checkpoint that holds several, such as model or model_ema.",
        shown="the one that fits; averaged weights first",
        metavar="KEY",
    )
    num_classes: int | None = _model(None, "Outputs of the model.", shown="the architecture's", least=1)
    output: str | None = _model(None, "Which entry of a returned tuple or dict is the logits.", metavar="KEY_OR_INDEX")
    data: str = _data(
        "",
        "digits, mnist, cifar10, imagefolder:PATH, csv:PATH, webdataset:PATTERN, hf:PATH, an8flower-single-6c, or "
        "path/to/file.py:loaders.",
        names="DATA",
    )
    data_root: str | None = _data(None, "Where mnist and cifar10 lie.", shown="data", metavar="DIR")
    classes: str | None = _data(
        None,
        "Text file naming the model's outputs, one per line in order; the data's classes are found in it. Or the word "
        "imagenet: its 1,000 classes, found by names or WordNet ids.",
        shown="the data's classes are the outputs",
        metavar="FILE",
    )
    group: Sequence[str] = _data(
        (),
        "Merge several outputs into one class, whose probability is the sum of theirs: dogs=beagle,collie. By names, "
        "numbers or, with --classes imagenet, WordNet ids; repeat for more groups.",
        metavar="NAME=CLASS,CLASS",
    )
    image_size: tuple[int, ...] | None = _data(
        None,
        "Resize: N for the shorter side (then the square centre is cut out), or HxW.",
        shown="as the weights' publisher, else none",
    )
    crop: tuple[int, ...] | None = _data(None, "Centre crop after resizing.")
    mean: tuple[float, ...] | None = _data(
        None,
        "Subtracted from pixels in [0, 1]: one number, or one per channel.",
        shown="the weights' or the data's own",
    )
    std: tuple[float, ...] | None = _data(None, "Divides them afterwards.", shown="the weights' or the data's own")
    channels: int | None = _data(
        None,
        "Convert images to 1 (grey) or 3 (colour); of image folders, any other number of bands as they are.",
        shown="the data's",
        least=1,
    )
    max_value: float | None = _data(
        None, "The value of white in image files, such as 4095 for 12 bits.", shown="255, 65535 for 16 bits"
    )
    on_bad_image: str = _data(
        "fail", "An unreadable image stops the run, or is left out and listed in the report.", choices=("fail", "skip")
    )
    layers: tuple[str, ...] = _collect(
        ("default",),
        "default, conv, attention, heads, all, names or globs as `interpnet layers` prints them; comma-separated or "
        "repeated.",
        shown="default: every activation after a convolution or linear layer",
        metavar="LAYERS",
    )
    norm: str = _collect(
        "l2",
        "Score of a channel: the L2 norm of its map (the paper), or its square (the released code).",
        choices=("l2", "l2sq"),
    )
    outputs: str = _collect(
        "auto",
        "exclusive: an image has one class. independent: every output is a question of its own, and an image can have "
        "several labels or none. auto: as the data's labels are.",
        choices=("auto", "exclusive", "independent"),
    )
    max_images: int | None = _collect(
        None, "Use so many training images, balanced by class.", panel=SECTIONS["data"], shown="all", least=1
    )
    identify: str = _solve(
        "both",
        "Find the channels that predict each class (mu-lasso: the paper), those that the network relies on for it "
        "(reliance), or both.",
        choices=(MU_LASSO, RELIANCE, "both"),
    )
    mu: float | Literal["auto"] = _solve(
        10.0,
        "Sparsity: bound on the L1 norm of a class's weights; the smaller, the fewer channels. auto tries twenty "
        "values on held-out images (5 folds) and takes the smallest within one standard error of the best.",
    )
    mu_rule: str = _solve(
        "accuracy",
        "What auto goes by: held-out accuracy, among mu that name at most 32 channels per class and a tenth of all; or "
        "held-out squared error, which names far more.",
        choices=("accuracy", "error"),
    )
    positive: bool = _solve(
        False, "Weights not below zero, or of either sign.", shown="signed", names="--positive/--signed"
    )
    fit_on: str = _solve(
        "auto",
        "Fit on the labels or on the network's predictions; auto takes predictions below 5 images per class.",
        choices=("labels", "predictions", "auto"),
    )
    class_weight: str = _solve(
        "none",
        "none: every image counts alike. balanced: every class counts alike, however few its images.",
        choices=("none", "balanced"),
    )
    stability: int = _solve(
        0,
        "Solve again on N random pairs of halves of the images and give each channel the share of halves that "
        "name it too; 20 to 50 are usual.",
        shown="0: off",
        least=0,
    )
    price: float = _solve(
        4.0,
        "Reliance: what a channel's mean contribution to the other classes counts against it; 0 takes whatever costs "
        "the class most.",
        least=0,
        expected="a number of at least 0",
    )
    contribution_images: int = _solve(
        500,
        "Reliance: training images of each class by which contributions to its log-odds are measured, at most.",
        least=1,
    )
    reliance_images: int = _solve(
        100, "Reliance: training images of each class by which channels are ordered and removed, at most.", least=1
    )
    max_relied: int = _solve(64, "Reliance: channels named for a class, at most.", least=1)
    repeats: int = _ablate(
        2, "Passes over the images for every random control, each with a draw for every two images.", least=1
    )
    fill: str = _ablate(
        "zero", "What a removed map is overwritten with: zero, or the channel's mean.", choices=("zero", "mean")
    )
    rankings: tuple[str, ...] = _ablate(
        (),
        "Rankings of channels of your own, removed beside the controls: FILE.py:FUNCTION, a function (table, "
        "contributions) that returns scores (C, m) (docs/own.md); comma-separated or repeated.",
        shown="none",
        metavar="RANKINGS",
    )
    max_ablation_images: int | None = _ablate(None, "Use so many test images, balanced by class.", shown="all", least=1)
    only: tuple[str, ...] = _ablate(
        (),
        "Study and show these classes only, by name or number, comma-separated or repeated; the images of all others "
        "are the contrast. all: every class again.",
        shown="all",
        metavar="CLASSES",
    )
    examples: int = _explain(2, "Recognised test images explained for each class.", least=0)
    misclassified: int = _explain(10, "Misclassified test images explained, in all.", least=0)
    k: int = _explain(3, "Channels shown for each image.", metavar="K", least=1)
    max_channels: int = _explain(
        12, "Channels pictured for each class, the first by weight and by reliance each.", least=1
    )
    max_examples: int = _explain(
        60, "Recognised test images explained, in all: of many classes fewer for each.", least=0
    )
    max_pictured: int = _explain(1200, "Channels pictured, in all: of many classes fewer for each.", least=1)
    max_masked_images: int = _explain(
        120, "Test images whose maps are compared with the data's masks, balanced by class, at most.", least=1
    )
    top: int = _explain(100, "Images averaged in a channel's visualization.", least=1)
    by: str | None = _explain(
        None,
        "Explain images by the channels that the class relies on, or by those that predict it.",
        shown="reliance where it was identified",
        choices=(MU_LASSO, RELIANCE),
    )
    variant: str = _explain(
        "relevance",
        "What stands for the options below that are not given. relevance: LRP-gamma from where a channel speaks for "
        "the class, smoothed a little. paper: the channel's map by guided backpropagation, strided convolutions "
        "resampled.",
        choices=("relevance", "paper"),
    )
    choose: str | None = _explain(
        None,
        "An image's channels: by weight times score; by the image's own contribution among those named for the class; "
        "named: these first, then others; or among all.",
        shown="the variant's",
        choices=("weight", "contribution", "named", "all"),
    )
    rule: str | None = _explain(
        None,
        "How a channel's signal goes down to the image: a rule at rectifiers (guided, deconvnet, gradient), or LRP's "
        "relevance.",
        shown="the variant's",
        choices=RULES,
        metavar="RULE",
    )
    rectifier: str | None = _explain(
        None, "The older name of --rule, for guided, deconvnet and gradient.", choices=RULES[:3]
    )
    start: str | None = _explain(
        None,
        "What the signal starts with: the channel's map (activation), what of it speaks for the class (contribution), "
        "the relevance that LRP sends to it from the class (relevance), ones, or the map at its maximum.",
        shown="the variant's",
        choices=("activation", "contribution", "relevance", "ones", "maximum"),
    )
    resample: bool | None = _explain(
        None,
        "Strided convolutions run backwards with stride 1 on a resampled signal (the paper), or as they are.",
        shown="resampled, but not under LRP",
        names="--resample/--no-resample",
    )
    smooth: float | None = _explain(
        None,
        "Width of a Gaussian over each map, in pixels; 0 for none.",
        shown="the variant's: 1 % of the side, or none",
        least=0,
        expected="a number of at least 0",
    )
    saturate: float | None = _explain(
        None,
        "Share of a map's pixels below which its scale is linear; what lies above is cut. 1 for none.",
        shown="the variant's: 0.99, or 1",
    )
    reduction: str | None = _explain(
        None,
        "One value per pixel from the colours' signals: sum of absolute values, sum of positive parts, maximum, or the "
        "sum where it is positive.",
        shown="sum for LRP, else abs",
        choices=("abs", "positive", "max", "sum"),
    )
    methods: tuple[str, ...] = _explain(
        ("gradient", "guided", "gradcam++"),
        "Attribution methods shown beside (docs/methods.md), FILE.py:FUNCTION for one of your own (docs/own.md), and "
        "always the controls edge, random and center; comma-separated or repeated.",
        metavar="METHODS",
    )
    seed: int = _run(0, "Fixes everything random.", least=0)
    anyway: bool = _run(
        False,
        "Go on where a first look at the images says that the numbers would mean nothing: a network at chance, classes "
        "in another order, another mean and std.",
        names="--anyway",
    )
    device: str = _run("auto", "cpu, cuda, cuda:1, mps.", shown="the best there is", metavar="DEVICE")
    batch_size: int = _run(64, "Images per batch.", least=1, below=2**31)
    workers: int = _run(0, "Processes that read images ahead.", shown="0: none", least=0, below=1025)
    # Where the run was started; no option, for it is not chosen.
    directory: str | None = _run(None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers:
            raise InterpNetError("--layers is empty; expected default, conv, all, or names of layers")
        if self.by is not None and self.identify not in (self.by, "both"):
            raise InterpNetError(
                f"--by is {self.by!r}, but --identify is {self.identify!r}; expected --identify {self.by} or both"
            )
        if self.rule is not None and self.rectifier is not None:
            raise InterpNetError(
                f"--rule is {self.rule!r} and --rectifier {self.rectifier!r}; --rectifier is the older name of --rule, "
                "so give --rule alone"
            )
        for name in ("mean", "std"):
            values = getattr(self, name) or ()
            if max(values, default=0.0) > 1 and not self.anyway:
                given = ",".join(f"{value:g}" for value in values)
                scaled = ",".join(f"{value / 255:.3g}" for value in values)
                raise InterpNetError(
                    f"--{name} is {given}, as if pixels went from 0 to 255; they are in [0, 1] here, so expected "
                    f"numbers up to 1, such as --{name} {scaled} (or --anyway)"
                )
        if self.saturate is not None and not 0 < self.saturate <= 1:
            raise InterpNetError(f"--saturate is {self.saturate!r}; expected a number above 0 and at most 1")

    @property
    def ways(self) -> tuple[str, ...]:
        """How channels are named for each class; images are explained by the first."""
        if self.identify != "both":
            return (self.identify,)
        if self.by == MU_LASSO:
            return (MU_LASSO, RELIANCE)
        return (RELIANCE, MU_LASSO)

    def section(self, name: str) -> dict[str, Any]:
        """Return the settings of one section, for a key; JSON-able, ``None`` included."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if about(entry).section == name}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def changed(self, *names: str) -> dict[str, Any]:
        """Return those of some settings that are not as they are by default, for a key that runs of before have."""
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(type(self), name)}

    def path(self, written: str) -> str:
        """Return a path of the configuration as it can be opened from here.

        A relative path is tried from the current folder, then from the one the run was started in.
        """
        if self.directory is None or Path(written).exists():
            return written
        there = Path(self.directory) / written
        if not there.exists():
            return written
        return str(there)

    def text(self) -> str:
        """Return the settings as TOML; what is not set is left out."""
        tables = {
            name: {key: value for key, value in self.section(name).items() if value is not None} for name in SECTIONS
        }
        return written({name: table for name, table in tables.items() if table or name != "check"})

    def save(self, path: Path) -> None:
        """Write :meth:`text` to a file."""
        from interpnet.support.io import write_text  # numpy comes along, for which --help must not wait

        write_text(path, self.text())

    @classmethod
    def load(cls, path: Path, *, missing: Mapping[str, Any] = MappingProxyType({})) -> RunConfig:
        """Read what :meth:`save` wrote, or a file written by hand; ``missing``: settings where the file has none.

        ``RunFolderError`` where it is missing, unreadable or no TOML, and for a section or setting that does not exist
        (close matches are named); ``InterpNetError`` for a value that cannot be.
        """
        given = read_tables(cls, path)
        if "variant" in missing and "variant" not in given:
            # What nobody chose then must not stand in the way of a variant that is chosen now.
            given = {name: value for name, value in given.items() if value != UNVARIED.get(name)}
        return cls(**(dict(missing) | given))
