"""Which images each fold holds out, and how many of them its weights name rightly."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.model_selection import KFold, StratifiedKFold, check_cv

from interpnet.errors import DataError
from interpnet.mulasso._targets import Targets
from interpnet.support.checks import shown
from interpnet.support.types import Float64, Int64

# Rows that are read at a time.
_ROWS = 4096


def assign_folds(cv: Any, target: Targets, n: int, random_state: int | None) -> Int64:
    """Return the fold that holds each of ``n`` rows out (N,), -1 where none does."""
    labels = None
    kind = KFold
    if target.labels:
        labels = target.L
        kind = StratifiedKFold
    cv = 5 if cv is None else cv
    fold = np.full(n, -1, dtype=np.int64)
    try:
        if isinstance(cv, int | np.integer):
            cv = kind(int(cv), shuffle=True, random_state=random_state)
        splits = list(check_cv(cv).split(np.empty((n, 0)), labels))
    except ValueError as error:
        raise DataError(f"cv: {error}") from error
    if not splits:
        raise DataError(f"cv is {shown(cv)}, which has no folds; expected a number of at least 2, or folds")
    for k, (train, test) in enumerate(splits):
        trains = np.zeros(n, dtype=bool)
        trains[train] = True
        tests = np.zeros(n, dtype=bool)
        tests[test] = True
        # The training Gram of a fold is the total minus the fold's, so no other split can be served.
        if not tests.any() or tests.all() or (trains == tests).any():
            raise DataError(
                f"cv: fold {k} trains on {trains.sum()} and tests on {tests.sum()} of {n} images; expected to test on "
                "some and train on all the others, as KFold, StratifiedKFold and PredefinedSplit do"
            )
        if (fold[tests] >= 0).any():
            raise DataError(f"cv: fold {k} holds images out that an earlier fold did; expected disjoint test sets")
        if target.weight is not None and not target.weight[tests].any():
            raise DataError(f"cv: every image of fold {k} has weight zero; expected some weight in each fold")
        fold[tests] = k
    return fold


def held_out_accuracy(scores: Any, target: Targets, rows: Int64, coef: Float64, device: str | None) -> Float64:
    """Return the weighted share of ``rows`` that each of ``coef`` (T, C, m) names rightly, (T,)."""
    weights = torch.from_numpy(coef).to(device or "cpu")
    # The class weight steers the fit; the accuracy counts images as the caller weighs them.
    counts = np.ones(len(target.L)) if target.sample_weight is None else target.sample_weight
    right = np.zeros(len(coef))
    mass = 0.0
    for start in range(0, len(rows), _ROWS):
        index = rows[start : start + _ROWS]
        block = torch.as_tensor(scores[index]).to(weights.device, torch.float64)
        truth = torch.from_numpy(target.L[index]).to(weights.device)
        each = counts[index]
        mass += float(each.sum())
        for t in range(len(coef)):
            right[t] += each @ (block @ weights[t].T).argmax(1).eq(truth).cpu().numpy()
    share: Float64 = right / mass
    return share
