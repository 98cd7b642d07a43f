"""How a run draws its heatmaps: variants, the fallback where LRP has no rule, and settings of runs from before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_run import Tiny, read, through, tiny_session
from interpnet.pipelines.run.config import EARLIER, RULES, RunConfig
from interpnet.pipelines.run.notes import Notes
from interpnet.pipelines.run.settings import about
from interpnet.pipelines.stages import drawing, examples, explain

from interpnet.backward import RULES as KNOWN
from interpnet.errors import InterpNetError, ModelError
from interpnet.explanation import VARIANTS
from interpnet.explanation._starts import SEEDS
from interpnet.interpretation import CHOICES


def test_the_settings_offer_what_the_library_knows() -> None:
    assert set(RULES) == set(KNOWN)
    fields = RunConfig.__dataclass_fields__
    offered = {name: set(about(fields[name]).choices) for name in ("variant", "choose", "start")}
    assert offered == {"variant": set(VARIANTS), "choose": set(CHOICES), "start": set(SEEDS)}


class Waved(Tiny):
    """A network with a cosine, for which relevance has no rule."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.cos())


def test_a_network_that_relevance_cannot_pass_is_drawn_in_the_papers_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(tmp_path / "run")
    assert drawing.drawing(session).variant == "relevance"
    other = tiny_session(tmp_path / "other", examples=1, misclassified=0, methods=("gradient",), mu=1.5, repeats=1)

    def refusing(*args: Any, rule: str | None = None, **options: Any) -> None:
        if rule == "lrp_gamma":
            raise ModelError("the operator 'cos' (attention) has no rule")

    monkeypatch.setattr(drawing, "check_signals", refusing)
    explain.check_explain(other)
    through(other, "explain")
    note = "Heatmaps are drawn in the paper's variant (--variant paper): the operator 'cos' (attention) has no rule"
    assert note in other.run.stage("explain")["notes"]
    heading = read(other, "explanations/examples.json")
    assert (heading["variant"], heading["rule"], heading["resample"]) == ("paper", "guided", True)
    # A rule that was asked for is refused instead.
    asked = tiny_session(tmp_path / "asked", rule="lrp_gamma")
    with pytest.raises(ModelError, match=r"the stage explain cannot run: the operator 'cos'"):
        explain.check_explain(asked)


def test_a_network_with_an_operator_without_a_rule_is_named(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run")
    session.loaded.__dict__["model"] = Waved().eval()
    found = drawing.drawing(session)
    assert found.variant == "paper"
    assert "'cos'" in found.refused
    notes = Notes()
    assert examples.heading(session, [])["rule"] == "guided"
    assert notes.texts == []


class Certain(Tiny):
    """A network that ends with a cosine: relevance has no rule for what comes behind the channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).cos()


def test_where_relevance_cannot_start_at_the_output_signals_start_with_contributions(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", examples=1, misclassified=0, methods=("gradient",), mu=1.5, repeats=1)
    session.loaded.__dict__["model"] = Certain().eval()
    through(session, "explain")
    notes = session.run.stage("explain")["notes"]
    assert any(
        "Heatmaps start from contributions (--start contribution): rule='lrp_gamma' cannot be right" in note
        and "'cos'" in note
        for note in notes
    )
    heading = read(session, "explanations/examples.json")
    assert (heading["variant"], heading["rule"], heading["start"]) == ("relevance", "lrp_gamma", "contribution")
    assert heading["combination"] == "sum"
    # A start that was asked for is refused instead.
    asked = tiny_session(tmp_path / "asked", start="relevance", rule="lrp_gamma")
    asked.loaded.__dict__["model"] = Certain().eval()
    with pytest.raises(ModelError, match=r"'cos' .* has no rule; use seed='contribution'"):
        explain.check_explain(asked)


def test_every_option_reaches_the_heading(tmp_path: Path) -> None:
    chosen = {
        "choose": "all", "rule": "lrp_epsilon_plus_flat", "start": "ones", "resample": True, "smooth": 2.5,
        "saturate": 0.75, "reduction": "abs",
    }  # fmt: skip
    session = tiny_session(tmp_path / "run", **chosen)
    heading = examples.heading(session, [])
    assert {name: heading[name] for name in chosen} == chosen
    assert heading["variant"] == "relevance"
    plain = examples.heading(tiny_session(tmp_path / "plain"), [])
    assert (plain["rule"], plain["start"], plain["choose"]) == ("lrp_gamma", "relevance", "named")
    assert (plain["resample"], plain["saturate"], plain["reduction"]) == (False, 0.99, "sum")


def test_settings_of_runs_from_before_variants_do_not_stand_in_their_way(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        '[model]\nmodel = "a"\n[data]\ndata = "b"\n'
        '[explain]\nrectifier = "guided"\nresample = true\nreduction = "max"\n'
    )
    old = RunConfig.load(path, missing=EARLIER)
    assert (old.variant, old.rectifier, old.resample, old.reduction) == ("paper", None, None, "max")
    assert drawing.key_settings(old) == {
        "examples": 2, "misclassified": 10, "k": 3, "max_channels": 12, "top": 100, "by": None, "rectifier": "guided",
        "resample": True, "reduction": "max", "methods": ["gradient", "guided", "gradcam++"],
    }  # fmt: skip
    assert "variant" in drawing.key_settings(old.override({"variant": "relevance"}))
    new = old.override({"smooth": 1.0})
    assert drawing.key_settings(new)["smooth"] == 1.0
    # A file written by hand says what it says.
    assert RunConfig.load(path).rectifier == "guided"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"rule": "lrp"}, r"--rule is 'lrp'; expected guided or .* or deep_taylor"),
        ({"rule": "guided", "rectifier": "gradient"}, r"--rule is 'guided' and --rectifier 'gradient'"),
        ({"saturate": 0.0}, r"--saturate is 0.0; expected a number above 0 and at most 1"),
        ({"saturate": 1.5}, r"--saturate is 1.5; expected a number above 0 and at most 1"),
        ({"smooth": -1.0}, r"--smooth is -1.0; expected a number of at least 0"),
        ({"variant": "new"}, r"--variant is 'new'; expected relevance or paper"),
        ({"start": "map"}, r"--start is 'map'; expected activation or contribution or relevance or ones or maximum"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(InterpNetError, match=match):
        RunConfig(**settings)
