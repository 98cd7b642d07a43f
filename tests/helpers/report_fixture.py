"""A complete run folder of made-up values in the run's formats, with names and gaps meant to upset a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from interpnet.pipelines.run.selection import STABILITY_FILE, write_selection

from helpers.shortcut_findings import write_shortcuts
from interpnet.engine import ChannelIndex
from interpnet.interpretation import Interpretation, interpret
from interpnet.mulasso import SelectionCurve, Stability
from interpnet.plotting import enlarge, render, save_png
from interpnet.reliance import Contributions
from interpnet.support.io import write_json, write_text

NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=document.title=1>',
    "Übergröße 猫 🐈 عربي",
    '=HYPERLINK("http://x","y")',
    "a very long class name " * 12,
    "{{ 7*7 }} $x_1$ &amp; \u202ereversed \x07bell",
    "no test images",
    "nothing relevant",
)
LAYERS = (
    ("conv1.relu", 16),
    ("layer1.0.relu", 16),
    ("layer1.0.relu:1", 16),
    ("layer2.0.relu", 32),
    ("layer3.0.relu", 64),
)
NO_IMAGES = NASTY.index("no test images")
NO_CHANNELS = NASTY.index("nothing relevant")


def class_names(count: int) -> tuple[str, ...]:
    """Return the nasty names first, then plain ones."""
    return (NASTY + tuple(f"class {i}" for i in range(len(NASTY), count)))[:count]


def picture(rng: np.random.Generator, size: int = 32, hue: float = 0.3) -> np.ndarray:
    """Return a (3, size, size) picture: a coloured disc on a gradient."""
    y, x = np.mgrid[:size, :size] / size
    cy, cx, r = *rng.uniform(0.35, 0.65, 2), rng.uniform(0.15, 0.3)
    disc = 1 / (1 + np.exp(40 * (np.hypot(y - cy, x - cx) - r)))
    back = np.stack([0.35 + 0.4 * y, 0.45 + 0.3 * x, 0.55 - 0.2 * y])
    front = np.array([hue, 1 - hue, 0.5 + 0.4 * np.sin(7 * hue)])[:, None, None]
    return np.clip(back * (1 - disc) + front * disc + rng.normal(0, 0.03, (3, size, size)), 0, 1)


def blob(rng: np.random.Generator, size: int = 32) -> np.ndarray:
    """Return a (size, size) map in [0, 1] with one bump."""
    y, x = np.mgrid[:size, :size] / size
    cy, cx = rng.uniform(0.3, 0.7, 2)
    return np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / rng.uniform(0.008, 0.04))


def plain(value: Any) -> Any:
    """Return lists with ``None`` for NaN."""
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value]
    return None if np.isnan(value) else float(value)


def interpretation(classes: tuple[str, ...], rng: np.random.Generator) -> Interpretation:
    channels = ChannelIndex(LAYERS)
    coef = np.zeros((len(classes), len(channels)))
    lean = np.linspace(0.2, 1, len(channels)) ** 2
    for c in range(len(classes)):
        if c != NO_CHANNELS:
            chosen = rng.choice(len(channels), 8, replace=False, p=lean / lean.sum())
            coef[c, chosen] = rng.normal(0.4, 1.0, 8)
    return Interpretation(channels, coef, classes, 10.0, False, rng.uniform(1e-10, 1e-8, len(classes)), {"norm": "l2"})


def ablation(
    found: Interpretation, rng: np.random.Generator, *, relevant: float = 0.58, repeats: int = 10
) -> dict[str, Any]:
    count = len(found.classes)
    intact = np.clip(rng.normal(0.8, 0.07, count), 0, 1)
    support = np.full(count, 1000)
    if count > NO_IMAGES:
        intact[NO_IMAGES] = np.nan
        support[NO_IMAGES] = 0
    removed = (found.coef != 0).sum(1)

    def condition(name: str, layers: str, keep: float, others: float, draws: int) -> dict[str, Any]:
        own = np.clip(intact * keep + rng.normal(0, 0.03, (draws, count)) + rng.normal(0, 0.01, (draws, 1)), 0, 1)
        own = np.where(removed == 0, intact, own)
        rest = np.nanmean(intact) * others + rng.normal(0, 0.01, (draws, count))
        return {"name": name, "layers": layers, "removed": plain(removed), "own": plain(own), "others": plain(rest)}

    conditions = [
        condition(name, layers, keep + (0.04 if layers == "conv" else 0), others, draws)
        for layers in ("all", "conv")
        for name, keep, others, draws in (
            ("relevant", relevant, 0.93, 1),
            ("relevant-positive", relevant + 0.05, 0.95, 1),
            ("random", 0.96, 0.965, repeats),
            ("random-per-layer", 0.9, 0.91, repeats),
            ("highest-activation", 0.78, 0.8, 1),
        )
    ]
    k = np.array([1, 2, 4, 8])
    drop = (1 - relevant) * (np.log2(k) + 1) / 4
    curve_own = intact * (1 - drop[:, None])
    curve_random = intact * (1 - 0.01 * np.log2(2 * k)[:, None, None]) + rng.normal(0, 0.02, (4, repeats, 1))
    single = {
        str(c): [
            {
                "layer": channel.layer,
                "index": channel.index,
                "weight": weight,
                "own_drop": plain(intact[c] * abs(weight) * 0.05),
                "others_change": -0.002,
            }
            for channel, weight in found.relevant(c)
        ]
        for c in range(count)
    }
    return {
        "format": "interpnet-ablation-1",
        "classes": list(found.classes),
        "support": support.tolist(),
        "intact": plain(intact),
        "fill": "zero",
        "n_images": int(support.sum()),
        "repeats": repeats,
        "seed": 0,
        "conditions": conditions,
        "single": single,
        "curve": {"k": k.tolist(), "own": plain(curve_own), "random": plain(curve_random)},
    }


def write_classes(
    folder: Path,
    found: Interpretation,
    study: dict[str, Any],
    rng: np.random.Generator,
    pictured: int,
    few: int | None,
) -> None:
    entries = []
    for c, name in enumerate(found.classes):
        channels = []
        for rank, (channel, weight) in enumerate(found.relevant(c)[:pictured]):
            stem = f"channels/c{c:03d}_r{rank:02d}"
            save_png(folder / f"{stem}_mean.png", enlarge(picture(rng, 19, c / 10), 96))
            patches = [f"{stem}_p{i:02d}.png" for i in range(9 if rank else 5)]
            for patch in patches:
                save_png(folder / patch, enlarge(picture(rng, 19, c / 10), 96))
            effect = study["single"][str(c)][rank]
            known = effect["own_drop"] is not None
            channels.append(
                {
                    "layer": channel.layer,
                    "index": channel.index,
                    "family": "conv",
                    "weight": weight,
                    "mean": f"{stem}_mean.png",
                    "patches": patches,
                    "count": 100,
                    "field": [19, 19],
                    "whole_image": channel.layer == "layer3.0.relu",
                    "effect": {"own": effect["own_drop"], "others": effect["others_change"]} if known else None,
                }
            )
        entries.append(
            {
                "index": c,
                "name": name,
                "n_train": 4 if c == few else 5000,
                "n_relevant": len(found.relevant(c)),
                "gap": 1e-9,
                "channels": channels,
            }
        )
    write_json(folder / "classes.json", {"top": 100, "classes": entries})


def write_examples(folder: Path, found: Interpretation, rng: np.random.Generator, most: int) -> None:
    examples = []
    for number, c in enumerate(range(min(most, len(found.classes)))):
        image = picture(rng, hue=c / 10)
        stem = f"examples/{number:04d}"
        save_png(folder / f"{stem}_image.png", enlarge(image))
        maps = [blob(rng) for _ in range(3)]
        if number == 1:
            maps[2] = np.zeros_like(maps[2])
        channels = []
        for i, (channel, weight) in enumerate(found.relevant(c)[:3]):
            save_png(folder / f"{stem}_h{i}.png", render(maps[i], image))
            channels.append(
                {
                    "layer": channel.layer,
                    "index": channel.index,
                    "weight": weight,
                    "response": 0.1 * abs(weight),
                    "heatmap": f"{stem}_h{i}.png",
                    "blank": not maps[i].any(),
                }
            )
        save_png(folder / f"{stem}_combined.png", render(np.max(maps, 0), image))
        baselines = {}
        for method in ("gradient", "guided", "gradcam++", "edge", "random", "center"):
            baselines[method] = f"{stem}_{method}.png"
            save_png(folder / baselines[method], render(blob(rng) + 0.2 * rng.random((32, 32)), image))
        examples.append(
            {
                "name": f"test/<b>{number}</b>.png",
                "dataset_index": number,
                "true": c if number % 5 else None,
                "predicted": c if number % 4 else (c + 1) % len(found.classes),
                "explained": c,
                "confidence": 0.93,
                "image": f"{stem}_image.png",
                "channels": channels,
                "combined": f"{stem}_combined.png",
                "baselines": baselines,
                "note": "misclassified on purpose" if number % 4 == 0 else "",
            }
        )
    write_json(
        folder / "examples.json",
        {
            "k": 3,
            "rectifier": "guided",
            "resample": True,
            "reduction": "positive",
            "rectifiers_seen": 19,
            "rectifiers_overridden": 19,
            "examples": examples,
        },
    )


def mu_selection(*, accuracy: bool = True) -> SelectionCurve:
    """Return a choice of mu = 10 among 20 radii: the error falls, then rises; the smallest is at a larger mu."""
    mus = 10.0 * 2.0 ** (0.4 * np.arange(-9, 11))
    error = 0.02 + 0.03 * np.exp(-mus / 5) + 4e-6 * mus
    se = np.full(20, 0.0046)
    share = 0.93 - 0.5 * np.exp(-mus / 5)
    best = float(mus[np.argmin(error)])
    return SelectionCurve(
        mus,
        error,
        se,
        share if accuracy else None,
        0.01 + 0 * share if accuracy else None,
        3 * mus**0.75,
        10.0,
        best,
        10.0,
        "one_se",
        5,
    )


def contributions(found: Interpretation) -> Contributions:
    """Return contributions of 40 images of each class: twice the weight, and 0.3 of it to the class before.

    So each channel with a weight above zero carries something, but for each class's weakest of them, which takes from
    it; and every class has a channel without weight that carries the most.
    """
    count, m = found.coef.shape
    means = 2 * np.abs(found.coef)
    means += 0.3 * np.roll(means, -1, axis=0)
    for c in range(count):
        positive = found.columns(c, "positive")
        if len(positive):
            means[c, positive[-1]] = -0.25
            means[c, np.flatnonzero(found.coef[c] == 0)[c % 7]] = 9.0
    n = 40
    spread = 0.5
    squares = n * means**2 + (n - 1) * spread**2
    counts = np.full(count, n)
    return Contributions(
        found.channels, found.classes, counts, np.full(count, 3.0 * n), np.stack([n * means, squares]), np.zeros(m)
    )


def frequencies(found: Interpretation) -> np.ndarray:
    """Return (C, m) frequencies of 40 half samples: each class's strongest channels high, its weakest seldom."""
    result = np.full(found.coef.shape, 0.05)
    for c in range(len(found.classes)):
        columns = found.columns(c)
        result[c, columns] = np.linspace(1.0, 0.35, len(columns))
    return np.round(result * 40) / 40


def write_manifest(folder: Path, found: Interpretation, stages: tuple[str, ...]) -> None:
    images = {
        "spec": "imagefolder:<i>photos</i>",
        "split": "train",
        "fingerprint": "ab" * 32,
        "n_images": 50000,
        "classes": list(found.classes),
        "preprocessing": {"size": [32, 32], "mean": [0.49, 0.48, 0.44]},
        "skipped": [[17, "cat/<u>17</u>.jpg", "truncated image"]],
        "empty_classes": [],
    }
    facts: dict[str, dict[str, Any]] = {
        "collect": {"n_images": 50000, "images_per_second": 612.4, "accuracy": 0.913},
        "solve": {"mu": 10.0, "positive": False, "norm": "l2"},
    }
    write_json(
        folder / "manifest.json",
        {
            "format": "interpnet-run-1",
            "created": "2026-11-20T18:58:00+00:00",
            "interpnet": "0.1.0",
            "versions": {"python": "3.11.9", "torch": "2.15.0", "numpy": "2.4.6"},
            "platform": "Linux",
            "device": "cpu",
            "seed": 0,
            "identity": {},
            "model": {
                "spec": "nets/resnet20.py:<em>resnet20</em>",
                "weights": "resnet20.safetensors",
                "fingerprint": "cd" * 32,
                "n_parameters": 272474,
                "n_layers": 5,
                "n_channels": 144,
                "output": None,
            },
            "data": {
                "train": images,
                "test": {**images, "split": "test", "fingerprint": "12" * 32, "n_images": 7000, "skipped": []},
            },
            "stages": {
                name: {
                    "state": "complete",
                    "key": "ef" * 32,
                    "started": "2026-11-20T18:58:00+00:00",
                    "seconds": 81.6,
                    **facts.get(name, {}),
                }
                for name in stages
            },
            "notes": ["layer <layer2.0.relu> is dead: all of its channels are zero on every image"],
        },
    )
    write_text(folder / "run.toml", '[model]\nmodel = "nets/resnet20.py:<em>resnet20</em>"\n')


def make_run(
    folder: Path,
    *,
    classes: int = 10,
    stages: tuple[str, ...] = ("collect", "solve", "ablate", "explain"),
    relevant: float = 0.58,
    repeats: int = 10,
    pictured: int = 8,
    chosen: bool = False,
    stability: bool = False,
    both: bool = False,
    few: int | None = None,
    shortcuts: bool = False,
    beside: bool = False,
    examples: int = 1000,
) -> Path:
    """Write a run folder.

    ``relevant`` is the share of own recall left without the relevant channels, ``pictured`` the number
    of channels with pictures; ``chosen`` adds the choice of mu, ``stability`` selection frequencies, ``both`` the
    channels that classes rely on, ``shortcuts`` findings, ``beside`` of drawn images and of groups, too. Class ``few``
    has four training images. At most ``examples`` images are explained.
    """
    rng = np.random.default_rng(0)
    found = interpretation(class_names(classes), rng)
    study = ablation(found, rng, relevant=relevant, repeats=repeats)
    write_manifest(folder, found, stages)
    if "solve" in stages:
        found.save(folder / "weights" / "interpretation.npz")
        if chosen:
            write_selection(folder / "weights", mu_selection())
        if stability:
            Stability(frequencies(found), 40, 10.0, False).save(folder / "weights" / STABILITY_FILE)
    if "ablate" in stages:
        write_json(folder / "ablation" / "ablation.json", study)
    if both:
        measured = contributions(found)
        relied = interpret(measured)
        (folder / "run.toml").write_text('[solve]\nidentify = "both"\n')
        measured.save(folder / "contributions" / "contributions.npz")
        relied.save(folder / "weights" / "reliance.npz")
        write_json(folder / "ablation" / "reliance.json", ablation(relied, rng, relevant=0.4, repeats=repeats))
    if "explain" in stages:
        write_classes(folder / "explanations", found, study, rng, pictured, few)
        write_examples(folder / "explanations", found, rng, examples)
    if shortcuts:
        write_shortcuts(folder, found.classes, beside=beside)
    return folder
