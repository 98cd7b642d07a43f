"""What a run audits: the network, its images in two splits, and what identifies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.datasets import BadImageError, ImageData, make_loader, stack_images
from interpnet.engine import Output, RunError, Trace, best_device, find_sites, part_of, resolve_device, unwrap
from interpnet.errors import DataError, InterpNetError, ModelError, RunFolderError, did_you_mean
from interpnet.models import ModelInfo, describe_model, load_model
from interpnet.support.io import DAMAGED
from interpnet.support.types import Int64

from .architecture import architecture
from .config import PYTHON, RunConfig
from .cue import described
from .folder import digest
from .groups import grouped
from .images import Own, load_splits
from .notes import Notes
from .split import INDEPENDENT, Batches, Split, balanced, belong, check_settings


@dataclass(frozen=True)
class Subject:
    """A network with the images it is audited on."""

    config: RunConfig
    model: nn.Module  # in evaluation mode, on device
    info: ModelInfo
    output: Output | None  # takes the logits out of what the model returns
    device: torch.device
    trace: Trace  # the network's sites for these images
    classes: tuple[str, ...]  # names of the model's outputs
    train: Split
    test: Split
    notes: tuple[str, ...]  # what a reader of the report should know
    first: Tensor  # (1, C, H, W): the first training image that can be read
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # outputs merged into one class, by its name

    @property
    def independent(self) -> bool:
        """Whether an image can have several labels, each output being a question of its own."""
        return self.train.several is not None

    def identity(self, described: Mapping[str, Any]) -> dict[str, str]:
        """Return what a run folder must not mix, each with its fingerprint; ``described`` as :meth:`describe` gave it.

        A network of the user's own file is its weights and what it computes, not the text of the file.
        """
        model = described["model"]
        # Runs of before architectures were noted know the text only.
        computes = model.get("architecture", self.info.code)
        settings = self.config.section("collect")
        # Newer than the first run folders; what auto found counts, where it is not what they had.
        del settings["outputs"]
        if self.independent:
            settings["outputs"] = INDEPENDENT
        return {
            "model": digest([self.info.fingerprint, computes, self.info.output, type(self.model).__qualname__]),
            "set of training images": self.train.data.fingerprint(),
            "set of test images": self.test.data.fingerprint(),
            "preparation of images": digest(self.train.data.preprocessing),
            "list of classes": digest([list(self.classes), self.train.outputs.tolist(), *self._groups().values()]),
            "configuration of collect (layers, norm, max-images)": digest(settings),
        }

    def describe(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the manifest's ``model``, ``data`` and ``collect`` entries; ``known`` its ``model`` so far."""
        sites = self.trace.select(self.config.layers)
        model = asdict(self.info) | {
            "kind": type(self.model).__qualname__,
            "n_layers": len(sites),
            "n_channels": sum(site.channels for site in sites),
            "n_outputs": self.trace.n_outputs,
            "classes": list(self.classes),
            "output": self.config.output,
            "weights_key": self.config.weights_key,
        }
        model |= self._groups()
        if self.independent:
            model["outputs"] = INDEPENDENT
        noted = self.info.code is not None and not ("code" in known and "architecture" not in known)
        if noted or self.info.spec.startswith(PYTHON):
            model["architecture"] = self._architecture(known)
        data = {"train": _described(self.train), "test": _described(self.test)}
        return {"model": model, "data": data, "collect": self.config.section("collect")}

    def _groups(self) -> dict[str, Any]:
        """Return the manifest's entry of merged outputs; nothing where there are none, as in runs of before."""
        if not self.groups:
            return {}
        return {"groups": {name: list(members) for name, members in self.groups.items()}}

    def _architecture(self, known: Mapping[str, Any]) -> str:
        """Return the digest of what the network computes; that of the run where the file's text is the same."""
        # Another version of torch can call its operators by other names.
        if self.info.code is not None and known.get("code") == self.info.code:
            return str(known["architecture"])
        own_output = None
        if callable(self.output) and (self.config.output or "").startswith(PYTHON):
            own_output = self.output
        try:
            return architecture(self.model, self.first.to(self.device), own_output)
        except DAMAGED:
            # What cannot be compared is not the same.
            return str(self.info.code)

    def batches(self, split: Split, indices: Int64) -> Batches:
        """Return some images of a split in order, in batches that can be read again and again."""
        loader = make_loader(
            split.data,
            batch_size=self.config.batch_size,
            num_workers=self.config.workers,
            indices=indices,
            pin_memory=self.device.type == "cuda",
        )
        return Batches(loader, torch.from_numpy(split.outputs), split.several)

    def test_indices(self) -> Int64:
        """Return the test images that are used: all, or ``max_ablation_images`` balanced over the classes."""
        return balanced(self.test.strata, self.config.max_ablation_images, self.config.seed)

    def train_indices(self) -> Int64:
        """Return the training images that are used: all, or ``max_images`` balanced over the classes."""
        return balanced(self.train.strata, self.config.max_images, self.config.seed)


def _described(split: Split) -> dict[str, Any]:
    data = split.data
    several: dict[str, Any] = {}
    if split.several is not None:
        counts = split.targets.sum(1)
        several["labels_per_image"] = round(float(counts.mean()), 2)
        several["without_label"] = int((counts == 0).sum())
    return {
        **several,
        "spec": data.spec,
        "split": data.split,
        "fingerprint": data.fingerprint(),
        "n_images": len(data),
        "classes": list(data.classes),
        "outputs": split.outputs.tolist(),
        "preprocessing": data.preprocessing,
        "skipped": [],
        "empty_classes": list(data.empty_classes),
    }


def make_output(text: str | None) -> Output | None:
    """Return the function that takes ``--output KEY_OR_INDEX`` out of what a model returns.

    Examples
    --------
    >>> make_output("1")(("features", "logits"))
    'logits'
    """
    if text is None:
        return None
    output: str | int = text
    if text.removeprefix("-").isdigit():
        output = int(text)
    return partial(part_of, output=output, name=f"--output {text}")


def device_of(config: RunConfig) -> torch.device:
    """Return the device that ``--device`` names; the best there is by default."""
    return best_device() if config.device == "auto" else resolve_device(config.device)


def load_network(config: RunConfig, own: Own | None = None) -> tuple[nn.Module, ModelInfo, Output | None, torch.device]:
    """Load the network as configured, or take a program's own one; on its device."""
    device = device_of(config)  # first, for a mistyped one is quicker to find than a model
    if own is not None and own.model is not None:
        model = unwrap(own.model)
        info = describe_model(config.model, None, model, output=config.output)
        return model.to(device), info, own.output or make_output(config.output), device
    spec = config.model
    if ".py:" in spec:
        file, _, factory = spec.rpartition(":")
        spec = f"{config.path(file)}:{factory}"
    weights = config.weights and config.path(config.weights)
    model = load_model(
        spec, weights=weights, weights_key=config.weights_key, num_classes=config.num_classes, seed=config.seed
    )
    info = describe_model(spec, weights, model, output=config.output)
    # The manifest shows what the user wrote, not where it was found.
    info = replace(info, spec=config.model, weights=config.weights)
    output = None if own is None else own.output
    return model.to(device), info, output or make_output(config.output), device


def traced(model: nn.Module, images: Tensor, output: Output | None) -> Trace:
    """Trace a network, with a clear error where it cannot take images of this shape."""
    try:
        return find_sites(model, images, output=output)
    except RunError as error:
        raise ModelError(f"{error} (--image-size, --channels)") from error


def load_subject(config: RunConfig, own: Own | None = None) -> Subject:
    """Load the network and its images, or raise ``InterpNetError`` where they do not exist or do not fit.

    ``own`` are a program's objects in the place of what the configuration names.
    """
    if not config.model or not config.data:
        raise InterpNetError("a run needs a model and data: interpnet audit MODEL DATA (see interpnet audit --help)")
    own = own or Own()
    for spec, there in ((config.model, own.model), (config.data, own.train)):
        if spec.startswith(PYTHON) and there is None:
            raise RunFolderError(
                f"this run was made from Python, and what it calls {spec!r} is in no file; call audit() with the same "
                "objects and the folder as out= (interpnet report RUN needs neither)"
            )
    loading = Notes()
    with loading.listening():
        model, info, output, device = load_network(config, own)
    train, test = load_splits(config, info.preprocessing, own)
    first = stack_first(train)
    trace = traced(model, first.to(device), output)
    _check_test(model, test, first, output, device)
    found = grouped(train, trace.n_outputs, config, own.classes)
    if test.numbered and train.numbered:
        # Its labels can go further than those of the training images.
        of_test = grouped(test, trace.n_outputs, config, own.classes).of_data
    else:
        of_test = _by_name(train, test, found.of_data)
    several = None
    if belong(config.outputs, train, test) == INDEPENDENT:
        check_settings(config)
        several = trace.n_outputs
    if found.groups:
        if several is not None:
            raise InterpNetError(
                "--group merges classes of which an image has one; here an image can have several labels, and no label "
                "is another one's part. Leave --group out, or give --outputs exclusive where each image has one label"
            )
        output = found.merging(trace.n_outputs, output)
        trace = traced(model, first.to(device), output)
    trace.select(config.layers)  # a mistyped layer is an error now, not after minutes of reading images
    notes = []
    if train.empty_classes:
        names = [found.names[found.of_data[train.classes.index(name)]] for name in train.empty_classes[:10]]
        empty = ", ".join(names)
        notes.append(f"Classes without a training image ({len(train.empty_classes)}): {empty}")
    if train.fingerprint() == test.fingerprint():
        notes.append(
            "There is no test split: ablation and examples use the same images as the fit, which flatters them."
        )
    notes += [
        f"Class {name}: {', '.join(members)}, merged; its probability is the sum of theirs (--group)."
        for name, members in found.groups.items()
    ]
    notes += loading.texts
    notes += dict.fromkeys((*train.notes, *test.notes))  # without splits, both have the same to say
    notes += filter(None, [described(config.data)])
    left_out = [site for site in trace.sites if site.default and not site.usable]
    notes += [f"Left out of the default layers: {site.name} ({site.why})" for site in left_out]
    return Subject(
        config=config,
        model=model,
        info=info,
        output=output,
        device=device,
        trace=trace,
        classes=found.names,
        train=Split(train, found.of_data, several),
        test=Split(test, of_test, several),
        notes=tuple(notes),
        first=first,
        groups=found.groups,
    )


def _check_test(model: nn.Module, test: ImageData, first: Tensor, output: Output | None, device: torch.device) -> None:
    """Raise now what test images of another shape would raise after the pass over the training images."""
    shape = tuple(first.shape[1:])
    if test.shape == shape:
        return
    try:
        traced(model, stack_first(test).to(device), output)
    except ModelError as error:
        raise ModelError(f"test images have the shape {test.shape}, the training images {shape}: {error}") from error


def _by_name(train: ImageData, test: ImageData, outputs: Int64) -> Int64:
    """Return the output of each class of the test images, found by the names of the training images' classes."""
    for name in test.classes:
        if name not in train.classes:
            raise DataError(
                f"class {name!r} of the test images is none of the training images' classes"
                f"{did_you_mean(name, train.classes)}; expected the same classes in both"
            )
    return np.array([outputs[train.classes.index(name)] for name in test.classes], dtype=np.int64)


def stack_first(data: ImageData) -> Tensor:
    """Return the first image that can be read, as a batch (1, C, H, W)."""
    for i in range(len(data)):
        try:
            return stack_images(data, [i])
        except BadImageError:
            if data.on_bad_image == "fail":
                raise
    raise DataError(f"none of the {len(data)} images of {data.spec!r} can be read")
