"""``audit()``: a network and its images, as a program has them, from the first pass to the report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from interpnet.engine import Output, evaluating, unwrap
from interpnet.errors import InterpNetError, did_you_mean
from interpnet.scores import Prepare
from interpnet.support.checks import check_kinds, distinct_names
from interpnet.support.io import as_path
from interpnet.support.progress import in_notebook, no_bars
from interpnet.support.ranks import ranks_of

from ..run.config import PYTHON, RunConfig
from ..run.console import make_console
from ..run.images import Own
from ..run.opening import default_name, opened
from ..run.own_code import check_named
from ..run.own_images import name_of
from ..run.own_reading import Images, Keys
from ..run.settings import wrapped
from .result import Audit
from .steps import run_audit
from .words import python_words

_FIXED = ("model", "data", "classes", "output", "field", "directory")


def audit(
    model: nn.Module | str,
    train: Images,
    test: Images = None,
    *,
    field: Images = None,
    out: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | str | None = None,
    output: Output | None = None,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
    fresh: bool = False,
    progress: bool = True,
    processes: Any = None,
    **settings: Any,
) -> Audit:
    """Audit a network from images to report, as the command ``interpnet audit`` does; return what was found.

    Channels are scored and their contributions summed, those of each class named, removed against controls and
    pictured, test images explained, and a report written. Everything goes into a run folder: what it already holds for
    the same network, images and settings is not done again, so that the same call goes on after an interruption.

    Parameters
    ----------
    model : nn.Module or str
        Left as it was: mode, parameters, device. Or a model as the command line names it, ``"torchvision:resnet18"``.
    train, test
        Images with labels, numbered as the model's outputs are; ``test`` are images that were not used for training, by
        default the training images, which flatters them. Each is

        - a ``DataLoader`` of (images, labels, anything) or dictionaries; shuffled or not, each image is read by its
          position, with the loader's own ``collate_fn``. Random transforms are refused: images are read several times;
        - a data set: (image, label) items or dictionaries, of tensors (the network's finished inputs), Pillow images or
          uint8 arrays (prepared by ``image_size``, ``mean``, ``std``, ...), also a ``Dataset`` of Hugging Face;
        - a list of batches, or a pair of tensors (images, labels);
        - an :class:`interpnet.ImageData`, or a name such as ``"imagefolder:photos"``, which has both splits.

        Labels are class numbers, names (with ``classes``), or one-hot rows.
    field : optional
        Images from where the network is used, in any of these forms but with or without labels, which are not looked
        at; or the path of a folder of images. Which classes draw them, by which channels, and what they have in common
        is in the report, in ``Audit.shortcuts.drawn``, and in docs/shortcuts.md.
    out : path, optional
        The run folder; by default ``runs/MODEL-DATA``.
    classes : sequence of str, optional
        The names of the model's outputs, in their order; ``"imagenet"`` for its 1,000. By default the data's own.
    output : function, str or int, optional
        Takes the logits out of what the model returns: a function, a key, or a position.
    inputs, labels : str, optional
        The keys of images and labels where batches or items are dictionaries; the common ones are known.
    prepare : function, optional
        Makes what the model takes, floats (B, C, H, W), of a batch of images as they come, such as bytes or (B, H, W,
        C); as in :func:`interpnet.collect_scores`.
    fresh : bool
        Start the run folder over.
    progress : bool
        Whether to say what is going on: on stderr, in a notebook below the cell.
    processes : process group of torch.distributed, or "default", optional
        Its processes do one audit together: each makes the same call, with the same network and images, and ``out`` in
        a folder that all of them see. Rank 0 writes; all of them get the audit that one process would have made.
    **settings
        What ``interpnet audit --help`` lists, with underscores: ``mu=5``, ``layers="conv"``, ``device="cuda"``,
        ``max_images=2000``, ``anyway=True``. A name that is none of them is an error.

    Examples
    --------
    >>> import tempfile, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 2))
    >>> images = torch.rand(24, 1, 4, 4)
    >>> numbers = net(images).argmax(1)
    >>> found = audit(net, (images, numbers), out=tempfile.mkdtemp(), classes=["dark", "light"], anyway=True,
    ...               examples=1, progress=False)
    >>> found.classes, sorted(found.tables())[:3]
    (('dark', 'light'), ['ablation', 'ablation_curve', 'channels'])
    """
    check_kinds(audit, locals(), but={"model", "classes"})
    with python_words():
        config, own = _read(
            model, train, test, classes, output, Keys(inputs, labels, prepare), settings | {"field": field}
        )
        folder = Path("runs") / default_name(config)
        if out is not None:
            folder = as_path(out, "out")
        resume = f"the same call of audit(), which goes on in {str(folder)!r}"
        # Notebooks show what goes to stderr as if it were an error.
        ranks = ranks_of(processes, "processes")
        progress = progress and ranks.first
        console = make_console(stderr=not in_notebook(), quiet=not progress)
        named = frozenset({"model", "data", "methods", "rankings"})
        with ExitStack() as held:
            held.enter_context(_left_as_it_was(own.model))
            if not progress:
                held.enter_context(no_bars())
            # Without tables: the result shows itself.
            options: dict[str, Any] = {"named": named, "own": own, "console": console, "tables": False}
            run_audit(opened(held, folder, config, resume, fresh=fresh, ranks=ranks, **options))
    return Audit(folder)


def _read(
    model: Any, train: Any, test: Any, classes: Any, output: Any, keys: Keys, settings: dict[str, Any]
) -> tuple[RunConfig, Own]:
    """Return the settings of a call, and its objects."""
    own: dict[str, Any] = {"keys": keys}
    field = settings.pop("field")
    if isinstance(field, str | os.PathLike):
        field = os.fspath(field)
    elif field is not None:
        own["field"] = field
        field = PYTHON + name_of(field)
    given: dict[str, Any] = {"directory": str(Path.cwd()), "field": field} | _checked(settings)
    given["model"] = model
    if not isinstance(model, str):
        own["model"] = unwrap(model)
        given["model"] = PYTHON + type(own["model"]).__name__
    given["data"] = train
    if train is None:
        raise InterpNetError("train is None; expected the training images: a loader, a data set, or its name")
    if not isinstance(train, str):
        own |= {"train": train, "test": test}
        given["data"] = PYTHON + name_of(train)
    elif test is not None:
        raise InterpNetError(
            f"test came with train={train!r}, which names both splits; leave test out, or give train as images too"
        )
    if isinstance(classes, str):
        given["classes"] = classes
    elif classes is not None:
        own["classes"] = distinct_names(classes, "classes")
    if callable(output):
        own["output"] = output
        given["output"] = PYTHON + getattr(output, "__qualname__", type(output).__name__)
    elif output is not None:
        given["output"] = str(output)
    return RunConfig(**given), Own(**own)


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as :class:`RunConfig` takes them: a single name or number stands for a list of one."""
    entries = {entry.name: entry for entry in fields(RunConfig)}
    known = [name for name in entries if name not in _FIXED]
    checked = {}
    for name, value in settings.items():
        if name not in known:
            raise InterpNetError(
                f"audit() takes no argument {name!r}{did_you_mean(name, known)}; its settings are those of `interpnet "
                "audit --help`, with underscores"
            )
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        checked[name] = wrapped(entries[name], value)
    check_named(checked)
    return checked


@contextmanager
def _left_as_it_was(model: nn.Module | None) -> Iterator[None]:
    """Give a network its mode and its device back."""
    if model is None:
        yield
        return
    before = next((parameter.device for parameter in model.parameters()), None)
    try:
        with evaluating(model):
            yield
    finally:
        if before is not None:
            model.to(before)
