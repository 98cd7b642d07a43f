"""Signals: one forward pass of a batch under the backward rules, then passes from chosen maps back to the image.

Images do not influence each other, so one backward pass serves one start of every image of a batch, in whatever
layers these lie. Source: Oramas et al., ICLR 2019, section 3.2; docs/method.md, section 5.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from interpnet.backward import LRP_RULES, RECTIFIER_RULES, RULES, Passes, RuleReport, Rules, rules_of
from interpnet.engine import (
    Channel,
    Instrument,
    Output,
    RunError,
    Site,
    check_gradient_reaches,
    check_images,
    evaluating,
    forward_logits,
    instrument,
    stop_forward,
    stoppable,
    times_written,
    unwrap,
)
from interpnet.errors import DataError, InterpNetError, LayerError
from interpnet.explanation._starts import OUTPUT, SEEDS, Picks, deepest_first, seeds_of, sites_in
from interpnet.support.checks import one_of


@dataclass(frozen=True)
class Options:
    """How signals are made; the parameters are those of :func:`interpnet.explanation.channel_heatmap`."""

    rule: str | None = None
    rectifier: str | None = None
    resample: bool | None = None
    resample_pool: bool = False
    seed: str = "activation"
    output: Output | None = None

    def __post_init__(self) -> None:
        one_of(self.seed, "seed", SEEDS)
        if self.rectifier is not None:
            one_of(self.rectifier, "rectifier", RECTIFIER_RULES)
        if self.rule is not None:
            one_of(self.rule, "rule", RULES)
            if self.rectifier is not None:
                raise InterpNetError(
                    f"rule={self.rule!r} and rectifier={self.rectifier!r} both came; rectifier is the older name of "
                    "rule, so give rule alone"
                )
        if self.resample_pool and self.rule in LRP_RULES:
            raise InterpNetError(
                f"resample_pool=True came with rule={self.rule!r}; LRP has a rule of its own for pooling, so leave it "
                "out, or use rule='guided'"
            )
        if self.seed == "relevance" and self.chosen not in LRP_RULES:
            raise InterpNetError(
                f"seed='relevance' came with rule={self.chosen!r}, which sends no relevance; use "
                "seed='contribution', or a rule of LRP such as rule='lrp_gamma'"
            )

    @property
    def chosen(self) -> str:
        """Return the rule, by whichever name it was given."""
        return self.rule or self.rectifier or "guided"

    @property
    def resampled(self) -> bool:
        """Return whether strided convolutions are resampled, by default as the paper's rules are and LRP's are not."""
        if self.resample is None:
            return self.chosen in RECTIFIER_RULES
        return self.resample


@dataclass(frozen=True)
class Signals:
    """Raw signals at the image, with what made them."""

    signals: Tensor  # (B, k, C, H, W): zero where an image has fewer than k starts
    logits: Tensor | None  # (B, classes): None where the network was stopped before its output
    report: RuleReport  # which rectifiers were overridden
    # (B, k): by LRP's rules, how much of what each start began with biases and stabilisers took; else None.
    absorbed: Tensor | None = None


@dataclass(frozen=True)
class Forward:
    """What one forward pass left behind."""

    leaf: Tensor  # the images, as the leaf of the graph
    maps: dict[str, Tensor]  # at which signals can start: those of the sites, and the output
    overwritten: Set[str]  # maps that a later in-place operator changed
    # Where in the graph the sites' maps were made, before any change, and those that are views: the network may go on
    # with the whole, whose relevance does not come by the view.
    edges: Mapping[str, GradientEdge]
    views: Set[str]
    rules: Rules


@dataclass(frozen=True)
class SignalRun:
    """One batch through one network: :meth:`forward` first, then :meth:`send_back` from the channels chosen.

    ``images`` (B, C, H, W) are as the model wants them and stay as they are. ``sites`` are those at which channels may
    be chosen, in the order of execution; with ``stop`` the network is stopped after the last of them. ``counts`` asks
    what layers keep of LRP's relevance, which costs time.
    """

    model: nn.Module
    images: Tensor
    sites: Mapping[str, Site]
    options: Options
    stop: bool = False
    counts: bool = False

    def forward(
        self,
        *instruments: Instrument,
        copies: Collection[str] = (),
        views: Collection[str] = (),
        apart: Collection[str] | None = None,
    ) -> Forward:
        """Run the network once and keep the maps of the sites, as copies where ``copies`` names them.

        The network goes on with a copy of each map that ``views`` names, so that relevance comes by it.

        ``instruments``: more to do on the way, such as to read the scores by which channels are chosen. With ``apart``
        the ordinary gradient can be sent back too, and be read at the maps of the layers that it names.
        """
        # A caller in inference mode, or without gradients, gets the same signals.
        with torch.inference_mode(False), torch.enable_grad():
            run = partial(self._forward, instruments=instruments, copies=copies, views=views, apart=apart)
            x = check_images(self.images).detach()
            if x.dim() == 4 and any(isinstance(m, nn.Conv2d) for m in self.model.modules()):
                try:
                    return run(x.clone(memory_format=torch.channels_last))  # fastest
                except RunError as error:
                    # The network's own code views a map as if it were contiguous, so it gets contiguous images.
                    if "view size is not compatible" not in str(error.__cause__):
                        raise
            return run(x.clone(memory_format=torch.contiguous_format))

    def _forward(
        self,
        x: Tensor,
        instruments: Sequence[Instrument],
        copies: Collection[str],
        views: Collection[str],
        apart: Collection[str] | None,
    ) -> Forward:
        model = unwrap(self.model)
        how = self.options
        x.requires_grad_()
        rules = rules_of(
            how.chosen,
            x,
            resample=how.resampled,
            resample_pool=how.resample_pool,
            passes=Passes(with_gradient=apart is not None, counts=self.counts),
            apart=apart or (),
        )
        maps: dict[str, Tensor] = {}
        versions: dict[str, int] = {}
        edges: dict[str, GradientEdge] = {}

        def copied(name: str, value: Tensor) -> Tensor:
            value = value.clone()
            if value.requires_grad:
                edges[name] = get_gradient_edge(value)
            return value

        def keep(name: str, value: Tensor) -> None:
            if value.requires_grad and name not in views:
                edges[name] = get_gradient_edge(value)
            maps[name] = value.clone() if name in copies else value
            versions[name] = times_written(maps[name])
            if self.stop and len(maps) == len(self.sites):
                stop_forward()

        keepers = {name: site.reading(partial(keep, name)) for name, site in self.sites.items()}
        with evaluating(model, frozen=True), rules.on(model), ExitStack() as stack, stoppable():
            copiers = {name: self.sites[name].editing(partial(copied, name)) for name in views}
            for one in (*instruments, Instrument(reads=keepers, edits=copiers)):
                stack.enter_context(instrument(model, one))
            maps[OUTPUT] = forward_logits(model, x, how.output)
        overwritten = {name for name, version in versions.items() if times_written(maps[name]) != version}
        ran = {name: site for name, site in self.sites.items() if name in maps}
        seen = {name for name, site in ran.items() if site.view is not None or maps[name]._is_view()}  # noqa: SLF001
        return Forward(x, maps, overwritten, edges, seen, rules)

    def check_gradients(self, done: Forward, names: Collection[str]) -> None:
        """Raise :class:`ModelError` for a map among ``names`` from which no gradient leads to the images."""
        for name in sorted(names):
            what = f"layer {name!r}" if name else "the logits"
            check_gradient_reaches(self.model, self.images, what, found=done.maps[name].requires_grad)

    def relevance(self, done: Forward, names: Collection[str], start: Tensor) -> dict[str, Tensor]:
        """Return the relevance that ``start`` (B, C), at the logits, sends to the maps of some sites.

        A map that none comes to is left out. What the layers' rules computed serves the signals that follow.
        """
        done.rules.check(done.maps[OUTPUT])
        edges = {name: done.edges[name] for name in names if name in done.edges}
        if not edges:
            return {OUTPUT: start}
        done.rules.passes.again = True
        with torch.inference_mode(False):
            found = torch.autograd.grad(
                done.maps[OUTPUT], list(edges.values()), start, retain_graph=True, allow_unused=True
            )
        if done.rules.absorbed is not None:
            done.rules.absorbed.zero_()
        told = {name: value for name, value in zip(edges, found, strict=True) if value is not None}
        return told | {OUTPUT: start}

    def send_back(self, done: Forward, picks: Picks, k: int = 1, told: Mapping[str, Tensor] | None = None) -> Signals:
        """Return the signals of each image's starts, by one backward pass for each rank of depth; uses ``done`` up.

        There are at least ``k`` places for each image, zero where it has fewer starts. ``told`` is what the log-odds
        say about the maps, for the seeds that ask for it; where they say nothing of a map, it is zero.
        """
        needed = sites_in(picks)
        if needed & done.overwritten:
            # A second forward pass keeps copies of the maps that a later operator changed.
            done = self.forward(copies=needed & done.overwritten)
        self.check_gradients(done, needed)
        done.rules.check(*[done.maps[name] for name in sorted(needed)])
        logits = done.maps[OUTPUT].detach() if OUTPUT in done.maps else None
        for name in done.maps.keys() - needed:
            del done.maps[name]  # the backward passes need the memory
        x = done.leaf
        ranks = max((len(row) for row in picks), default=0)
        signals = x.new_zeros((x.shape[0], max(k, ranks), *x.shape[1:]))
        order = deepest_first(picks, {name: i for i, name in enumerate(self.sites)})
        passes = done.rules.passes
        taken = done.rules.absorbed
        absorbed = None
        if taken is not None and self.counts:
            absorbed = taken.new_zeros(signals.shape[:2])
        for rank in range(ranks):
            # Which of its starts each image sends back now; some images have fewer starts.
            now = {image: numbers[rank] for image, numbers in enumerate(order) if rank < len(numbers)}
            starts = {image: picks[image][number] for image, number in now.items()}
            seeds = seeds_of(starts, done.maps, self.sites, self.options.seed, told)
            outputs = [done.maps[name] for name in seeds]
            more = rank + 1 < ranks  # the last pass may free the graph
            passes.again = ranks > 1
            with torch.inference_mode(False):
                (gradient,) = torch.autograd.grad(
                    outputs, x, list(seeds.values()), retain_graph=more, allow_unused=True
                )
            if gradient is not None:  # None: no start depends on the images
                images = list(now)
                signals[images, list(now.values())] = gradient[images]
                if taken is not None and absorbed is not None:
                    absorbed[images, list(now.values())] = taken[images]
                    taken.zero_()
        bad = (~torch.isfinite(signals)).flatten(1).any(1)
        if bool(bad.any()):
            first = int(bad.nonzero()[0, 0])
            raise DataError(
                f"the signal of image {first} of the batch is NaN or infinite; look at that image, and at weights that "
                "overflow"
            )
        return Signals(signals, logits, done.rules.report, absorbed)


def backpropagate(model: nn.Module, images: Tensor, sites: Sequence[Site], picks: Picks, **options: Any) -> Signals:
    """Send the maps of ``picks``, up to k starts for each image, back to the image: one forward and k backward passes.

    ``sites`` are those at which starts may lie, in the order of execution. The images (B, C, H, W) and the options are
    as in :func:`interpnet.explanation.channel_heatmap`.
    """
    traced = {site.name: site for site in sites}
    needed = sites_in(picks)
    unknown = needed - traced.keys() - {OUTPUT}
    if unknown:
        raise LayerError(f"layers {sorted(unknown)} were not traced; expected some of {sorted(traced)}")
    used = {name: site for name, site in traced.items() if name in needed}
    stop = OUTPUT not in needed  # what lies behind need not run
    run = SignalRun(model, images, used, Options(**options), stop, counts=True)
    return run.send_back(run.forward(), picks)


def check_signals(model: nn.Module, images: Tensor, sites: Sequence[Site], **options: Any) -> None:
    """Raise the :class:`ModelError` that a signal from any of ``sites`` would raise, by one image there and back.

    Examples
    --------
    >>> from interpnet.engine import find_sites
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    >>> images = torch.rand(1, 1, 5, 5)
    >>> check_signals(net, images, find_sites(net, images).select())
    """
    run = SignalRun(model, images[:1], {site.name: site for site in sites}, Options(**options))
    done = run.forward()
    run.check_gradients(done, [site.name for site in sites])
    if run.options.seed == "relevance":
        run.relevance(done, run.sites, torch.ones_like(done.maps[OUTPUT]))
    run.send_back(done, [[Channel(sites[-1].name, 0)]])
