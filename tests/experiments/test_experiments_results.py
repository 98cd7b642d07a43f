"""RESULTS.md: never stale, nothing missing, and what does not hold comes first."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from experiments import results_page
from experiments.common.claims import KEYS, VERDICTS, Claim, verdict_of
from experiments.common.maps import PAPER
from experiments.localisation import claims as localisation
from experiments.sanity import claims as sanity

FOLDERS = Path(results_page.__file__).parent
#: They measure tools and pictures; no claim of the paper or its reviewers is theirs.
WITHOUT_CLAIMS = {"attribution_table", "audits", "benchmarks", "common", "house", "methods", "reliability"}


@pytest.fixture(scope="module")
def found() -> results_page.Found:
    """Return every claim; some are bootstraps of a second."""
    return results_page.collected()


def test_the_page_is_what_the_results_say_now(found: results_page.Found) -> None:
    text = results_page.PAGE.read_text()
    assert text == results_page.page(found), "run python -m experiments.results_page"
    assert len(text.partition("## How large")[0].splitlines()) <= 100  # a page; the rest is below


def test_every_experiment_has_its_claims_on_the_page(found: results_page.Found) -> None:
    experiments = {path.parent.name for path in FOLDERS.glob("*/__init__.py")} - WITHOUT_CLAIMS
    assert {folder for folder, _ in found} == experiments
    for folder in experiments:
        assert (FOLDERS / folder / "README.md").is_file()
        claims = import_module(f"experiments.{folder}.claims").claims()
        assert sorted((c for f, c in found if f == folder), key=str) == sorted(claims, key=str)


def test_every_claim_has_a_known_verdict_and_stands_in_the_order_of_verdicts_and_keys(
    found: results_page.Found,
) -> None:
    claims = [claim for _, claim in found]
    assert all(claim.verdict in VERDICTS for claim in claims)
    assert all(claim.figure and len(claim.figure) < 400 for claim in claims)
    assert all(claim.short and len(claim.short) < 45 for claim in claims)
    verdicts = ["does not hold", "holds in part", "holds", "open"]
    places = [(verdicts.index(claim.verdict), KEYS.index(claim.key)) for claim in claims]
    assert places == sorted(places)


def claim(key: str, verdict: str, reason: str = "", **more: Any) -> Claim:
    return Claim(key, f"{key} | says\nso", "1 of 2", "the figure", verdict, reason, **more)


def test_what_does_not_hold_comes_first_and_a_shared_reason_stands_once() -> None:
    text = results_page.page(
        [
            ("one", claim("E1", "holds", "kept back")),
            ("two", claim("E2", "does not hold", "because", tested="tried")),
            ("three", claim("S1", "holds in part", "because")),
            ("four", claim("V", "holds in part", "why")),
        ]
    )
    table, _, below = text.partition("## How large")
    reasons, _, folded = below.partition("## Every claim in full")
    rows = [line for line in table.splitlines() if line.startswith("| [")]
    assert rows == [
        "| [E2](experiments/two/README.md) | E2 \\| says so | 1 of 2 | (1) |",
        "| [S1](experiments/three/README.md) | S1 \\| says so | 1 of 2 | (1) |",
        "| [V](experiments/four/README.md) | V \\| says so | 1 of 2 | (2) |",
        "| [E1](experiments/one/README.md) | E1 \\| says so | 1 of 2 |",
    ]
    assert [line for line in reasons.splitlines() if line[:2] in {"1.", "2."}] == ["1. Because", "2. Why"]
    assert "Not measured yet: A1, E3, E4, M1, M2, Q1, Q2, Q3, Q4, Q5, R1, S2, S3, S4, S5, S6, C1, C2, C3, C4." in table
    assert folded.count("<details>") == folded.count("the figure") == 4
    assert "Most likely reason (1) and its test: tried" in folded
    assert folded.count("Most likely reason (1)") == 2
    assert text.lower().count("because") == 1
    assert "kept back" not in text


def test_the_figure_has_every_effect_and_shows_it_in_the_direction_of_its_claim(
    found: results_page.Found, tmp_path: Path
) -> None:
    count = results_page.forest(found, tmp_path / "forest.png")
    assert count == sum(len(one.effects) for _, one in found) > 60
    assert (tmp_path / "forest.png").stat().st_size > 10_000
    for _, one in found:
        # The rules of S1's two-sided claims are not those of their intervals.
        if one.effects and one.key not in {"S1", "E1"}:
            wins = sum(effect.above for _, effect in one.effects)
            if "No method beats" in one.claim or "at least level" in one.claim:
                wins = sum(not effect.below for _, effect in one.effects)
            expected = {"holds": wins == len(one.effects), "does not hold": wins == 0}
            assert expected.get(one.verdict, 0 < wins < len(one.effects)), one.claim


@pytest.mark.parametrize(
    "one",
    [
        claim("E9", "holds"),
        claim("E1", "yes"),
        claim("E1", "does not hold"),
        claim("E1", "holds in part", " "),
    ],
)
def test_a_claim_that_the_page_cannot_show_is_refused(one: Claim) -> None:
    with pytest.raises(ValueError, match=r"experiments\.some\.claims"):
        results_page.checked("some", one)


def test_a_verdict_counts_the_cases_that_show_it() -> None:
    assert [verdict_of(c) for c in ([True, True], [False, True], [False, False], [])] == list(VERDICTS)


def line(kind: str, seed: int, **iou: float) -> dict[str, object]:
    architecture, variant = kind.split()
    maps = {name.replace("_", " "): {"iou": value} for name, value in iou.items()}
    return {"architecture": architecture, "variant": variant, "seed": seed, "maps": maps}


def test_the_method_is_held_against_the_best_other_of_each_kind_over_pairs() -> None:
    one = "smallcnn single-6c"
    two = "resnet18 single-6c"
    lines = [
        line(one, 0, channels_guided_resampled=0.30, guided=0.20, gradcam=0.10, lime=0.35, edge=0.9),
        line(one, 1, channels_guided_resampled=0.32, guided=0.20, gradcam=0.10, lime=0.35, edge=0.9),
        line(two, 0, channels_guided_resampled=0.10, guided=0.10, gradcam=0.20, lime=0.05, edge=0.9),
        line(two, 1, channels_guided_resampled=0.20, guided=0.10, gradcam=0.10, lime=0.05, edge=0.9),
        line("resnet18 double-12c", 0, channels_guided_resampled=0.10, guided=0.0, gradcam=0.0, lime=0.0, edge=0.0),
    ]
    found = localisation.gains(lines, PAPER, localisation.RIVALS)
    assert list(found) == [one, two]  # one network is no sample
    best, (mean, low, high) = found[one]
    half = 12.706 * 1.0  # Student's t for two networks, times a standard error of one point
    assert (best, mean, low, high) == ("guided", *(pytest.approx(v, abs=0.01) for v in (11.0, 11 - half, 11 + half)))
    best, (mean, *_) = found[two]
    assert (best, mean) == ("gradcam", pytest.approx(0.0))
    assert localisation.gains(lines, PAPER)[one][0] == "lime"
    assert [interval.above for _, interval in found.values()] == [False, False]


def test_a_subject_of_e4_counts_where_all_it_is_held_against_was_measured() -> None:
    names = (PAPER, sanity.LOGIT, "edge", "random", "center")
    whole = [{"subject": "a", "seed": 0, "method": m, "insertion": 0.5} for m in names]
    part = [{"subject": "a", "seed": 1, "method": PAPER, "insertion": 0.7}]
    found = sanity.networks(whole + part)
    assert list(found) == [("a", 0)]
    assert sanity.by_subject({**found, ("a", 2): found["a", 0]}, lambda n: n["edge"]["insertion"]) == "a 0.50"
