"""What maximised pictures reach, how much class pictures differ, and what the filter report costs; beside older code.

    git worktree add --detach ../before 63233b2    # and an environment in ../before/.venv
    python -m experiments.methods.pictures --before ../before --demo runs/demo --out experiments/methods/pictures.json

EfficientNet-Lite0 and SqueezeNet 1.0 tell ten groups of ImageNet's classes apart. Four channels of each of eight
layers are raised, of those that answer to some of 189 photographs, and six groups. Each code runs in a process of its
own, on one thread, with 24 steps. What a picture reaches is measured here, in the same
way for both: the largest value of the channel's map, in the mean over eight shifts, over the largest on photographs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.imagenet import GROUPS, Asked, halves_of_samples, networks
from experiments.common.shared_data import shared_data
from interpnet.engine import Channel, Instrument, Site, find_sites, forward_logits, instrument
from interpnet.pictures import maximise
from interpnet.support.io import write_text

_NETWORKS = ("efficientnet", "squeezenet")
_LAYERS = 8
_CHANNELS = 4  # of a layer
_CLASSES = 6
_SHIFTS = 8
_STEPS = 24
_SHOWS = 0.7  # as in the filter report
_ROOT = Path(__file__).resolve().parents[2]


def asked(network: str) -> tuple[Asked, Tensor, float | tuple[float, ...], float | tuple[float, ...]]:
    """Return a network with its photographs (N, 3, H, W), and the mean and deviation that prepare a picture."""
    found = halves_of_samples(network, 0, most=28)
    normalise = networks(network).prepare.transforms[-1]
    return found, torch.cat([found.train.images, found.test.images]), tuple(normalise.mean), tuple(normalise.std)


def largest(model: nn.Module, images: Tensor, sites: list[Site]) -> dict[str, Tensor]:
    """Return the largest value of each channel's map for each image, by site (N, channels); "" has the logits."""
    kept: dict[str, list[Tensor]] = {site.name: [] for site in sites}

    def reader(site: Site) -> Any:
        return lambda out: kept[site.name].append(out.movedim(site.axis or 1, 1).flatten(2).amax(2).clone())

    logits = []
    with torch.inference_mode(), instrument(model, Instrument(reads={site.name: reader(site) for site in sites})):
        logits = [forward_logits(model, images[i : i + 16], None) for i in range(0, len(images), 16)]
    return {name: torch.cat(parts) for name, parts in kept.items()} | {"": torch.cat(logits)}


def shifted(model: nn.Module, pictures: Tensor, sites: list[Site], name: str) -> Tensor:
    """Return what pictures reach at a site, in the mean over shifts (n, channels)."""
    random = torch.Generator().manual_seed(1)
    looks = []
    for _ in range(_SHIFTS):
        shift = torch.randint(-4, 5, (2,), generator=random).tolist()
        looks.append(largest(model, pictures.roll(shift, (2, 3)), sites)[name])
    return torch.stack(looks).mean(0)


def coarse(pictures: Any) -> Tensor:
    """Return pictures (n, C, 28, 28) as a glance sees them: noise of single pixels is gone."""
    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(pictures), 28)


def correlation(pictures: Tensor) -> float:
    """Return the mean correlation of two pictures (n, C, H, W), over pixels and colours."""
    rows = np.corrcoef(pictures.flatten(1).numpy())
    n = len(rows)
    return float((rows.sum() - n) / (n * (n - 1)))


def measure(network: str) -> dict[str, Any]:
    """Raise channels and classes with the code on the path, and measure what came of it."""
    given, images, mean, std = asked(network)
    model = given.model
    trace = find_sites(model, images[:1])
    found = trace.select("default")
    sites = [found[i] for i in np.unique(np.rint(np.linspace(0, len(found) - 1, _LAYERS)).astype(int))]
    real = largest(model, images, sites)
    options: dict[str, Any] = {"mean": mean, "std": std, "trace": trace, "steps": _STEPS}
    layers = []
    for site in sites:
        best = real[site.name].amax(0)
        alive = torch.nonzero(best > 0.1 * best.max())[:, 0]
        channels = alive[torch.linspace(0, len(alive) - 1, _CHANNELS).long()].tolist()
        began = time.process_time()
        made = maximise(model, [Channel(site.name, c) for c in channels], (3, 96, 96), **options)
        seconds = time.process_time() - began
        prepared = normalised(made.pictures, mean, std)
        reached = shifted(model, prepared, [site], site.name)[torch.arange(_CHANNELS), channels]
        shares = (reached / best[channels]).tolist()
        layers.append({"layer": site.name, "shares": [round(s, 3) for s in shares], "seconds": round(seconds, 2)})
    classes = np.rint(np.linspace(0, len(GROUPS) - 1, _CLASSES)).astype(int).tolist()
    began = time.process_time()
    made = maximise(model, classes, tuple(images.shape[1:]), **options)
    seconds = time.process_time() - began
    logits = shifted(model, normalised(made.pictures, mean, std), [], "")
    return {
        "layers": layers,
        "below": sum(share < _SHOWS for layer in layers for share in layer["shares"]),
        "class_correlation": round(correlation(torch.from_numpy(made.pictures)), 3),
        "coarse_class_correlation": round(correlation(coarse(made.pictures)), 3),
        "coarse_class_contrast": round(float(coarse(made.pictures).std()), 3),
        "classes_recognised": int((logits.argmax(1) == torch.tensor(classes)).sum()),
        "class_seconds": round(seconds, 2),
    }


def normalised(pictures: Any, mean: Any, std: Any) -> Tensor:
    """Return pictures as the network wants them."""
    return (torch.from_numpy(pictures) - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


def padding(network: str) -> list[dict[str, Any]]:
    """Return how many channels of each layer answer to the padding, of 24 evenly spread ones."""
    from interpnet.explanation import average_visualizations
    from interpnet.scores import collect_scores

    given, images, _, _ = asked(network)
    found = find_sites(given.model, images[:1]).select("default")
    names = [found[i].name for i in np.unique(np.rint(np.linspace(0, len(found) - 1, _LAYERS)).astype(int))]
    batches = [(part, torch.zeros(len(part), dtype=torch.long)) for part in torch.split(images, 32)]
    table = collect_scores(given.model, batches, layers=names, progress=False)
    data = [(image, 0) for image in images]
    rows = []
    for name in names:
        every = [channel for channel in table.channels if channel.layer == name]
        chosen = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, 24).astype(int))]
        made = average_visualizations(given.model, data, table, chosen, top=9, progress=False)
        answering = [one for one in made.values() if one.count]
        rows.append(
            {
                "layer": name,
                "channels": len(answering),
                "by_padding": sum(one.by_padding for one in answering),
                "shared": round(float(np.nanmedian([one.shared for one in answering])), 3),
            }
        )
    return rows


def command(tree: Path, folder: Path, arguments: list[str]) -> dict[str, float]:
    """Return the seconds of ``interpnet filters`` with the code in ``tree``: by the clock, and of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    clock = time.perf_counter()
    run(tree, ["-m", "interpnet", "filters", *arguments, "--out", str(folder / f"run of {tree.name}"), "--fresh"])
    seconds = time.perf_counter() - clock
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"clock": round(seconds, 1), "processor": round(used, 1)}


def run(tree: Path, arguments: list[str]) -> str:
    """Run Python with the code in ``tree`` and its environment, on one thread; return what it prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
    python = str(tree / ".venv" / "bin" / "python")
    done = subprocess.run(
        [python, "-W", "ignore", *arguments], check=True, capture_output=True, text=True, env=environment, cwd=tree
    )
    return done.stdout


def commands(demo: Path | None, folder: Path) -> dict[str, list[str]]:
    """Return the arguments of the two reports: of the demonstration's network, and of EfficientNet-Lite0."""
    made = {}
    if demo is not None:
        weights = str(demo / "smallcnn.safetensors")
        made["demo"] = ["smallcnn", "an8flower-single-6c", "--data-root", str(demo / "data"), "--weights", weights]
    with tarfile.open(shared_data() / "imagenet" / "samples.tar") as archive:
        files = sorted(m.name for m in archive.getmembers() if m.isfile())
        for name, ranges in GROUPS.items():
            group = folder / "photographs" / name
            group.mkdir(parents=True)
            own = [files[i // 2] for first, last in ranges for i in range(first, last + 1) if i % 2 == 0]
            for file in own[:: max(1, len(own) // 28)][:28]:
                (group / Path(file).name).write_bytes(archive.extractfile(file).read())  # type: ignore[union-attr]
    factory = folder / "network.py"
    factory.write_text(
        "from experiments.common.imagenet import GROUPS, Grouped, efficientnet\n"
        "def make():\n"
        "    groups = [[i for a, b in GROUPS[name] for i in range(a, b + 1)] for name in sorted(GROUPS)]\n"
        "    return Grouped(efficientnet(), groups)\n"
    )
    photographs = [f"{factory}:make", f"imagefolder:{folder / 'photographs'}", "--image-size", "224"]
    photographs += ["--mean", "0.5", "--std", "0.5", "--max-images", "200", "--max-classes", "6", "--per-layer", "4"]
    made["efficientnet"] = [*photographs, "--steps", str(_STEPS)]
    return made


def main() -> None:
    """Measure both trees by turns, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of older code, with its own environment in .venv")
    parser.add_argument("--demo", type=Path, help="a run folder of interpnet demo, with its data and weights")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--worker", metavar="NETWORK", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.worker is not None:
        print(json.dumps(measure(given.worker)))
        return
    trees = {"after": _ROOT}
    if given.before is not None:
        trees = {"before": given.before.resolve(), **trees}
    results = Results(given.out)
    with tempfile.TemporaryDirectory() as folder:
        for key, arguments in commands(given.demo, Path(folder)).items():
            for name, tree in trees.items():
                results.get(f"command, {key}, {name}", partial(command, tree, Path(folder), arguments))
    for network in _NETWORKS:
        for name, tree in trees.items():
            results.get(f"pictures, {network}, {name}", partial(measured, tree, network))
        results.get(f"padding, {network}", partial(padding, network))


def measured(tree: Path, network: str) -> Any:
    """Return what :func:`measure` finds with the code in ``tree``."""
    return json.loads(run(tree, [str(Path(__file__).resolve()), "--worker", network]))


class Results:
    """A file of results by name; those that are there are not measured again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = {}
        if path.exists():
            self._found = json.loads(path.read_text(encoding="utf-8"))

    def get(self, name: str, make: Callable[[], Any]) -> None:
        """Measure what is not there yet, and keep it."""
        if name not in self._found:
            self._found[name] = make()
            write_text(self._path, json.dumps(self._found, indent=1) + "\n")


if __name__ == "__main__":
    main()
