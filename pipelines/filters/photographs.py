"""What a network makes of photographs that a user names, beside the images it was looked at with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.attribution import attribute
from interpnet.datasets import ImageData, stack_images
from interpnet.engine import Channel, forward_logits
from interpnet.errors import InterpNetError
from interpnet.explanation import average_at, explain
from interpnet.pictures import activation_maps, embed
from interpnet.plotting import enlarge
from interpnet.support.class_names import chosen_classes
from interpnet.support.types import Float64

from ..run.folder import digest
from ..run.photographs import photographs, stem
from .parts import Arrays
from .reading import read
from .work import Work

#: The methods that are compared, with the names that a reader knows, by the figure they share.
METHODS = {
    "gradients": {"gradient": "gradient", "deconvnet": "DeconvNet", "guided": "guided backprop."},
    "gradcam": {"gradcam": "Grad-CAM"},
    "occlusion": {"occlusion": "occlusion"},
}
_COMPARED = 2  # classes, by default
_CHANNELS = 5  # that contribute most to the predicted class
_ACTIVE = 8  # of a layer, with the largest values
_PATCHES = 6  # of a channel
_LOOKED_AT = 40  # images that a channel's patches may come from
_PATCH_SIZE = 96  # pixels
_PATCHES_ACROSS = 8  # that hide a part of the photograph
_MAX_BATCH = 16


@dataclass(frozen=True)
class Photographs:
    """Photographs, read before the long work begins: what is no image is said at once."""

    work: Work
    data: ImageData
    stems: tuple[str, ...]
    inputs: Tensor  # (n, C, H, W)
    compared: tuple[int, ...]  # classes; none: the most probable ones of each photograph
    _made: dict[int, Arrays] = field(default_factory=dict)

    @classmethod
    def named(cls, work: Work, names: Sequence[str], between: Sequence[str]) -> Photographs:
        """Read image files; ``between`` names the classes that are compared."""
        data = photographs(names, work.split.data)
        compared = chosen_classes(between, list(work.subject.classes), "--between") if between else ()
        return cls(work, data, tuple(map(stem, names)), stack_images(data, range(len(names))), compared)

    def __len__(self) -> int:
        return len(self.stems)

    def of(self, i: int) -> Arrays:
        """Return what is known of the ``i``-th photograph.

        ``probabilities`` (classes,); the ``compared`` classes (k,); maps (k, H, W) under the name of each method, and
        ``why/METHOD`` where there are none; ``layers`` and ``columns`` (c,) of the channels that contribute most to the
        first class, with ``contributions`` and ``heatmaps`` (c, H, W), or ``why/channels``; ``near`` and ``distances``;
        and for each pictured layer with maps ``LAYER/columns`` and ``LAYER/maps`` of its most active channels.
        """
        if i in self._made:
            return self._made[i]
        settings = {
            "pixels": digest(self.inputs[i].numpy().tobytes().hex()),
            "compared": list(self.compared),
            "layers": [site.name for site in self.work.layers],
            "k": self.work.settings.neighbours,
            "near": "others",  # an earlier version counted the photograph itself
        }
        self._made[i] = self.work.parts.get(f"photograph {self.stems[i]}", settings, lambda: self._look(i))
        return self._made[i]

    def _look(self, i: int) -> Arrays:
        subject = self.work.subject
        image = self.inputs[i : i + 1].to(subject.device)
        with torch.inference_mode():
            logits = forward_logits(subject.model, image, subject.output)
        probabilities: Float64 = logits[0].double().softmax(0).cpu().numpy()
        compared = list(self.compared or np.argsort(-probabilities, kind="stable")[:_COMPARED].tolist())
        arrays: Arrays = {"probabilities": probabilities, "compared": np.array(compared, np.int64)}
        both = image.repeat(len(compared), 1, 1, 1)
        for method in (name for names in METHODS.values() for name in names):
            self._try(arrays, method, partial(self._maps, both, compared, method))
        self._try(arrays, "channels", partial(self._channels, image, int(probabilities.argmax())))
        return arrays | self._active(image) | self._near(i, image)

    @staticmethod
    def _try(arrays: Arrays, name: str, make: Callable[[], Arrays]) -> None:
        """Keep what is made, or why this network has it not."""
        try:
            arrays |= make()
        except InterpNetError as error:
            arrays[f"why/{name}"] = np.array(str(error))

    def _maps(self, images: Tensor, classes: list[int], method: str) -> Arrays:
        subject = self.work.subject
        options: dict[str, Any] = {}
        if method == "occlusion":
            # Its passes are most of a photograph's time: fewer than by default, whose patches overlap by half.
            patch = max(1, min(images.shape[2:]) // _PATCHES_ACROSS)
            options = {"patch": patch, "stride": max(1, 3 * patch // 4)}
        maps = attribute(subject.model, images, classes, method, max_batch=_MAX_BATCH, output=subject.output, **options)
        return {method: maps.detach().cpu().float().numpy()}

    def _channels(self, image: Tensor, predicted: int) -> Arrays:
        subject = self.work.subject
        found = explain(
            subject.model, image, k=_CHANNELS, classes=[predicted], output=subject.output, trace=subject.trace
        )
        channels = found.channels[0]
        return {
            "layers": np.array([channel.layer for channel in channels], np.str_),
            "columns": np.array([channel.index for channel in channels], np.int64),
            "contributions": np.array(found.responses[0], np.float64),
            "heatmaps": found.heatmaps[0, : len(channels)].detach().cpu().float().numpy(),
        }

    def _active(self, image: Tensor) -> Arrays:
        layers = [site.name for site in self.work.layers if len(site.map_shape) == 2 and min(site.map_shape) > 1]
        if not layers:
            return {}
        subject = self.work.subject
        found = activation_maps(subject.model, image, layers, output=subject.output, trace=subject.trace)
        arrays: Arrays = {}
        for layer, maps in found.items():
            own = maps[0]
            columns = np.argsort(-own.reshape(len(own), -1).max(1), kind="stable")[:_ACTIVE]
            arrays |= {f"{layer}/columns": columns, f"{layer}/maps": own[columns]}
        return arrays

    def _near(self, i: int, image: Tensor) -> Arrays:
        """Return the rows of the nearest images; a photograph that is one of them is none of its neighbours."""
        subject = self.work.subject
        reading = self.work.reading()
        own = embed(
            subject.model,
            [image],
            str(reading["layer"]),
            output=subject.output,
            device=subject.device,
            total=1,
            progress=False,
        ).vectors[0]
        distances = np.linalg.norm(reading["vectors"].astype(np.float64) - own, axis=1)
        near: list[int] = []
        for row in np.argsort(distances, kind="stable").tolist():
            if len(near) == self.work.settings.neighbours:
                break
            (other,) = stack_images(self.work.split.data, [int(reading["indices"][row])])
            if not torch.equal(other, self.inputs[i]):
                near.append(row)
        return {"near": np.array(near, np.int64), "distances": distances[near]}

    @cached_property
    def patches(self) -> dict[Channel, np.ndarray]:
        """What the channels of all photographs answer to in the images: up to six pictures (n, h, w, 3) of each."""
        wanted: dict[Channel, None] = {}
        for i in range(len(self)):
            found = self.of(i)
            layers = found.get("layers", np.zeros(0, np.str_)).tolist()
            wanted |= {Channel(layer, int(c)): None for layer, c in zip(layers, found.get("columns", ()), strict=True)}
        if not wanted:
            return {}
        settings = {"channels": [[c.layer, c.index] for c in wanted], "norm": self.work.subject.config.norm}
        made = self.work.parts.get("photographs' patches", settings, lambda: self._patch(list(wanted)))
        return {c: made[f"{c.layer}/{c.index}"] for c in wanted if f"{c.layer}/{c.index}" in made}

    def _patch(self, channels: list[Channel]) -> Arrays:
        work = self.work
        sites = {channel: work.subject.trace[channel.layer] for channel in channels}
        layers = list({site.name: site for site in sites.values()}.values())
        found = read(work.subject, work.subject.batches(work.split, work.images), layers, len(work.images))
        peaks = {channel: found.peaks(channel.layer, channel.index, _LOOKED_AT) for channel in channels}
        peaks = {channel: own for channel, own in peaks.items() if len(own.indices)}
        made = average_at(work.split.data, {c: sites[c] for c in peaks}, peaks, keep=_PATCHES)
        return {
            f"{channel.layer}/{channel.index}": np.stack([enlarge(crop, _PATCH_SIZE) for crop in own.crops])
            for channel, own in made.items()
        }
