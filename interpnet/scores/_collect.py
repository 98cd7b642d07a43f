"""Scores: one pass over a data set, one number for every channel of every image.

Source: Oramas, Wang & Tuytelaars, "Visual Explanation by Interpretation", ICLR 2019, section 3.1; docs/method.md,
section 1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from interpnet.engine import Layers, Output, resolve_device, unwrap
from interpnet.errors import InterpNetError
from interpnet.gram import GramAccumulator
from interpnet.scores._batches import Loader, Prepare, image_count
from interpnet.scores._chunks import checked_shard
from interpnet.scores._companion import Companion
from interpnet.scores._intake import Intake, Memory
from interpnet.scores._join import PARTS
from interpnet.scores._resume import fresh_rows, known_fingerprint, opened
from interpnet.scores._scorer import How
from interpnet.scores._split import collect_by_ranks, collect_shard
from interpnet.scores._table import ScoreTable, ScoreWriter
from interpnet.support.checks import (
    check_kinds,
    distinct_names,
    instance_of,
    optional,
    text,
    true_or_false,
    whole_number,
)
from interpnet.support.io import as_path
from interpnet.support.ranks import ranks_of


def collect_scores(
    model: nn.Module,
    loader: Loader,
    *,
    layers: Layers = "default",
    norm: str = "l2",
    normalisation: str = "layer",
    device: str | torch.device | None = None,
    out: str | os.PathLike[str] | None = None,
    key: str = "scores",
    progress: bool = True,
    output: Output | None = None,
    memory_format: str = "auto",
    autocast: torch.dtype | None = None,
    gram: GramAccumulator | None = None,
    contributions: Companion | None = None,
    total: int | None = None,
    inputs: str | None = None,
    labels: str | None = None,
    prepare: Prepare | None = None,
    classes: Sequence[str] | None = None,
    indices: str | None = None,
    group: Any = None,
    shard: Sequence[int] | None = None,
) -> ScoreTable:
    """Collect the scores of every channel for every image in one pass, reducing each feature map where it is made.

    ``x[i] = concat over layers of s / sum(s)`` with ``s_c = ||A_c||_2``; an all-zero layer gives zeros.

    Parameters
    ----------
    model : nn.Module
        Left as it was: mode, parameters, device, hooks.
    loader : iterable of batches, data set, or function
        Batches are (images, labels) with images (B, C, H, W) as the model wants them and labels (B,) class numbers or
        names, or a (B, classes) target; what else a batch holds is not looked at. It may be a dictionary. Of a data set
        of single items, (image, label) or a dictionary, batches of 32 are made. A function ``start -> iterable`` lets
        an interrupted collection go on without reading the first ``start`` images again. docs/loaders.md has a table.
    layers : str, module, or iterable
        As in :meth:`interpnet.engine.Trace.select`.
    norm : {"l2", "l2sq"}
        The paper's norm, or the released code's sum of squares.
    normalisation : {"layer", "size", "none"}
        L1 within each layer (the paper); the map's size alone, which makes ``s`` the root of the mean square over
        positions (``l2sq``: the mean square); or none.
    device : optional
        Default: where the model is.
    out : folder, optional
        Write X there as it grows (float32, memory-mapped on return); without it X is kept in memory. An interrupted
        collection with the same ``key`` goes on at the last committed rows, whatever the size of the batches; a
        complete one is opened.
    key : str
        Identifies model, data and settings; a folder with another key is refused.
    progress : bool
        A bar with images/s and time left, on a terminal.
    output : str, int or function, optional
        Which part of what the model returns are its logits, as in :func:`interpnet.engine.find_sites`.
    memory_format : {"auto", "contiguous", "channels_last"}
        Speed only; "auto" is the faster one by our measurements.
    autocast : torch.dtype, optional
        Run the network in lower precision; the norms are summed in float32 all the same.
    gram : GramAccumulator, optional
        Receives every row, so that the Gram matrices are there when the pass ends; :meth:`ScoreTable.gram` sums later.
        An empty one, where a collection goes on.
    contributions : interpnet.reliance.ContributionSums, optional
        Receives what every channel contributes to the log-odds of each image's class, from the same forward pass and
        one backward pass; the scores stay the same. See :func:`interpnet.collect_contributions`.
    total : int, optional
        Number of images, for the bar, where the loader cannot tell.
    inputs, labels : str, optional
        The keys of images and labels where a batch is a dictionary; the common ones are known.
    prepare : function, optional
        Makes of what stands in a batch as images what the model takes: ``lambda x: x.permute(0, 3, 1, 2) / 255``.
    classes : sequence of str, optional
        Names of the model's outputs in their order, for labels that are names.
    indices : str, optional
        The key of the images' positions in their data set, which ``ScoreTable.indices`` then are, where a batch is a
        dictionary; counted in the loader's order by default.
    group : torch.distributed process group or "default", optional
        Share the images with the other processes of a group. Every one calls this with the same model, loader of all
        images and settings, and gets the table, ``gram`` and ``contributions`` of all; rank r scores the chunks of
        whole batches i with i mod world = r, so that the numbers are those of one process. Data sets, image folders and
        a DataLoader that goes through its data set in order are read where they are needed; every process reads all of
        another iterable. With ``out``, which all must see, an interrupted collection goes on with any number of
        processes. ``gram`` must be empty, and contributions need ``images=None``.
    shard : (int, int), optional
        ``(i, n)``: score the i-th of n shards alone, i from 1 to n, for machines without a network between them.
        :func:`interpnet.merge_scores` joins the n folders to the table of all images.

    Raises
    ------
    DataError
        No image, a label outside the classes, labels of another type than in the batch before, NaN or infinite
        activations (the layer and image named), and images that are not those of an interrupted collection.
    RunFolderError
        A folder of another collection, or one that cannot be written.
    RanksError
        A lost process.
    ModelError, LayerError
        Those of :func:`interpnet.engine.find_sites`.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    >>> batches = [(torch.rand(8, 1, 5, 5), torch.zeros(8, dtype=torch.long))]
    >>> collect_scores(net, batches, progress=False).X.shape
    (8, 4)
    """
    check_kinds(collect_scores, locals())
    true_or_false(progress, "progress")
    text(key, "key")
    total = optional(whole_number, total, "total", least=0)
    optional(instance_of, gram, "gram", GramAccumulator)
    optional(instance_of, contributions, "contributions", Companion)
    optional(instance_of, autocast, "autocast", torch.dtype)
    ranks = ranks_of(group)
    one = optional(checked_shard, shard, "shard")
    if one is not None and not ranks.alone:
        raise InterpNetError(
            f"shard is {one} and group has {ranks.world} processes; pass one of them: shards are for processes that "
            "cannot talk to each other"
        )
    folder = None
    if out is not None:
        folder = as_path(out, "out")
    model = unwrap(model)
    how = How(
        model=model,
        device=resolve_device(device, model),
        layers=layers,
        norm=norm,
        normalisation=normalisation,
        output=output,
        memory_format=memory_format,
        autocast=autocast,
        contributions=contributions,
        classes=optional(distinct_names, classes, "classes"),
        keys={"inputs": inputs, "labels": labels},
        prepare=prepare,
        positions=indices,
    )
    if total is None:
        total = image_count(loader)
    if one is not None:
        return collect_shard(how, loader, one, folder, key, gram, progress=progress)
    # Several processes may have begun what one goes on with.
    if not ranks.alone or (folder is not None and (folder / PARTS).is_dir()):
        return collect_by_ranks(how, loader, ranks, folder, key, gram, progress=progress)
    # The network is traced on real images.
    done, begin, first, batches = opened(loader, out, key, **how.keys, prepare=prepare)
    with how.scoring(first) as scorer:
        writer: Memory | ScoreWriter = Memory(scorer.reader.channels, scorer.trace.n_outputs, scorer.info)
        if out is not None:
            writer = ScoreWriter(out, scorer.reader.channels, scorer.trace.n_outputs, key=key, info=scorer.info)
        if contributions is not None:
            contributions.resume(writer.rows)
        intake = Intake(writer, scorer.trace.n_outputs, gram, contributions)
        if writer.complete:
            return writer.finish()
        fresh = fresh_rows(
            batches,
            begin,
            scorer.labels(),
            rows=writer.rows,
            skipped=len(writer.info["skipped"]),
            fingerprint=known_fingerprint(writer.info),
            track=out is not None,
            **how.keys,
            prepare=prepare,
            positions=indices,
        )
        scorer.run(fresh, intake, total, done, progress=progress)
    return writer.finish()
