"""RESULTS.md: never stale, nothing missing, and what does not hold comes first."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from experiments import results_page
from experiments.common.claims import KEYS, VERDICTS, Claim, verdict_of
from experiments.common.maps import PAPER
from experiments.localisation import claims as localisation
from experiments.sanity import claims as sanity

FOLDERS = Path(results_page.__file__).parent
#: They measure tools and pictures; no claim of the paper or its reviewers is theirs.
WITHOUT_CLAIMS = {"audits", "benchmarks", "methods"}


def test_the_page_is_what_the_results_say_now() -> None:
    text = results_page.PAGE.read_text()
    assert text == results_page.page(results_page.collected()), "run python -m experiments.results_page"
    assert len(text.splitlines()) <= 60


def test_every_experiment_has_its_claims_on_the_page() -> None:
    experiments = {path.parent.name for path in FOLDERS.glob("*/__init__.py")} - WITHOUT_CLAIMS
    found = results_page.collected()
    assert {folder for folder, _ in found} == experiments
    for folder in experiments:
        assert (FOLDERS / folder / "README.md").is_file()
        assert [c for f, c in found if f == folder] == sorted(
            import_module(f"experiments.{folder}.claims").claims(), key=lambda c: KEYS.index(c.key)
        )


def test_every_claim_has_a_known_verdict_and_stands_in_the_order_of_the_keys() -> None:
    found = [claim for _, claim in results_page.collected()]
    assert all(claim.verdict in VERDICTS for claim in found)
    assert all(claim.figure and len(claim.figure) < 400 for claim in found)
    places = [KEYS.index(claim.key) for claim in found]
    assert places == sorted(places)


def test_what_does_not_hold_comes_first_with_its_reason() -> None:
    text = results_page.page(
        [
            ("one", Claim("E1", "this holds", "1", "holds")),
            ("two", Claim("E2", "this | does\nnot", "0", "does not hold", "because")),
            ("three", Claim("S1", "this does in part", "0", "holds in part", "why")),
        ]
    )
    assert text.index("this \\| does not | 0 | does not hold | because |") < text.index("this does in part")
    assert text.index("this does in part") < text.index("[E1](experiments/one/README.md) | this holds | 1 | holds |")
    assert "Not measured yet: E3, E4, Q1, Q2, Q3, Q4, Q5, V." in text


@pytest.mark.parametrize(
    "claim",
    [
        Claim("E9", "c", "f", "holds"),
        Claim("E1", "c", "f", "yes"),
        Claim("E1", "c", "f", "does not hold"),
        Claim("E1", "c", "f", "holds in part", " "),
    ],
)
def test_a_claim_that_the_page_cannot_show_is_refused(claim: Claim) -> None:
    with pytest.raises(ValueError, match=r"experiments\.some\.claims"):
        results_page.checked("some", claim)


def test_a_verdict_counts_the_cases_that_show_it() -> None:
    assert [verdict_of(c) for c in ([True, True], [False, True], [False, False], [])] == list(VERDICTS)


def line(kind: str, seed: int, **iou: float) -> dict[str, object]:
    architecture, variant = kind.split()
    maps = {name.replace("_", " "): {"iou": value} for name, value in iou.items()}
    return {"architecture": architecture, "variant": variant, "seed": seed, "maps": maps}


def test_the_method_is_held_against_the_best_other_of_each_kind_over_pairs() -> None:
    one, two = "smallcnn single-6c", "resnet18 single-6c"
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
    assert localisation.above(found) == [False, False]


def test_a_subject_of_e4_counts_where_all_it_is_held_against_was_measured() -> None:
    names = (PAPER, sanity.LOGIT, "edge", "random", "center")
    whole = [{"subject": "a", "seed": 0, "method": m, "insertion": 0.5} for m in names]
    part = [{"subject": "a", "seed": 1, "method": PAPER, "insertion": 0.7}]
    found = sanity.networks(whole + part)
    assert list(found) == [("a", 0)]
    assert sanity.by_subject({**found, ("a", 2): found["a", 0]}, lambda n: n["edge"]["insertion"]) == "a 0.50"
