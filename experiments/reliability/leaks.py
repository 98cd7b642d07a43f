"""Call each function many times, also with failures in the midst: memory, hooks, modes and files stay as they were."""

from __future__ import annotations

import gc
import os
import random as of_python
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.tables import Line
from experiments.reliability.campaign import Campaign, Draw, verdict
from experiments.reliability.processes import isolated, settle

_CALLS = 60
_WARM = 15  # calls after which caches are filled
_GROWTH = 3 * 2**20  # bytes: 45 calls that each keep one 64 KiB tensor


class _PlannedError(RuntimeError):
    """What a network raises on purpose."""


def calls() -> dict[str, Callable[[Any], Any]]:
    """Return the functions to call, by name; each takes a subject with a network, images, batches and so on."""
    import interpnet as ip

    def ablated(s: Any) -> None:
        with ip.ablate(s.net, s.channels):
            s.net(s.images)

    def rules(s: Any) -> None:
        with ip.backward_rules(s.net):
            s.net(s.images.clone().requires_grad_()).sum().backward()

    def study(s: Any) -> Any:
        return ip.ablation_study(s.net, s.batches, s.found, repeats=1, progress=False)

    return {
        "find_sites": lambda s: ip.find_sites(s.net, s.images),
        "collect_scores": lambda s: ip.collect_scores(s.net, s.batches, progress=False),
        "ablate": ablated,
        "ablation_study": study,
        "backward_rules": rules,
        "explain": lambda s: ip.explain(s.net, s.images, s.found, variant="paper"),
        "channel_heatmap": lambda s: ip.channel_heatmap(s.net, s.images, s.channels[0]),
        "channel_signal": lambda s: ip.channel_signal(s.net, s.images, s.channels[0]),
        "attribute gradient": lambda s: ip.attribute(s.net, s.images, 1, "gradient"),
        "attribute gradcam++": lambda s: ip.attribute(s.net, s.images, 1),
        "attribute lrp_epsilon": lambda s: ip.attribute(s.net, s.images, 1, "lrp_epsilon"),
        "attribute deeplift": lambda s: ip.attribute(s.net, s.images, 1, "deeplift"),
        "attribute integrated_gradients": lambda s: ip.attribute(s.net, s.images, 1, "integrated_gradients", steps=4),
        "attribute occlusion": lambda s: ip.attribute(s.net, s.images, 1, "occlusion"),
        "average_visualization": lambda s: ip.average_visualization(
            s.net, list(zip(s.images, s.labels, strict=True)), s.table, s.channels[0], top=2, progress=False
        ),
        "activation_maps": lambda s: ip.pictures.activation_maps(s.net, s.images, "1"),
        "embed": lambda s: ip.pictures.embed(s.net, s.batches, progress=False),
        "maximise": lambda s: ip.pictures.maximise(s.net, s.channels[:1], (3, 12, 12), steps=2),
        "deletion": lambda s: ip.evaluate.deletion(s.net, s.images, s.heatmaps, 1, steps=4),
        "parameter_randomisation": lambda s: ip.evaluate.parameter_randomisation(
            s.net, s.images, lambda net, images: ip.attribute(net, images, 1, "gradient"), stages=1, window=3
        ),
        "interpret": lambda s: ip.interpret(s.table, mu=2.0),
        "stability_selection": lambda s: ip.stability_selection(
            s.table.X, s.table.labels, mu=2.0, n_pairs=2, n_blocks=4, progress=False
        ),
    }


class Subject:
    """A network that fails in the midst of a pass where it is told to, with images and what is made of them."""

    def __init__(self) -> None:
        import torch
        from torch import nn

        import interpnet as ip

        left = [0]  # the pass that fails, counted from the next; 0: none

        class Failing(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                left[0] -= 1
                if left[0] == 0:
                    raise _PlannedError
                return x

        self.left = left  # not the module's own: some functions work on copies of the network
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
            Failing(),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ).eval()
        self.images = torch.rand(12, 3, 12, 12, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(12) % 3
        self.batches = [(self.images[i : i + 6], self.labels[i : i + 6]) for i in (0, 6)]
        self.heatmaps = self.images.sum(1)
        self.table = ip.collect_scores(self.net, self.batches, progress=False)
        self.found = ip.interpret(self.table, mu=2.0)
        self.channels = [ip.Channel("1", 0), ip.Channel("4", 2)]

    def state(self) -> dict[str, Any]:
        """Return what no call may change."""
        import torch
        from torch.overrides import _get_current_function_mode_stack

        hooks = sum(
            len(getattr(module, name))
            for module in self.net.modules()
            for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        )
        return {
            "hooks": hooks,
            "modes": len(_get_current_function_mode_stack()),  # type: ignore[no-untyped-call]
            "gradients on": torch.is_grad_enabled(),
            "training": [module.training for module in self.net.modules()],
            "weights": [float(one.detach().double().sum()) for one in self.net.state_dict().values()],
            "wants gradients": [one.requires_grad for one in self.net.parameters()],
            "gradients": [one.grad is None for one in self.net.parameters()],
            "images": float(self.images.double().sum()),
            "random numbers": int(torch.get_rng_state().long().sum()),
            "random numbers of numpy": str(np.random.get_state(legacy=False)),  # noqa: NPY002
            "random numbers of Python": of_python.getstate()[1][:3],
            "forward of its own": [name for name, one in self.net.named_modules() if "forward" in vars(one)],
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }


def resident() -> int:
    """Return the bytes of memory in use, on Linux."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def prepare(where: Path) -> Path:
    """Import what the calls need; forks then start at once."""
    calls()
    import interpnet as ip

    for room in (ip, ip.evaluate, ip.pictures):
        for name in room.__all__:
            getattr(room, name)
    settle()
    return where


def attempt(where: Path, draw: Draw) -> Line:
    """Call one function many times in a fork, with or without failures."""
    failing = draw.random.random() < 0.5
    name = draw.of(list(calls()))

    def many() -> dict[str, Any]:
        subject = Subject()
        call = calls()[name]
        before = subject.state()
        sizes = []
        handles = []
        for number in range(_CALLS):
            subject.left[0] = failing * (number % 4)
            try:
                call(subject)
            except Exception:
                # Whatever the network's own error has become on its way.
                if subject.left[0] != 0:
                    raise
            subject.left[0] = 0
            subject.net.zero_grad(set_to_none=name == "backward_rules")
            if number in {_WARM, _CALLS - 1}:
                sizes.append(resident())
                handles.append(len(list(Path("/proc/self/fd").iterdir())))
        after = subject.state()
        changed = [key for key in before if before[key] != after[key]]
        return {"changed": changed, "growth": sizes[-1] - sizes[0], "files": handles[-1] - handles[0]}

    what = f"{_CALLS} x {name}" + ", three of four failing" * failing
    ended, found = isolated(many, where)
    if found is None:
        return verdict(what, "internal error", ended.err)
    if found["changed"] or found["files"] > 0 or found["growth"] > _GROWTH:
        return verdict(what, "leak", str(found))
    return verdict(what, "flat")


CAMPAIGN = Campaign("every function called many times, also with failures in the midst", 46, prepare, attempt)
