"""The mu-lasso on many random halves of the images, in complementary pairs (docs/method.md, section 2.7).

Only pairs drawn from the same blocks are not independent (16 blocks make 6435 pairs).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError
from interpnet.gram import as_scores, part_grams, random_parts
from interpnet.mulasso._arguments import Options, check_grams, check_mu, class_radii
from interpnet.mulasso._path import solve_warned
from interpnet.mulasso._targets import read_targets
from interpnet.support.checks import whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float64, Int64

_MOST_BLOCKS = 1000


def block_grams(
    X: npt.ArrayLike, y: Any, mu: npt.ArrayLike, n_blocks: int, seed: int, *, class_weight: Any, sample_weight: Any
) -> list[Any]:
    """Deal the images into random blocks and sum the Gram of each; ``mu`` is checked before the scores are read."""
    check_mu(mu)
    scores = as_scores(X)
    if scores.ndim != 2:
        raise InterpNetError(f"X has shape {tuple(scores.shape)}; expected (N, m)")
    try:
        target = read_targets(y, scores.shape[0], sample_weight, class_weight)
    except InterpNetError:
        raise
    except (TypeError, ValueError) as error:
        # scikit-learn's word on labels that are none, or that no order holds.
        raise InterpNetError(f"y: {error}") from error
    # Refused before the pass over the scores, which may take minutes.
    class_radii(mu, len(target.classes))
    part = random_parts(target.L if target.labels else scores.shape[0], n_blocks, seed)
    return part_grams(scores, target.L, part, n_classes=len(target.classes), sample_weight=target.weight)


def draw_halves(n_blocks: int, n_pairs: int, seed: int, name: str) -> list[Int64]:
    """Draw ``n_pairs`` different halves of ``n_blocks`` blocks, none the complement of another."""
    whole_number(n_pairs, "n_pairs", least=1)
    # The number of halves of so many blocks is beyond counting.
    whole_number(n_blocks, name, least=2, most=_MOST_BLOCKS)
    whole_number(seed, "seed", least=0)
    if n_blocks % 2:
        raise InterpNetError(f"{name}: there are {n_blocks} blocks; expected an even number, to make halves of")
    most = comb(n_blocks, n_blocks // 2) // 2
    if n_pairs > most:
        raise InterpNetError(
            f"n_pairs is {n_pairs}, but {n_blocks} blocks make only {most} different pairs of halves; use more blocks"
        )
    rng = np.random.default_rng(seed)
    halves: dict[tuple[int, ...], Int64] = {}
    while len(halves) < n_pairs:
        # Block 0 stands for its half: without loss of generality it is in the one that is drawn.
        others = 1 + rng.permutation(n_blocks - 1)[: n_blocks // 2 - 1]
        half = np.sort(np.append(others, 0))
        halves.setdefault(tuple(half.tolist()), half)
    return list(halves.values())


def selected_share(
    halves: Sequence[Int64], blocks: Sequence[Any], mu: npt.ArrayLike, options: Options, *, progress: bool
) -> Float64:
    """Return the share (C, m) of the halves and their complements on which each weight is not zero."""
    check_grams(*blocks, rows=True)
    radii = class_radii(mu, blocks[0].n_classes)[None]
    total = sum(blocks[1:], blocks[0])
    counts = np.zeros((total.n_classes, total.m))
    with progress_bar("stability", 2 * len(halves), unit="solutions", enabled=progress) as advance:
        for chosen in halves:
            half = sum((blocks[b] for b in chosen[1:]), blocks[chosen[0]])
            for side in (half, total.without(half)):
                # Frames: this function, the public one, its caller.
                counts += solve_warned(side, radii, options, depth=4).coef[0] != 0
                advance(1)
    return counts / (2 * len(halves))
