"""An interpretation: the channels named for each class with their weights, a mu-lasso's or their reliance.

This file needs neither torch nor scikit-learn: the report reads the weights of a finished run without them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.support.brief import brief
from interpnet.support.checks import (
    check_kinds,
    listed,
    number,
    one_of,
    positive_number,
    real_array,
    shown,
    text,
    true_or_false,
    whole_number,
)
from interpnet.support.class_names import class_number
from interpnet.support.io import as_path, atomic_path, read_arrays
from interpnet.support.types import Bools, Float64, Int64

# Written into the files: of the mu-lasso's weights, as every version reads them, and of reliance.
_FORMAT = "interpnet-interpretation-1"
_RELIANCE_FORMAT = "interpnet-interpretation-2"
#: How channels are named: those that predict the class, or those that the network's log-odds rest on.
IDENTIFICATIONS = ("mu-lasso", "reliance")
#: How an image's channels are chosen: by weight times score, by the image's own contribution among the channels named
#: for the class, by it among these first and then among the others, or by it among all channels.
CHOICES = ("weight", "contribution", "named", "all")


@brief
@dataclass(frozen=True)
class Interpretation:
    """Weights of all channels for all classes.

    Attributes
    ----------
    channels : ChannelIndex
        What the m columns are.
    coef : array (C, m) float64
        ``coef[j]`` minimises ``1/2 ||X w - L_j||^2`` subject to ``||w||_1 <= mu``. By reliance, it holds the specific
        contributions of the channels that are named, all above 0, and zero elsewhere.
    classes : tuple of str
    mu : float
    positive : bool
        Whether ``w >= 0`` was asked for.
    gaps : array (C,) float64
        Relative duality gap of each class's solution: its certificate. Like ``mu`` and ``positive``, of no meaning by
        reliance.
    info : dict
        Anything else worth keeping (norm, what was fitted on, ...).
    by : {"mu-lasso", "reliance"}
        How the channels were found: docs/method.md, sections 2 and 8.
    price : float, optional
        By reliance, the price of what a channel's removal costs another class.
    stderr : array (C, m) float64, optional
        By reliance, the standard errors of the specific contributions of all channels; NaN where they are not known.

    Examples
    --------
    >>> i = Interpretation(ChannelIndex((("a", 3),)), np.array([[0.0, 2.0, -3.0]]), ("cat",))
    >>> i.relevant("cat")
    [(Channel(layer='a', index=2), -3.0), (Channel(layer='a', index=1), 2.0)]
    >>> i.top_channels(np.array([0.0, 0.5, 0.5]), "cat")
    [(Channel(layer='a', index=1), 1.0)]
    """

    channels: ChannelIndex
    coef: Float64
    classes: tuple[str, ...]
    mu: float = 10.0
    positive: bool = False
    gaps: Float64 = field(default_factory=lambda: np.zeros(0))
    info: Mapping[str, Any] = field(default_factory=dict)
    by: str = "mu-lasso"
    price: float | None = None
    stderr: Float64 | None = None

    def __post_init__(self) -> None:
        check_kinds(Interpretation, vars(self), but=["classes"])
        one_of(self.by, "by", IDENTIFICATIONS)
        names = listed(self.classes, "classes")
        for name in names:
            text(name, "a name in classes")
        coef = real_array(self.coef, "coef")
        object.__setattr__(self, "coef", coef)
        object.__setattr__(self, "classes", tuple(names))
        if not np.isfinite(coef).all():
            raise InterpNetError("coef holds NaN or infinity; every weight must be finite")
        if not 0 < self.mu < math.inf:
            raise InterpNetError(f"mu is {self.mu!r}; expected a number above 0")
        if self.gaps.shape not in {(0,), (len(self.classes),)}:
            raise InterpNetError(f"gaps has shape {self.gaps.shape}; expected ({len(self.classes)},), or none")
        expected = (len(self.classes), len(self.channels))
        if self.coef.shape != expected:
            raise InterpNetError(
                f"coef has shape {self.coef.shape}; expected {expected} for {expected[0]} classes and "
                f"{expected[1]} channels"
            )
        self._check_reliance()

    def _check_reliance(self) -> None:
        """Check what only an interpretation by reliance has."""
        if self.by == "mu-lasso":
            if self.price is not None or self.stderr is not None:
                raise InterpNetError("price and stderr belong to by='reliance'; the mu-lasso has none")
            return
        number(self.price, "price", least=0.0)
        if self.stderr is None or self.stderr.shape != self.coef.shape or self.stderr.dtype != np.float64:
            raise InterpNetError(f"stderr is {shown(self.stderr)}; expected float64 numbers of shape {self.coef.shape}")
        if self.coef.min(initial=0.0) < 0:
            raise InterpNetError("coef has a negative weight; by reliance every channel that is named is above 0")

    def class_index(self, cls: int | str) -> int:
        """Return the number of a class given by number or name; an unknown one is an error with close matches."""
        return class_number(cls, self.classes)

    @cached_property
    def counts(self) -> Int64:
        """How many channels are named for each class (C,)."""
        named: Int64 = np.count_nonzero(self.coef, axis=1)
        return named

    def columns(self, cls: int | str, sign: str = "any") -> Int64:
        """Return the columns with nonzero (``sign="positive"``: positive) weight, by falling ``|weight|``."""
        one_of(sign, "sign", ("any", "positive"))
        w = self.coef[self.class_index(cls)]
        columns: Int64 = np.flatnonzero(w > 0 if sign == "positive" else w)
        # A stable order, so that equal weights stand in the order of the channels on every machine.
        return columns[np.argsort(-np.abs(w[columns]), kind="stable")]

    def relevant(self, cls: int | str, sign: str = "any") -> list[tuple[Channel, float]]:
        """Return the channels relevant to a class with their weights, by falling ``|weight|``."""
        # Signed weights: a negative one speaks against the class, and is relevant too.
        w = self.coef[self.class_index(cls)]
        return [(self.channels[int(i)], float(w[i])) for i in self.columns(cls, sign)]

    def response(self, x: npt.ArrayLike, cls: int | str, choose: str | None = None) -> Float64:
        """Return how each channel answers to an image (m,), by one of the ways of :data:`CHOICES`.

        ``"weight"``: ``w * x`` element-wise (docs/method.md, section 4) for the image's scores ``x`` (m,).
        ``"contribution"``: ``x`` are what the channels contribute to the image's log-odds of the class, and so are the
        responses of the channels that are named for the class; the others' are 0. ``"named"``, ``"all"``: so are those
        of all channels. By default the way that channels were found: weights, or by reliance contributions.
        """
        choose = choose or self.choice
        one_of(choose, "choose", CHOICES)
        scores = real_array(x, "x").astype(np.float64)
        if scores.shape != (len(self.channels),):
            raise InterpNetError(f"x has shape {scores.shape}; expected ({len(self.channels)},): one score a channel")
        if not np.isfinite(scores).all():
            raise InterpNetError("x holds NaN or infinity; every score must be finite")
        weights = self.coef[self.class_index(cls)]
        # A contribution is in units of the answer already.
        if choose == "contribution":
            weights = (weights != 0).astype(np.float64)
        if choose in {"named", "all"}:
            weights = np.ones_like(weights)
        return np.asarray(weights * scores, dtype=np.float64)

    @property
    def choice(self) -> str:
        """How an image's channels are chosen by default: one of :data:`CHOICES`."""
        if self.by == "reliance":
            return "contribution"
        return "weight"

    def top_channels(
        self, x: npt.ArrayLike, cls: int | str, k: int = 3, choose: str | None = None
    ) -> list[tuple[Channel, float]]:
        """Return the k channels with the largest positive response; fewer where fewer are positive.

        With ``choose="named"`` the channels named for the class come first, whatever the others' responses.
        """
        whole_number(k, "k", least=1)
        # docs/method.md, section 4: a negative response speaks against the class.
        response = self.response(x, cls, choose)
        order = np.argsort(-response, kind="stable")
        if choose == "named":
            order = order[np.argsort(~self._speaking(response, cls)[order], kind="stable")]
        order = order[:k]
        return [(self.channels[int(i)], float(response[i])) for i in order if response[i] > 0]

    def _speaking(self, response: Float64, cls: int | str) -> Bools:
        """Return which channels are named for a class and answer to an image with a positive response (m,)."""
        return np.asarray((self.coef[self.class_index(cls)] != 0) & (response > 0))

    def layer_relevance(self) -> Float64:
        """Return the share of each class's total ``|w|`` that lies in each layer (C, layers)."""
        total = np.abs(self.coef)
        by_layer = np.stack([total[:, self.channels.slice(n)].sum(1) for n in self.channels.layers], 1)
        # A class without a relevant channel has shares of 0.
        sums = by_layer.sum(1, keepdims=True)
        shares: Float64 = np.divide(by_layer, sums, out=np.zeros_like(by_layer), where=sums > 0)
        return shares

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the interpretation as one ``.npz`` file, atomically and without pickling."""
        arrays: dict[str, Any] = {"coef": self.coef, "gaps": self.gaps}
        meta = {
            "format": _FORMAT,
            "channels": self.channels.to_json(),
            "classes": list(self.classes),
            "mu": self.mu,
            "positive": self.positive,
            "info": dict(self.info),
        }
        if self.by == "reliance":
            meta |= {"format": _RELIANCE_FORMAT, "by": self.by, "price": self.price}
        if self.stderr is not None:
            arrays["stderr"] = self.stderr
        # Through a handle, because savez would append a suffix to the name.
        with atomic_path(path) as tmp, tmp.open("wb") as handle:
            np.savez_compressed(handle, **arrays, meta=np.array(json.dumps(meta, allow_nan=False)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Interpretation:
        """Read what :meth:`save` wrote; a missing or damaged file, or another format, is a RunFolderError."""
        # The stage that makes the file is named: a run folder without it has not come that far.
        if not as_path(path).is_file():
            raise RunFolderError(f"{str(path)!r} does not exist; `interpnet solve` makes it")
        remedy = "delete it and run `interpnet solve` again"
        with read_arrays(path, ("coef", "gaps", "meta"), "interpretation", remedy, more=("stderr",)) as data:
            meta = json.loads(str(data["meta"]))
            if meta.get("format") not in {_FORMAT, _RELIANCE_FORMAT}:
                raise RunFolderError(
                    f"{str(path)!r} has format {meta.get('format')!r}; expected {_FORMAT!r} or {_RELIANCE_FORMAT!r}"
                )
            channels = ChannelIndex.from_json(meta["channels"])
            classes = tuple(meta["classes"])
            _check_read(data["coef"], data["gaps"], classes, meta)
            more = {}
            if meta["format"] == _RELIANCE_FORMAT:
                more = {"by": meta["by"], "price": meta["price"], "stderr": data["stderr"]}
            return cls(
                channels, data["coef"], classes, meta["mu"], meta["positive"], data["gaps"], meta["info"], **more
            )


def _check_read(coef: Any, gaps: Any, classes: tuple[Any, ...], meta: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for what :meth:`Interpretation.save` never writes."""
    for name, array in (("coef", coef), ("gaps", gaps)):
        if array.dtype != np.float64 or not np.isfinite(array).all():
            raise ValueError(f"{name} is no array of finite float64 numbers")
    if gaps.shape not in ((0,), (len(classes),)):
        raise ValueError(f"gaps has shape {gaps.shape}; expected ({len(classes)},)")
    if not all(isinstance(name, str) for name in classes):
        raise ValueError("a class has a name that is no text")
    positive_number(meta["mu"], "mu")
    true_or_false(meta["positive"], "positive")
    if not isinstance(meta["info"], dict):
        raise TypeError("info is no JSON object")
