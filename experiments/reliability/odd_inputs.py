"""Odd values for every argument of the public functions, odd loaders and odd networks.

The result must be the value of the plain computation that the odd value stands for, or an ``InterpNetError``.
"""

from __future__ import annotations

import dataclasses
import math
import traceback
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import interpnet as ip
from experiments.common.tables import Line
from experiments.reliability.campaign import Campaign, Draw, verdict
from experiments.reliability.odd_calls import CALLS_OF_NETWORKS, Call, Subject
from experiments.reliability.odd_calls_of_numbers import CALLS_OF_NUMBERS
from experiments.reliability.odd_formulas import independent
from experiments.reliability.odd_networks import NETWORKS, OddNetwork
from experiments.reliability.odd_values import ODD, Odd, constants
from experiments.reliability.processes import import_everything, isolated

Numbers = list[float]
CALLS = CALLS_OF_NETWORKS | CALLS_OF_NUMBERS
_CHANNELS = [
    *constants(None, "x", 3, 1.5, {}, object(), [None]),
    Odd("no channel", lambda _good: []),
    Odd("an unknown layer", lambda _good: ip.Channel("nonsense", 0)),
    Odd("an index past the layer", lambda good: ip.Channel(_one(good).layer, 99)),
    Odd("index -1", lambda good: ip.Channel(_one(good).layer, -1)),
    Odd("index 0.5", lambda good: ip.Channel(_one(good).layer, 0.5)),  # type: ignore[arg-type]
    Odd("index True", lambda good: ip.Channel(_one(good).layer, True)),
    Odd("index of numpy", lambda good: ip.Channel(_one(good).layer, np.int64(1)), "same"),  # type: ignore[arg-type]
    Odd("a pair", lambda good: (_one(good).layer, 1), "same"),
    Odd("index as text", lambda good: ip.Channel(_one(good).layer, "1")),  # type: ignore[arg-type]
    Odd("a channel of the image", lambda _good: ip.Channel("", 0)),
]


def _one(good: Any) -> Any:
    if isinstance(good, list):
        return good[0]
    return good


def flat(value: Any) -> Numbers:
    """Return every number in a result, in order."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy()
    if isinstance(value, torch.nn.Module):
        return [float(one.double().sum()) for one in value.state_dict().values()]
    if isinstance(value, np.ndarray):
        return [float(one) for one in value.astype(np.float64).ravel()]
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return [float(value)]
    if isinstance(value, Mapping):
        return [number for key in sorted(value, key=str) for number in flat(value[key])]
    if dataclasses.is_dataclass(value):
        return [
            number for field in dataclasses.fields(value) if field.name != "info" for number in flat(_of(value, field))
        ]
    if isinstance(value, list | tuple):
        return [number for inner in value for number in flat(inner)]
    return []


def _of(value: Any, field: dataclasses.Field[Any]) -> Any:
    return getattr(value, field.name)


def outcome(function: Callable[[], Any], also: tuple[type[Exception], ...] = ()) -> dict[str, Any]:
    """Call a function; return its numbers, or how it refused, or the traceback, and what it warned of.

    ``also``: errors that count as refusals beside ``InterpNetError``.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found: dict[str, Any] = {"numbers": flat(function())}
        except ip.InterpNetError as error:
            found = {"refused": str(error)}
        except also as error:
            found = {"refused": str(error)}
        except Exception as error:  # noqa: BLE001 - the kind of error is what is judged
            lines = traceback.format_exc().strip().splitlines()
            found = {"error": f"{type(error).__name__}: {str(error)[:150]} | {' '.join(lines[-4:-1])[-200:]}"}
    found["warned"] = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    return found


def close(ours: Numbers, theirs: Numbers, tolerance: float) -> bool:
    """Whether two lists of numbers are the same up to a tolerance relative to the largest."""
    if len(ours) != len(theirs):
        return False
    scale = max([1e-3, *(abs(one) for one in theirs if math.isfinite(one))])
    return bool(np.allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale * 1e-2, equal_nan=True))


def table() -> list[tuple[str, str, str]]:
    """Return every case: the call, its argument, and the odd value; networks and formulas of their own."""
    kinds = {**ODD, "channel": _CHANNELS}
    values = [
        (name, argument, odd.name)
        for name, call in CALLS.items()
        for argument, kind in call.kinds.items()
        for odd in kinds[kind]
    ]
    networks = [(name, "model", network) for name in (*OF_SCORES, *OF_MAPS) for network in NETWORKS]
    plain = [("independent", name, "") for name in INDEPENDENT] + [("good", name, "") for name in CALLS]
    return plain + networks + [case for case in values if case not in FINE]


OF_SCORES = ("collect_scores", "ablation_study", "find_sites", "embed", "deletion")
OF_MAPS = ("channel_heatmap", "explain", "attribute gradient", "attribute gradcam++", "attribute lrp_epsilon")
# What is odd for others and fine for these: fewer maps or rows are as good as more, and constant maps have a
# documented value. Measures broadcast, embeddings need no labels, a column is a matrix of targets.
FINE = {
    *((name, argument, "one map without a batch") for name in ("spearman", "ssim") for argument in "ab"),
    *(("embed", "loader", odd) for odd in ("images alone", "images in tuples", "labels missing")),
    ("maximise", "mean", "-1.0"),
    ("MuLasso.fit", "y", "a column"),
    ("Gram.from_scores", "L", "a column"),
    ("checkerboard", "maps", "all the same"),
    ("spearman", "a", "all the same"),
    ("spearman", "b", "all the same"),
    ("ssim", "a", "all the same"),
    ("ssim", "b", "all the same"),
    ("checkerboard", "maps", "one fewer"),
    ("checkerboard", "maps", "one map without a batch"),
    ("checkerboard", "maps", "with colours"),
    ("checkerboard", "maps", "of another size"),
    ("tsne", "vectors", "a row too few"),
    ("nearest_images", "vectors", "a row too few"),
}
INDEPENDENT = (
    "scores",
    "predictions",
    "ablate",
    "attribute gradient",
    "channel_heatmap",
    "gram.G",
    "gram.B",
    "spearman",
    "pointing_game",
    "mu-lasso",
)


def prepare(where: Path) -> tuple[Path, list[tuple[str, str, str]]]:
    """List the cases, and import what they need; forks then start at once."""
    for room in (ip, ip.evaluate, ip.pictures):
        for name in room.__all__:
            getattr(room, name)
    import_everything(_every_good_call, where)
    return where, table()


def _every_good_call() -> None:
    for call in CALLS.values():
        outcome(partial(call.function, **call.arguments(Subject())))


def attempt(shared: tuple[Path, list[tuple[str, str, str]]], draw: Draw) -> Line:
    """Make one odd call and judge what came."""
    where, cases = shared
    name, argument, odd = draw.of(cases)
    what = f"{name}({argument} = {odd})"
    if name == "independent":
        work: Callable[[], dict[str, Any]] = lambda: _computed(argument)  # noqa: E731
    elif name == "good":
        work = lambda: _good(CALLS[argument])  # noqa: E731
    elif argument == "model":
        work = lambda: _network(name, NETWORKS[odd])  # noqa: E731
    else:
        work = lambda: _value(CALLS[name], argument, odd)  # noqa: E731
    ended, found = isolated(work, where)
    if found is None:
        return verdict(what, ended.fate if ended.hung else "internal error", f"exit {ended.code}: {ended.err}")
    return verdict(what, found["word"], found.get("detail", ""))


def _computed(name: str) -> dict[str, Any]:
    ours, theirs = independent(Subject())[name]
    if close(flat(ours), flat(theirs), 1e-4):
        return {"word": "right"}
    return {"word": "wrong", "detail": f"{flat(ours)[:4]} for {flat(theirs)[:4]}"}


def _good(call: Call) -> dict[str, Any]:
    """Call a function with good arguments only: were they odd, nothing else here would mean anything."""
    made = outcome(lambda: call.function(**call.arguments(Subject())))
    if made.get("numbers") or call.kinds.keys() <= {"path", "folder"}:
        return {"word": "right"}
    return {"word": "campaign broken", "detail": str(made)}


def _value(call: Call, argument: str, name: str) -> dict[str, Any]:
    """Call a function with one odd value, and with the plain one that it stands for."""
    kind = call.kinds[argument]
    odd = next(one for one in (_CHANNELS if kind == "channel" else ODD[kind]) if one.name == name)
    arguments = call.arguments(Subject())
    good = arguments[argument]
    meaning = odd.meaning
    if callable(meaning):
        plain = meaning(good)
        meaning = "same"
    else:
        plain = good
    tried = outcome(lambda: call.function(**{**arguments, argument: odd.make(good)}), call.also)
    again = Subject()
    fresh = call.arguments(again)
    if plain is not good:
        fresh[argument] = plain
    reference = outcome(lambda: call.function(**fresh))
    return judge(tried, reference, meaning, "half" in name or "bfloat" in name)


def _network(name: str, odd: OddNetwork) -> dict[str, Any]:
    """Call a function on an odd network, and on the plain one that it stands for."""
    meaning = {True: odd.maps, False: odd.scores}[name in OF_MAPS]
    call = CALLS[name]
    made = odd.make()
    tried = outcome(lambda: _run(call, made))
    reference = outcome(lambda: _run(call, odd.like()))
    return judge(tried, reference, meaning, True)


def _run(call: Call, net: Any) -> Any:
    subject = Subject(net)
    before = subject.images.clone()
    result = call.function(**call.arguments(subject))
    if not torch.equal(before, subject.images):
        raise RuntimeError("the caller's images were changed")
    return result


def judge(tried: dict[str, Any], reference: dict[str, Any], meaning: str, rough: bool) -> dict[str, Any]:
    """Judge an outcome by what the odd value means."""
    if "error" in tried:
        return {"word": "internal error", "detail": tried["error"]}
    if "refused" in tried:
        if not tried["refused"].strip():
            return {"word": "unclear", "detail": "an InterpNetError without a message"}
        if meaning == "must":
            return {"word": "wrong", "detail": f"refused, though good: {tried['refused']}"}
        return {"word": "refused"}
    if "numbers" not in reference and meaning not in {"none", "finite", "warned"}:
        # What the odd value stands for is refused, so the odd one has to be.
        meaning = "none"
    numbers = tried["numbers"]
    if meaning in {"same", "must"}:
        if close(numbers, reference["numbers"], 3e-2 if rough else 1e-4):
            return {"word": "right"}
        if tried["warned"] and meaning == "same":
            return {"word": "warned"}
        return {"word": "wrong", "detail": f"{numbers[:4]} ({len(numbers)}) for {reference['numbers'][:4]}"}
    if meaning == "finite" and all(map(math.isfinite, numbers)):
        return {"word": "right"}
    if meaning == "warned" and tried["warned"]:
        return {"word": "warned"}
    return {"word": "silent", "detail": f"result {numbers[:4]} ({len(numbers)} numbers); warned {tried['warned'][:1]}"}


CAMPAIGN = Campaign("odd values, loaders and networks for the public functions", 600, prepare, attempt)
