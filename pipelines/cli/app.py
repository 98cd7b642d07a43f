"""The command ``interpnet``: its commands, their help, and how errors and Ctrl-C end.

Nothing heavy is imported before a command runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer
from typer.main import get_command

from . import options as o
from .app_filters import filters
from .dispatch import EXIT_ERROR, EXIT_INTERRUPTED, run_command

app = typer.Typer(
    name="interpnet",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from interpnet import __version__

        typer.echo(f"interpnet {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _top(
    ctx: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Audit an image classifier.

    Which channels does it rely on for each class, what does removing them cost, and what do they look at?

    Start with [bold]interpnet demo[/]. Your own network:

    [green]interpnet audit torchvision:resnet18 imagefolder:photos --out runs/first[/]
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command()
def demo(
    out: Annotated[
        str | None, typer.Option("--out", help="The run folder.", show_default="runs/demo, or runs/demo-SHORTCUT")
    ] = None,
    shortcut: o.Shortcut = None,
    strength: o.Strength = None,
    mu: o.Mu = None,
    positive: o.Positive = None,
    class_weight: o.ClassWeight = None,
    stability: o.StabilityPairs = None,
    seed: o.Seed = None,
    device: o.Device = None,
    fresh: o.Fresh = False,
    open_report: o.OpenReport = False,
) -> None:
    """Draw flowers of six colours, train a small network on them and audit it; a minute or two, no download.

    With [bold]--shortcut[/] a cue outside the plant gives the class away: see what the audit makes of it.

    [green]interpnet demo --open[/]
    [green]interpnet demo --mu auto --stability 20[/]
    [green]interpnet demo --shortcut background[/]
    """
    run_command("demo", locals(), module="interpnet.pipelines.cli.commands_model")


@app.command()
def audit(
    model: o.ModelArgument = None,
    data: o.DataArgument = None,
    out: o.Out = None,
    config: o.Config = None,
    fresh: o.Fresh = False,
    open_report: o.OpenReport = False,
    weights: o.Weights = None,
    num_classes: o.NumClasses = None,
    output: o.Output = None,
    data_root: o.DataRoot = None,
    shortcut: o.Shortcut = None,
    strength: o.Strength = None,
    classes: o.Classes = None,
    image_size: o.ImageSize = None,
    crop: o.Crop = None,
    mean: o.Mean = None,
    std: o.Std = None,
    channels: o.Channels = None,
    on_bad_image: o.OnBadImage = None,
    max_images: o.MaxImages = None,
    layers: o.LayersOption = None,
    norm: o.Norm = None,
    mu: o.Mu = None,
    positive: o.Positive = None,
    fit_on: o.FitOn = None,
    class_weight: o.ClassWeight = None,
    stability: o.StabilityPairs = None,
    repeats: o.Repeats = None,
    fill: o.Fill = None,
    max_ablation_images: o.MaxAblationImages = None,
    examples: o.Examples = None,
    misclassified: o.Misclassified = None,
    k: o.TopK = None,
    max_channels: o.MaxChannels = None,
    top: o.Top = None,
    rectifier: o.Rectifier = None,
    resample: o.Resample = None,
    reduction: o.Reduction = None,
    methods: o.Methods = None,
    seed: o.Seed = None,
    device: o.Device = None,
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
) -> None:
    """Audit a network from images to report: collect, solve, ablate, explain, report.

    What the run folder already holds for the same inputs is not done again, so the same command
    goes on after an interruption; [bold]--out runs/NAME[/] alone does, too.

    [green]interpnet audit torchvision:resnet18 imagefolder:photos --out runs/first[/]
    [green]interpnet audit nets/mine.py:make cifar10 --weights mine.safetensors --mu 5[/]
    [green]interpnet audit --config runs/first/run.toml --out runs/again[/]

    imagefolder:PATH holds one folder a class, or train/ and test/ with one folder a class in each.
    """
    run_command("audit", locals())


@app.command()
def collect(
    model: Annotated[
        str | None,
        typer.Argument(
            help="An existing run folder, or a model as in `audit`.", metavar="RUN|MODEL", show_default=False
        ),
    ] = None,
    data: o.DataArgument = None,
    out: o.Out = None,
    config: o.Config = None,
    fresh: o.Fresh = False,
    weights: o.Weights = None,
    num_classes: o.NumClasses = None,
    output: o.Output = None,
    data_root: o.DataRoot = None,
    shortcut: o.Shortcut = None,
    strength: o.Strength = None,
    classes: o.Classes = None,
    image_size: o.ImageSize = None,
    crop: o.Crop = None,
    mean: o.Mean = None,
    std: o.Std = None,
    channels: o.Channels = None,
    on_bad_image: o.OnBadImage = None,
    max_images: o.MaxImages = None,
    layers: o.LayersOption = None,
    norm: o.Norm = None,
    seed: o.Seed = None,
    device: o.Device = None,
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
) -> None:
    """Stage 1: score every channel on every training image, in one pass.

    An interrupted collection goes on at the last chunk that was written.

    [green]interpnet collect torchvision:resnet18 imagefolder:photos --out runs/first[/]
    [green]interpnet collect runs/first[/]
    """
    run_command("collect", locals())


@app.command()
def solve(
    run: o.RunArgument,
    mu: o.Mu = None,
    positive: o.Positive = None,
    fit_on: o.FitOn = None,
    class_weight: o.ClassWeight = None,
    stability: o.StabilityPairs = None,
) -> None:
    """Stage 2: find the channels each class relies on; needs neither model nor images.

    [green]interpnet solve runs/first --mu 5 --positive[/]
    [green]interpnet solve runs/first --mu auto --stability 20[/]

    [bold]--mu auto[/] chooses mu by held-out images and writes the whole curve to RUN/weights/selection.json;
    [bold]--stability N[/] says of each named channel how often other images would have named it, too.
    """
    run_command("solve", locals())


@app.command()
def ablate(
    run: o.RunArgument,
    repeats: o.Repeats = None,
    fill: o.Fill = None,
    max_ablation_images: o.MaxAblationImages = None,
    seed: o.Seed = None,
    device: o.Device = None,
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
) -> None:
    """Stage 3: remove each class's channels and measure recall, against random and other controls.

    [green]interpnet ablate runs/first --repeats 20[/]
    """
    run_command("ablate", locals())


@app.command()
def explain(
    run: o.RunArgument,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image", help="Explain this image file instead; repeat for more.", metavar="FILE", show_default=False
        ),
    ] = None,
    cls: Annotated[
        str | None,
        typer.Option(
            "--class", help="Explain the images for this class.", metavar="NAME", show_default="the predicted one"
        ),
    ] = None,
    examples: o.Examples = None,
    misclassified: o.Misclassified = None,
    k: o.TopK = None,
    max_channels: o.MaxChannels = None,
    top: o.Top = None,
    rectifier: o.Rectifier = None,
    resample: o.Resample = None,
    reduction: o.Reduction = None,
    methods: o.Methods = None,
    seed: o.Seed = None,
    device: o.Device = None,
    batch_size: o.BatchSize = None,
) -> None:
    """Stage 4: picture the relevant channels and explain test images, or explain images of your own.

    [green]interpnet explain runs/first --examples 4[/]
    [green]interpnet explain runs/first --image cat.jpg --image dog.jpg --class cat[/]

    Your own images go to RUN/explanations/user as PNG and JSON.
    """
    run_command("explain", locals())


@app.command()
def report(run: o.RunArgument, open_report: o.OpenReport = False) -> None:
    """Stage 5: write report/index.html, one file that opens anywhere; needs neither model nor images.

    [green]interpnet report runs/first --open[/]
    """
    run_command("report", locals())


@app.command()
def layers(
    model: Annotated[str, typer.Argument(help="As in `audit`.", metavar="MODEL", show_default=False)],
    data: o.DataArgument = None,
    weights: o.Weights = None,
    num_classes: o.NumClasses = None,
    output: o.Output = None,
    data_root: o.DataRoot = None,
    image_size: o.ImageSize = None,
    crop: o.Crop = None,
    channels: o.Channels = None,
    device: o.Device = None,
) -> None:
    """List the layers of a network: the names --layers takes, shapes, channels, and what is taken by default.

    With DATA the network runs on its first image, else on noise of --channels and --image-size.

    [green]interpnet layers torchvision:googlenet --weights random[/]
    """
    run_command("layers", locals(), module="interpnet.pipelines.cli.commands_model")


app.command()(filters)


@app.command()
def train(
    data: Annotated[
        str, typer.Argument(help="digits, mnist, cifar10, imagefolder:PATH, or an8flower-single-6c.", metavar="DATA")
    ],
    out: Annotated[
        str, typer.Option("--out", help="The file of weights.", metavar="FILE.safetensors")
    ] = "weights.safetensors",
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Passes over the images.", show_default="to see 150,000 images")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Highest learning rate.", show_default="0.003")] = None,
    width: Annotated[
        int | None, typer.Option("--width", help="Channels of the first layer.", show_default="16")
    ] = None,
    data_root: o.DataRoot = None,
    shortcut: o.Shortcut = None,
    strength: o.Strength = None,
    image_size: o.ImageSize = None,
    crop: o.Crop = None,
    mean: o.Mean = None,
    std: o.Std = None,
    channels: o.Channels = None,
    on_bad_image: o.OnBadImage = None,
    seed: o.Seed = None,
    device: o.Device = None,
    workers: o.Workers = None,
) -> None:
    """Train a small convolutional network, for a first audit or a test.

    [green]interpnet train mnist --out mnist.safetensors[/]
    [green]interpnet audit smallcnn mnist --weights mnist.safetensors[/]
    """
    run_command("train", locals(), module="interpnet.pipelines.cli.commands_model")


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: the run folder stays whole."""

    def stop(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _usage_errors() -> type[Exception]:
    """Return the base of typer's errors for wrong arguments, which newer versions keep to themselves."""
    return next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for a user's mistake, 130 after Ctrl-C.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default those of the process.
    """
    usage_error = _usage_errors()
    with _terminable():
        try:
            arguments = None if argv is None else list(argv)
            result = get_command(app).main(args=arguments, prog_name="interpnet", standalone_mode=False)
        except usage_error as error:
            message = " ".join(str(getattr(error, "format_message", error.__str__)()).split())
            typer.echo(f"error: {message} (interpnet --help tells more)", err=True)
            return EXIT_ERROR
        except (KeyboardInterrupt, typer.Abort):
            typer.echo("interrupted", err=True)
            return EXIT_INTERRUPTED
        except typer.Exit as error:
            return error.exit_code
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
