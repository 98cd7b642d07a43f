"""What an audit costs on 1, 8 and 64 GPUs, from unit costs: those measured here, and those assumed of a GPU machine.

    python -m experiments.benchmarks.plan [--forward 2500] [--disk 1.0] [--cores 16]

Measured, each in a JSON file of this folder: what scores, contributions and an ablation study cost in forward passes of
the network; images that a core decodes per second; processor seconds of sums of scores and of solving 1,000 classes
with 22,720 channels, with the matrix and without it. Assumed, because no GPU has run the code: images per second of the
bare ResNet-50 on one GPU (``experiments.benchmarks.gpu`` measures it), the disk's gigabytes per second and the cores
for each GPU. What is not measured on GPUs is taken to cost as many forward passes there as here.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from experiments.common import tables
from experiments.common.runner import command
from interpnet.support.io import read_json

HERE = Path(__file__).parent
GPUS = (1, 8, 64)
_GPUS_OF_A_MACHINE = 8
_CONTRIBUTING = 500  # images of each class, --contribution-images
# The matrix is summed beside the scores where it takes an eighth of the memory, and solved where it fits in twice.
_MEMORY = 128 * 2**30
_SUMMED = 8
_TWICE = 2
# What the measured problem of wide.json has.
_ROWS = 100_000
_CHANNELS = 22_720
_CLASSES = 1_000
_HOUR = 3600.0


class Job(NamedTuple):
    """A network on a data set."""

    name: str
    images: int
    classes: int
    channels: int
    test_images: int
    work: float  # multiply-adds of a forward pass, relative to ResNet-50's


#: ResNet-50 4.1 and EfficientNetV2-S 8.4 billion multiply-adds (torchvision's tables of weights).
JOBS = (
    Job("ImageNet, ResNet-50", 1_281_167, 1_000, 22_720, 50_000, 1.0),
    Job("ImageNet, EfficientNetV2-S", 1_281_167, 1_000, 70_440, 50_000, 8.37 / 4.09),
    Job("100 million images, ResNet-50", 100_000_000, 1_000, 22_720, 50_000, 1.0),
)


class Units(NamedTuple):
    """Unit costs."""

    forward: float  # assumed: images/s of ResNet-50 on one GPU
    disk: float  # assumed: bytes/s that one machine of eight GPUs reads or writes
    cores: int  # assumed, for each GPU
    decode: float  # images/s of one core
    scores: float  # in forward passes, as the next two
    contributions: float
    study: float
    sums: float  # processor seconds for a row and a pair of channels, in float64
    solved: float  # processor seconds of one class, with a matrix of 22,720 channels
    certified: float  # processor seconds for a row, a channel and a class, all passes together, without a matrix
    passes: float  # over the scores, without a matrix


def measured(forward: float, disk: float, cores: int) -> Units:
    """Return the unit costs: the given ones, and those of the files in this folder."""
    wide = read_json(HERE / "wide.json")
    rows = wide["thousand"]["rows"]
    matrix = wide["routes"]["matrix"]
    sums_s = matrix["seconds to sum, by the clock and of the processor"][1]
    classes = read_json(HERE / "many_classes.json")["22720 channels"]
    return Units(
        forward=forward,
        disk=disk * 1e9,
        cores=cores,
        decode=read_json(HERE / "sources.json")["rates"]["folder, prepared"],
        scores=1 / read_json(HERE / "collect.json")["rows"][-1]["ratio"],
        contributions=read_json(HERE / "contributions.json")["rows"][-1]["processor"]["scores and contributions"][0],
        study=max(row["this"]["passes"] for row in read_json(HERE / "ablation_study.json")["rows"]),
        sums=sums_s / matrix["rows"] / matrix["channels"] ** 2,
        solved=classes["ways"]["one thread"]["seconds"] / classes["solved"],
        certified=rows["seconds to solve"][1] / _ROWS / _CHANNELS / _CLASSES,
        passes=rows["passes"],
    )


def costs(job: Job, units: Units, gpus: int) -> dict[str, str]:
    """Return what each step of a job takes on some GPUs, in hours, and the bytes it leaves."""
    speed = units.forward / job.work * gpus
    decoded = units.decode * units.cores * gpus
    scored = job.images * max(units.scores / speed, 1 / decoded)
    size = 4.0 * job.images * job.channels
    # What several processes wrote is joined by one: read and written once more.
    joined = 0.0
    if gpus > 1:
        joined = 2 * size / units.disk
    contributing = min(job.images, _CONTRIBUTING * job.classes)
    found = {
        "images/s": f"{min(speed / units.scores, decoded):,.0f}",
        "bound by": ("the network", "decoding")[decoded < speed / units.scores],
        "scores, h": scored / _HOUR,
        "joining, h": joined / _HOUR,
        "contributions, h": contributing * units.contributions / speed / _HOUR,
        "sums and solving, h": _solving(job, units, gpus, size / units.disk) / _HOUR,
        "two studies, h": 2 * job.test_images * units.study / speed / _HOUR,
        "X, GB": f"{size / 1e9:,.0f}",
    }
    return {name: value if isinstance(value, str) else f"{value:.2g}" for name, value in found.items()}


def _solving(job: Job, units: Units, gpus: int, read: float) -> float:
    """Return seconds of the sums and of solving; ``read`` are those of reading X once."""
    matrix = 8.0 * job.channels**2
    # Rank 0 solves, with the cores of its machine.
    cores = units.cores * min(gpus, _GPUS_OF_A_MACHINE)
    if _TWICE * matrix > _MEMORY:
        work = units.certified * job.images * job.channels * job.classes / cores
        return max(work, (units.passes + 1) * read)
    solving = units.solved * job.classes * (job.channels / _CHANNELS) ** 2 / cores
    summing = units.sums * job.images * job.channels**2
    # Beside the scores, each rank its own rows; else from X.
    if _SUMMED * matrix <= _MEMORY:
        return summing / (units.cores * gpus) + solving
    return max(summing / cores, read) + solving


@command(forward="images/s of the bare ResNet-50 on one GPU", disk="gigabytes/s of a machine", cores="for each GPU")
def main(*, forward: float = 2500.0, disk: float = 1.0, cores: int = 16) -> None:
    """Print the table and the unit costs."""
    units = measured(forward, disk, cores)
    rows = [(job.name, gpus, costs(job, units, gpus)) for job in JOBS for gpus in GPUS]
    header = ["job", "GPUs", *rows[0][2]]
    print(tables.markdown(header, [[name, str(gpus), *found.values()] for name, gpus, found in rows]))
    print("\n" + ", ".join(f"{name} {value:.3g}" for name, value in units._asdict().items()))
