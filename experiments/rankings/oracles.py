"""Orders found by removing channels and looking: a greedy search, and Neuron Shapley."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from experiments.common.subjects import Subject, at_once
from experiments.rankings.removal import Passes
from interpnet.engine import evaluating
from interpnet.support.types import Float64, Int64

#: Neuron Shapley: a permutation is left where the mean probability of the classes has fallen below this share.
TRUNCATED = 0.2


def _first(subject: Subject, each: int) -> tuple[Tensor, Int64]:
    """Return the first images of each class for the ranking."""
    rows = np.concatenate([np.flatnonzero(subject.train_labels == c)[:each] for c in range(len(subject.classes))])
    return subject.train[torch.from_numpy(rows)].to(subject.device), subject.train_labels[rows]


def greedy(subject: Subject, length: int, each: int) -> Int64:
    """Return the order (C, length): at each step the channel whose removal leaves the least recall.

    Equal recalls are ordered by the mean probability of the class. Measured on the first ``each`` training images
    of the class, m removals a step.
    """
    images, labels = _first(subject, each)
    run = Passes(subject, images, labels)
    with evaluating(subject.model):
        return np.array([_greedy_of(run, images[torch.from_numpy(labels == c)], c, length) for c in np.unique(labels)])


def _greedy_of(run: Passes, images: Tensor, c: int, length: int) -> list[int]:
    chosen: list[int] = []
    n = len(images)
    together = max(1, 4 * at_once(images) // n)
    for _ in range(length):
        left = [i for i in range(len(run.channels)) if i not in chosen]
        scores = []
        for start in range(0, len(left), together):
            tried = left[start : start + together]
            lists = [[*chosen, i] for i in tried for _ in range(n)]
            logits = run.logits(images.repeat(len(tried), 1, 1, 1), lists).view(len(tried), n, -1)
            recall = (logits.argmax(2) == c).double().mean(1)
            # A probability is below 1, so it decides only between equal recalls.
            scores += (recall + logits.softmax(2)[:, :, c].double().mean(1) / (n + 1)).tolist()
        chosen.append(left[int(np.argmin(scores))])
    return chosen


def shapley(subject: Subject, permutations: int, each: int, seed: int) -> Float64:
    """Return Neuron Shapley (C, m): what a channel adds to the class's mean probability, over random orders of removal.

    Source: Ghorbani and Zou, "Neuron Shapley", NeurIPS 2020, by their truncated sampling of permutations: the channels
    of an order are removed one after the other, for all classes at once, until the mean probability of the classes
    has fallen to :data:`TRUNCATED`; the rest of the order adds nothing. On the first ``each`` training images of a
    class.
    """
    images, labels = _first(subject, each)
    run = Passes(subject, images, labels)
    own = torch.from_numpy(labels).to(images.device)
    m = len(run.channels)
    n = len(images)
    rng = np.random.default_rng([seed, 11])
    total = np.zeros((len(subject.classes), m))
    together = max(1, 4 * at_once(images) // n)  # steps of an order in one pass
    target = torch.nn.functional.one_hot(own, len(subject.classes)).double()
    by_class = (target / target.sum(0)).T

    def probabilities(lists: list[list[int]]) -> Float64:
        """Return the mean probability of each class (steps, C), for lists of channels that all images lose."""
        every = [one for one in lists for _ in range(n)]
        logits = run.logits(images.repeat(len(lists), 1, 1, 1), every)
        found = logits.softmax(1).gather(1, own.repeat(len(lists))[:, None]).view(len(lists), n)
        values: Float64 = (found.double() @ by_class.T).cpu().numpy()
        return values

    with evaluating(subject.model):
        intact = probabilities([[]])
        for _ in range(permutations):
            order = rng.permutation(m).tolist()
            before = intact
            for start in range(0, m, together):
                stop = min(start + together, m)
                values = np.concatenate([before, probabilities([order[: i + 1] for i in range(start, stop)])])
                total[:, order[start:stop]] += (values[:-1] - values[1:]).T
                before = values[-1:]
                if before.mean() < TRUNCATED:
                    break
    return total / permutations
