"""Log a finished audit to MLflow, TensorBoard or Weights & Biases."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

from interpnet.errors import InterpNetError, did_you_mean
from interpnet.support.checks import check_kinds, one_of

from .facts import gather
from .trackers import TRACKERS


def log(run: str | os.PathLike[str], to: str, **where: str | os.PathLike[str] | None) -> str:
    """Log a finished audit: its settings, numbers and verdicts, and the report with its figures as files.

    The numbers are means over classes: the recall of the intact network and without the channels of each condition
    (``reliance/recall/relevant``), and what the conditions change in log-odds; how many channels are named, the
    training accuracy, and 1 where the verdict is "shown". Of up to 100 classes there are recalls and channels of each.
    Nothing runs again, and the run folder stays as it is.

    Parameters
    ----------
    run : path
        The folder of a run with a report; what :func:`audit` returns is one.
    to : {"mlflow", "tensorboard", "wandb"}
        Each needs its package: ``pip install 'interpnet[mlflow]'``, say.
    **where
        mlflow: ``uri`` (by default MLflow's own choice), ``experiment`` ("interpnet") and ``name`` (of the run folder).
        tensorboard: ``folder`` ("tensorboard") and ``name``. wandb: ``project`` ("interpnet"), ``name``, ``mode``
        ("offline", say) and ``folder``.

    Returns
    -------
    str
        Where it is: the id of MLflow's run, the folder of the event files, or the page or folder of the wandb run.

    Raises
    ------
    InterpNetError
        An unknown tracker or place, a package that is not installed, or what the tracker refuses.
    RunFolderError
        No run folder, one without a report, or a damaged one.
    """
    check_kinds(log, {"run": run, "to": to})
    tracker = TRACKERS[one_of(to, "to", TRACKERS)]
    known = list(inspect.signature(tracker).parameters)[1:]
    for name in where:
        if name not in known:
            raise InterpNetError(f"{to} takes no {name!r}{did_you_mean(name, known)}; it takes {', '.join(known)}")
    facts = gather(Path(run))
    try:
        return tracker(facts, **where)
    except InterpNetError:
        raise
    except Exception as error:
        what = " ".join(str(error).split())
        raise InterpNetError(f"{to} did not take the audit: {type(error).__name__}: {what}") from error
