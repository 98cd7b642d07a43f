"""The commands around a single model: its layers, a training, and the demo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor

from interpnet.datasets import make_loader
from interpnet.errors import InterpNetError, ModelError
from interpnet.models import SmallCNN, accuracy, fit_smallcnn, save_smallcnn, smallcnn_extra
from interpnet.support.text import printable

from ..auditing import terminal_tables as tables
from ..auditing.steps import run_audit
from ..report.numbers import percent
from ..run.config import RunConfig
from ..run.console import make_console
from ..run.cue import described
from ..run.folder import RunFolder, digest
from ..run.images import load_images
from ..run.notes import Notes
from ..run.session import Interrupted, Session
from ..run.settings import Given, option
from ..run.subject import device_of, load_network, stack_first, traced
from .commands import configured, show_report
from .commands_photos import photos
from .options import Request

_IMAGE_SIZE = 224  # pixels, of a model that names no size: ImageNet's
_DEMO_VERSION = 2  # another training makes the weights of an earlier demo stale
_DEMO_DATA = "an8flower-single-6c"
_DEMO_TRAINING: dict[str, Any] = {"width": 8, "epochs": 12}
_WEIGHTS = "smallcnn.safetensors"  # below the demo's run folder


def layers(given: Given, request: Request) -> None:
    """Print the sites of a model."""
    config = configured(given, request)
    notes = Notes()
    with notes.listening():
        model, info, output, device = load_network(config)
    if config.data:
        images = stack_first(load_images(config, "train", info.preprocessing))
    else:
        images = _noise(config, model, info.preprocessing)
    trace = traced(model, images.to(device), output)
    for note in notes.texts:
        typer.echo(f"note: {note}", err=True)
    size = "x".join(map(str, trace.image_shape))
    tables.show_layers(make_console(), trace.sites, f"{config.model} on images of {size}, {trace.n_outputs} outputs")


def _noise(config: RunConfig, model: torch.nn.Module, hint: Mapping[str, Any] | None) -> Tensor:
    """Return a random image of the shape asked for, else of the one the model was made or trained for."""
    shape = (3, _IMAGE_SIZE, _IMAGE_SIZE)
    if isinstance(model, SmallCNN):
        height, width = model.architecture["image_size"]
        shape = (model.architecture["in_channels"], height, width)
    elif hint is not None and isinstance(hint.get("crop"), int):
        shape = (int(hint["channels"]), hint["crop"], hint["crop"])
    size = config.crop or config.image_size or shape[1:]
    channels = config.channels or shape[0]
    return torch.rand(1, channels, size[0], size[-1], generator=torch.Generator().manual_seed(0))


def train(given: Given, request: Request) -> None:
    """Train a SmallCNN and write its weights."""
    config = configured(given, request)
    out = Path(request.out or "weights.safetensors")
    if out.suffix != ".safetensors":
        raise InterpNetError(f"--out is {str(out)!r}; expected a file NAME.safetensors")
    options = {"epochs": request.epochs, "lr": request.lr, "width": request.width}
    train_to(out, config, {name: value for name, value in options.items() if value is not None}, None)


def train_to(out: Path, config: RunConfig, options: dict[str, Any], key: str | None) -> None:
    """Train on the configured data, measure on its test split, and save both with the weights."""
    console = make_console()
    data = load_images(config, "train")
    test = load_images(config, "test")
    for note in dict.fromkeys((*data.notes, *test.notes)):
        console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
    model, history = fit_smallcnn(
        data, seed=config.seed, device=device_of(config), num_workers=config.workers, **options
    )
    reached = accuracy(model, make_loader(test, num_workers=config.workers))
    facts = {
        "data": data.spec,
        "classes": list(data.classes),
        "preprocessing": data.preprocessing,
        "epochs": len(history.epochs),
        "test_accuracy": reached,
        "key": key,  # by which the demo knows its own weights
    }
    save_smallcnn(model, out, facts)
    console.print(
        f"trained on {len(data)} images in {history.seconds:.1f} s, "
        f"accuracy {percent(reached)} on {len(test)} test images: {printable(out)}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def demo(given: Given, request: Request) -> None:
    """Train a small network on an8Flower, whose telling pixels are known, audit it, and say where the report is.

    Of photographs see :func:`.commands_photos.photos`.
    """
    if request.kind == "photos":
        photos(given, request)
        return
    path = Path(request.out or "-".join(filter(None, ("runs/demo", request.shortcut))))
    weights = path / _WEIGHTS
    base = RunConfig(
        model="smallcnn", data=_DEMO_DATA, data_root=str(path / "data"), weights=str(weights), directory=str(Path.cwd())
    )
    config = configured(given, request, base)
    asked = {"out": request.out and path, "shortcut": request.shortcut, "strength": request.strength}
    resume = " ".join(["interpnet demo", *_words(asked | dict(given.values))])
    run = RunFolder.create(path, fresh=request.fresh)
    session = Session(run, config, resume, fresh=request.fresh)
    with run.locked(fresh=request.fresh):
        run.save()
        if request.shortcut is not None:
            session.say(described(config.data) or "")
        key = digest(["demo", _DEMO_VERSION, config.seed, load_images(config, "train").fingerprint()])
        if _trained(weights, key):
            session.say(f"[bold]train[/]: {weights} is there, skipped")
        else:
            session.say("[bold]train[/] ...")
            try:
                train_to(weights, config, _DEMO_TRAINING, key)
                if request.shortcut is not None:
                    _say_reliance(session, config)
            except KeyboardInterrupt as error:
                raise Interrupted(f"interrupted while training. Begin again with: {session.resume}") from error
            # Other weights are another model: what an earlier demo found does not hold for them.
            session.fresh = True
        show_report(session, run_audit(session), open_report=request.open_report)


def _say_reliance(session: Session, config: RunConfig) -> None:
    """Print the accuracy on the same scenes with the cue of the class and with another's: what the audit must find."""
    model, *_ = load_network(config)
    splits = ("test-agree", "test-disagree")
    agree, disagree = (percent(accuracy(model, make_loader(load_images(config, split)))) for split in splits)
    session.say(f"accuracy where the cue agrees with the class {agree}, where it disagrees {disagree}")


def _words(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as words of the command line: the demo begins with its own, not with those of the run."""
    words = {name: f"{option(name)} {value}" for name, value in settings.items() if value is not None}
    if "positive" in words:
        words["positive"] = {True: "--positive", False: "--signed"}[settings["positive"]]
    return list(words.values())


def _trained(weights: Path, key: str) -> bool:
    try:
        return weights.is_file() and smallcnn_extra(weights).get("key") == key
    except ModelError:  # damaged: train again
        return False
