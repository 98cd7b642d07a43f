"""Which labels of which test images are explained, where an image can have several: hits, misses and false alarms."""

from __future__ import annotations

import numpy as np

from ..run.chosen import chosen, of_chosen
from ..run.notes import Notes
from ..run.session import Session
from .answers import answers

#: An image's position in the test data, and the label that it is explained for.
Pair = tuple[int, int]


def choose_pairs(session: Session, notes: Notes) -> list[Pair]:
    """Return the test images to explain, each for a label; fixed by the seed.

    For every label some images that have it and are given it, at most ``--max-examples``; then mistakes: labels that an
    image has and is not given, and others that it is given, one of either kind after the other.
    """
    config = session.config
    most = config.max_examples
    given, positions = answers(session, lambda logits: logits > 0)
    has = session.subject.test.targets[positions]
    shown = of_chosen(np.arange(has.shape[1]), chosen(session))
    hits: list[tuple[int, Pair]] = []
    wrong: dict[str, list[Pair]] = {"miss": [], "false alarm": []}
    ranks = np.zeros(has.shape[1], dtype=np.int64)
    rng = np.random.default_rng(config.seed)
    for at in rng.permutation(len(positions)).tolist():
        for label in rng.permutation(np.flatnonzero((has[at] | given[at]) & shown)).tolist():
            pair = int(positions[at]), label
            if has[at, label] and not given[at, label]:
                wrong["miss"].append(pair)
            elif not has[at, label]:
                wrong["false alarm"].append(pair)
            elif ranks[label] < config.examples:
                hits.append((int(ranks[label]), pair))
                ranks[label] += 1
    if len(hits) > most:
        notes.add(
            f"Examples are {most} labels that were recognised, not {config.examples} images of every label "
            "(--max-examples)."
        )
    # Every label's first example before any label's second where not all fit.
    hits = sorted(hits, key=lambda entry: entry[0])[:most]
    by_label = sorted((pair for _, pair in hits), key=lambda pair: pair[1])
    return by_label + _in_turn(*wrong.values())[: config.misclassified]


def _in_turn(first: list[Pair], second: list[Pair]) -> list[Pair]:
    """Return one of the first, one of the second, ...; then what is left of the longer one.

    Examples
    --------
    >>> _in_turn([(0, 0), (1, 0), (2, 0)], [(9, 1)])
    [(0, 0), (9, 1), (1, 0), (2, 0)]
    """
    order = sorted([*enumerate(first), *enumerate(second)], key=lambda entry: entry[0])
    return [pair for _, pair in order]
