"""The trackers that an audit can be logged to, each by its own client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from interpnet.support.extras import require

from .facts import Facts

T = TypeVar("T")
_NUMBERS_AT_ONCE = 500  # MLflow takes 1,000 numbers and 100 texts in one call
_TEXTS_AT_ONCE = 50
_LONGEST = 500  # characters of a text in MLflow's older versions


def to_mlflow(facts: Facts, *, uri: str | None = None, experiment: str = "interpnet", name: str | None = None) -> str:
    """Log to MLflow's store at ``uri``, by default where MLflow itself would; return the run's id."""
    mlflow = require("mlflow", 'log(to="mlflow")', extra="mlflow")
    from mlflow.entities import Metric, Param, RunTag

    # A client of its own: the program's current run and store stay as they are.
    client = mlflow.MlflowClient(tracking_uri=uri)
    known = client.get_experiment_by_name(experiment)
    number = known.experiment_id if known is not None else client.create_experiment(experiment)
    run = client.create_run(number, run_name=name or facts.name)
    key = run.info.run_id
    status = "FAILED"
    try:
        now = int(1000 * time.time())
        for part in _parts(facts.numbers, _NUMBERS_AT_ONCE):
            client.log_batch(key, metrics=[Metric(text, value, now, 0) for text, value in part])
        for texts in _parts(facts.settings, _TEXTS_AT_ONCE):
            client.log_batch(key, params=[Param(text, value[:_LONGEST]) for text, value in texts])
        tags = {"interpnet.title": facts.title, **{f"interpnet.{text}": value for text, value in facts.words.items()}}
        client.log_batch(key, tags=[RunTag(text, value[:_LONGEST]) for text, value in tags.items()])
        for file in facts.files:
            client.log_artifact(key, str(file), "audit" if file.parent.name != "report" else "audit/report")
        status = "FINISHED"
    finally:
        client.set_terminated(key, status)
    return str(key)


def _parts(entries: Mapping[str, T], size: int) -> Iterator[list[tuple[str, T]]]:
    """Yield the entries, ``size`` at a time."""
    listed = list(entries.items())
    for start in range(0, len(listed), size):
        yield listed[start : start + size]


def to_tensorboard(facts: Facts, *, folder: str | Path = "tensorboard", name: str | None = None) -> str:
    """Write TensorBoard's event files to ``folder/name``; return that folder."""
    require("tensorboard", 'log(to="tensorboard")', extra="tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    out = Path(folder) / (name or facts.name)
    with SummaryWriter(str(out)) as writer:
        for text, value in facts.numbers.items():
            writer.add_scalar(text, value, 0)
        said = [f"**{text}** {value}  " for text, value in facts.words.items()]
        writer.add_text("audit", "\n".join([f"# {facts.title}", *said, f"Report: {facts.page}"]), 0)
        for file in facts.figures:
            writer.add_image(f"figures/{file.stem}", _pixels(file), 0, dataformats="HWC")
        main = {text: value for text, value in facts.numbers.items() if "classes/" not in text}
        writer.add_hparams(dict(facts.settings), {f"audit/{text}": v for text, v in main.items()}, run_name=".")
    return str(out)


def _pixels(file: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a picture (H, W, 3)."""
    from PIL import Image

    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.uint8)


def to_wandb(
    facts: Facts,
    *,
    project: str = "interpnet",
    name: str | None = None,
    mode: str | None = None,
    folder: str | Path | None = None,
) -> str:
    """Log to Weights & Biases; return the run's page, or its folder where ``mode`` is ``"offline"``."""
    wandb = require("wandb", 'log(to="wandb")', extra="wandb")
    place = None
    if folder is not None:
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=project,
        name=name or facts.name,
        notes=facts.title,
        config=dict(facts.settings),
        mode=mode,
        dir=place,
        reinit="create_new",
        # It would note the machine and what the program prints.
        settings=wandb.Settings(console="off", silent=True),
    )
    failed = 1
    try:
        run.summary.update({**facts.numbers, **facts.words})
        run.log({f"figures/{file.stem}": wandb.Image(str(file)) for file in facts.figures})
        run.log({"report": wandb.Html(facts.page.read_text(encoding="utf-8"))})
        kept = wandb.Artifact(f"audit-{run.id}", type="audit")
        for file in facts.files:
            kept.add_file(str(file))
        run.log_artifact(kept)
        failed = 0
    finally:
        run.finish(exit_code=failed)
    return str(run.dir if run.offline else run.url)


#: By the name that ``log(to=...)`` knows.
TRACKERS: dict[str, Callable[..., str]] = {"mlflow": to_mlflow, "tensorboard": to_tensorboard, "wandb": to_wandb}
