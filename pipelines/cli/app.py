"""The command ``interpnet``: its commands, their help, and how errors and Ctrl-C end.

Nothing heavy is imported before a command runs, so that ``--help`` is instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ..dissection.settings import DissectSettings
from ..filters.settings import FilterSettings
from ..run.repair_settings import RepairSettings
from .options import takes
from .running import TRACEBACK, run_line
from .wordings import NAMING, PHOTOGRAPHS, PICTURED_LAYERS, SHOWN_CLASSES, WEIGHTS

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
    _traceback: Annotated[
        bool, typer.Option(TRACEBACK, help="Show where an error came from; may stand anywhere on the line.")
    ] = False,
) -> None:
    """Audit an image classifier.

    Which channels does it rely on for each class, what does removing them cost, and what do they look at?

    Start with [bold]interpnet demo[/]. Your own network:

    [green]interpnet audit torchvision:resnet18 imagefolder:photos --out runs/first[/]

    In several processes: [green]torchrun --nproc-per-node 4 -m interpnet audit ...[/]; also collect, solve, ablate and
    explain.

    Exit codes: 0 done; 1 a finding of check, nothing accepted by repair, or a bug of ours (it says so); 2 a mistake in
    what was asked or a file that cannot be used; 130 interrupted; 141 nobody reads what is printed.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command()
@takes(
    "commands_model",
    "identify mu mu_rule positive class_weight stability price seed device",
    "kind out shortcut strength fresh open_report",
    out={"shown": "runs/demo, or runs/demo-SHORTCUT, or runs/demo-photos"},
)
def demo() -> None:
    """Draw flowers of six colours, train a small network on them and audit it; a minute or two, no download.

    With [bold]--shortcut[/] a cue outside the plant gives the class away: see what the audit makes of it.
    [bold]photos[/] takes EfficientNet-Lite0, trained on ImageNet, instead: five photographs explained, and its
    filters pictured; nothing is trained, and nothing is downloaded.

    [green]interpnet demo --open[/]
    [green]interpnet demo --mu auto --stability 20[/]
    [green]interpnet demo --shortcut background[/]
    [green]interpnet demo photos --open[/]
    """


@app.command()
@takes(
    "commands",
    "[model] [data] [collect] [solve] [ablate] [explain] [shortcuts] [concepts] [run]",
    "out config fresh open_report shortcut strength json quiet log",
    json={"help": "Print what report.json holds as JSON at the end; what goes on is said on stderr."},
)
def audit() -> None:
    """Audit a network from images to report: collect, solve, ablate, explain, shortcuts, report.

    What the run folder already holds for the same inputs is not done again, so the same command
    goes on after an interruption; [bold]--out runs/NAME[/] alone does, too.

    [green]interpnet audit torchvision:resnet18 imagefolder:photos --out runs/first[/]
    [green]interpnet audit nets/mine.py:make cifar10 --weights mine.safetensors --mu 5[/]
    [green]interpnet audit --config runs/first/run.toml --out runs/again[/]
    [green]torchrun --nproc-per-node 4 -m interpnet audit --out runs/first[/] (four processes)

    imagefolder:PATH holds one folder per class, or train/ and test/ with one folder per class in each; csv:PATH is a
    table of image files with any number of labels for each. webdataset:PATTERN are tar shards, and hf:PATH is a data
    set of Hugging Face, both on a disk. The function loaders of a file returns (train, test),
    DataLoaders or data sets.
    """


@app.command()
@takes(
    "commands",
    "[model] [data] [collect] [run] identify contribution_images fill",
    "out config fresh shard shortcut strength",
    model={"help": "An existing run folder, or a model as in `audit`.", "metavar": "RUN|MODEL"},
)
def collect() -> None:
    """Stage 1: score every channel on every training image, and what it contributes to the class, in one pass.

    An interrupted collection goes on at the last chunk that was written.

    [green]interpnet collect torchvision:resnet18 imagefolder:photos --out runs/first[/]
    [green]interpnet collect runs/first[/]

    Several processes share the images under torchrun. Machines without a network between them each collect a shard,
    which [bold]interpnet merge[/] joins:

    [green]torchrun --nproc-per-node 4 -m interpnet collect torchvision:resnet18 imagefolder:photos --out runs/first[/]
    [green]interpnet collect torchvision:resnet18 imagefolder:photos --shard 2/3 --out runs/shard2[/]
    """


@app.command()
@takes("commands", "", "runs out", out={"help": "The run folder that they make.", "shown": None})
def merge() -> None:
    """Join the runs of all shards of a collection to the run that one process would have made.

    [green]interpnet merge runs/shard1 runs/shard2 runs/shard3 --out runs/first[/]
    [green]interpnet audit --out runs/first[/]

    Shards of another model, data or settings are refused, and missing or unfinished ones named. The shards stay as
    they are; the same command goes on after an interruption. It needs neither model nor images.
    """


@app.command()
@takes("commands", "[solve]", "run")
def solve() -> None:
    """Stage 2: find the channels that predict each class, and those that the network relies on for it.

    [green]interpnet solve runs/first --mu 5 --positive[/]
    [green]interpnet solve runs/first --mu auto --stability 20[/]
    [green]torchrun --nproc-per-node 4 -m interpnet solve runs/first[/] (reliance in four processes)

    [bold]--identify[/] says which of the two; the first needs neither model nor images.
    [bold]--mu auto[/] chooses mu by held-out images and writes the whole curve to RUN/weights/selection.json;
    [bold]--stability N[/] says of each named channel how often other images would have named it, too.
    """


@app.command()
@takes("commands", "[ablate] [run]", "run")
def ablate() -> None:
    """Stage 3: remove each class's channels and measure what it costs, against random and other controls.

    [green]interpnet ablate runs/first --repeats 20[/]
    [green]interpnet ablate runs/first --only boat,wolf[/]
    [green]torchrun --nproc-per-node 4 -m interpnet ablate runs/first[/] (four processes)
    """


@app.command()
@takes("commands", "[explain] only seed device batch_size", "run image cls")
def explain() -> None:
    """Stage 4: picture the channels named and explain test images, or explain images of your own.

    [green]interpnet explain runs/first --examples 4[/]
    [green]interpnet explain runs/first --image cat.jpg --image dog.jpg --class cat[/]
    [green]torchrun --nproc-per-node 4 -m interpnet explain runs/first[/] (four processes)

    Your own images go to RUN/explanations/user as PNG and JSON.
    """


@app.command()
@takes("commands", "[shortcuts] only device", "run")
def shortcuts() -> None:
    """Stage 5: search for what the network goes by beside the subject, by exchanging parts between training images.

    [green]interpnet shortcuts runs/first --shortcut-images 5000[/]
    [green]interpnet shortcuts runs/first --only boat,wolf[/]
    [green]interpnet shortcuts runs/first --field photos/from-the-shop[/]

    An image gets the surroundings, a corner, the colours, the fine detail or a patch of another: does the class
    follow? That costs about six passes over the images used; more of them find smaller shares.

    [bold]--field[/] names images from where the network is used; nobody needs to label them. The report then says
    which classes draw them, by which channels, and what the images drawn share at one place, such as a watermark.
    """


@app.command()
@takes("commands_repair", "device", "run open_report", own=RepairSettings)
def repair() -> None:
    """Repair a network that goes by a shortcut, without group labels: new weights of the same architecture.

    [green]interpnet repair runs/first[/]
    [green]interpnet repair runs/first --only wolf --max-clean-loss 0.01[/]
    [green]interpnet audit --config runs/first/repair/run.toml --out runs/repaired[/] (an audit of what came of it)

    What is suspicious is found as by [bold]interpnet shortcuts[/]. The network is made to get images right whose
    suspicious part comes from another image. Every way is tried with several strengths; one is accepted only where it
    costs at most [bold]--max-clean-loss[/] and gains on images held out. RUN/repair then holds repaired.safetensors,
    repair.json, and report.html with the figures before and after, beside a control of the same size.

    Exit code 0 where a repair was accepted or no class is suspicious, 1 where none was accepted. Whether a class may go
    by a part is for a person to say: look at the report first, and leave such classes out with [bold]--only[/].
    """


@app.command()
@takes(
    "commands",
    "only",
    "run open_report pdf figures",
    only=SHOWN_CLASSES,
)
def report() -> None:
    """Stage 6: write report/index.html, one file that opens anywhere; needs neither model nor images.

    [green]interpnet report runs/first --open[/]
    [green]interpnet report runs/first --only boat,wolf[/]
    [green]interpnet report runs/first --pdf --figures slides[/]
    """


@app.command()
@takes(
    "commands_check",
    "[check]",
    "run against config json junit github quiet log",
    config={"help": "Take the limits from the section check of this file.", "shown": "RUN/run.toml"},
)
def check() -> None:
    """Say whether a finished audit keeps to limits: exit code 0 if so, 1 if not, 2 for a mistake.

    [green]interpnet check runs/first[/] (fails where a class is suspicious)
    [green]interpnet check runs/first --min-accuracy 0.9 --max-suspicion 0.2[/]
    [green]interpnet check runs/first --config limits.toml --junit check.xml --quiet[/]
    [green]interpnet check runs/second --against runs/first --max-recall-loss 0.02[/]

    Limits also stand in the section [bold]check[/] of the run's run.toml, or of another file.
    A class is [bold]suspicious[/] where a part of the image makes more of it than is usual in networks without a
    shortcut, beyond the interval; its [bold]suspicion[/] is how much more. The report shows the images.
    """


@app.command()
@takes("commands_compare", "", "run other html json quiet log", run={"help": "A finished run folder."})
def compare() -> None:
    """Say what two runs differ in: two checkpoints, two trainings, a pruned network and the whole one.

    [green]interpnet compare runs/before runs/after[/]
    [green]interpnet compare runs/before runs/after --html changes.html[/]

    Recalls are compared image by image where both runs have the same test images; a difference is called one where it
    is more than chance. Channels are compared by number where they answer alike in both networks, else layers are.
    """


@app.command()
@takes(
    "commands_model",
    "[model] data data_root image_size crop channels device",
    "",
    model={"help": "As in `audit`.", "required": True},
)
def layers() -> None:
    """List the layers of a network: the names --layers takes, shapes, channels, and what is taken by default.

    With DATA the network runs on its first image, else on noise of --channels and --image-size.

    [green]interpnet layers torchvision:googlenet --weights random[/]
    """


@app.command()
@takes(
    "commands_filters",
    "[model] [data] layers concepts [run]",
    "out fresh open_report image between",
    own=FilterSettings,
    image=PHOTOGRAPHS,
    out={"shown": "runs/MODEL-DATA-filters"},
    concepts=NAMING,
    layers=PICTURED_LAYERS,
)
def filters() -> None:
    """Picture a network: filters, what channels and classes answer to, a map of the images, nearest images.

    Writes report/filters.html into the run folder, one file that opens anywhere. The same command, or
    [bold]--out runs/NAME[/] alone, goes on after an interruption; the same --seed gives the same page.

    [green]interpnet filters torchvision:resnet18 imagefolder:photos --open[/]
    [green]interpnet filters smallcnn digits --weights digits.safetensors --out runs/digits-filters[/]
    [green]interpnet filters torchvision:vgg16 imagefolder:photos --layers 'features.2*' --per-layer 12 --steps 256[/]
    [green]interpnet filters torchvision:resnet18 imagefolder:photos --concepts generated[/]

    With [bold]--image[/] also what it makes of a photograph of yours: Grad-CAM for two classes, gradient, DeconvNet and
    guided backpropagation, occlusion, its channels and their patches, activations, nearest images. The figures lie
    in report/figures as PNG, SVG and CSV: [green]interpnet filters --out runs/NAME --image cat.jpg --between cat,dog[/]

    A few seconds for a small network; about a minute for an ImageNet one on a CPU: fewer --steps, --per-layer,
    --max-classes or --max-images are quicker.
    """


@app.command()
@takes(
    "commands_dissect",
    "[model] image_size crop mean std channels layers seed device batch_size",
    "out fresh open_report json",
    own=DissectSettings,
    model={"help": "As in `audit`.", "required": True},
    out={"help": "The folder of what is found.", "shown": "runs/MODEL-CONCEPTS-concepts"},
    fresh={"help": "Dissect again, in the place of what the folder holds."},
)
def dissect() -> None:
    """Name channels by concepts: those whose maps overlap with the masks of sky, wheels, stripes (Network Dissection).

    [green]interpnet dissect torchvision:resnet18 concepts/ --image-size 256 --crop 224 --open[/]
    [green]interpnet dissect smallcnn generated --weights flowers.safetensors[/] (colours, edges, gratings, shapes)
    [green]interpnet dissect torchvision:vgg16 concepts/ --layers 'features.2*' --groups '^[^_]+' --json[/]

    CONCEPTS is a folder with a folder for each [bold]category[/], a set of images in which the same concepts were
    looked for: images/ and masks/ with names.txt (a line for each value of a mask), or masks/CONCEPT/ (a mask for
    each), or CONCEPT/ with images that show it as a whole. Masks are of their images' size.

    A channel has a name where the pixels above its threshold overlap with a concept's by [bold]--least-iou[/] or more,
    and the 95 % interval of that lies above two controls: the masks of other images, and a copy of the network with
    random weights. "No concept" is an answer, and the usual one. Large concepts need a larger [bold]--quantile[/]: a
    note says which cannot be named.

    Writes a page with pictures of the best channels, a CSV table of all, JSON, and the numbers. Everything is read five
    times (three with --no-control); after an interruption it begins again, and what is done is not done twice.
    """


@app.command()
@takes(
    "commands_model",
    "data data_root image_size crop mean std channels on_bad_image seed device workers",
    "out epochs lr width shortcut strength",
    data={"required": True},
    out=WEIGHTS,
)
def train() -> None:
    """Train a small convolutional network, for a first audit or a test.

    [green]interpnet train mnist --out mnist.safetensors[/]
    [green]interpnet audit smallcnn mnist --weights mnist.safetensors[/]
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for a user's mistake, 1 for one of ours, 130 after Ctrl-C.

    1 is also what ``interpnet check`` says of an audit beyond its limits.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default those of the process, which then is to end with the code that is returned: a signal that
        comes later ends it at once.
    """
    return run_line(app, argv)
