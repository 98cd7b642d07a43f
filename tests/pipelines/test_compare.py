"""``interpnet compare`` and ``ip.compare``: what differs beyond chance between two runs, and what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.compared_runs import CLASSES, EACH, edit, run_of, write_scores
from helpers.report_fixture import class_names
from helpers.shortcut_findings import findings, write_shortcuts
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.comparing.change import of_errors, of_intervals
from interpnet.pipelines.report.load import clean
from scipy import stats

import interpnet as ip
from interpnet.ablation import Answers
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.interpretation import Interpretation

NAMES = class_names(CLASSES)
# As they stand on a page: without control characters.
SHOWN = [clean(name) for name in NAMES]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("before") / "run", both=True)


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The third class is recognised less often by 40 images, the fourth more often by 30, the fifth less by two."""
    return run_of(tmp_path_factory.mktemp("after") / "run", {2: 0.86, 3: 0.93, 4: 0.898}, seed=2, both=True)


@pytest.fixture(scope="module")
def found(before: Path, after: Path) -> ip.Comparison:
    return ip.compare(before, after)


def interval_of_a_paired_difference(gains: int, losses: int, n: int) -> tuple[float, float]:
    """Return mean and half width by hand: values of -1, 0 and 1, and one image more that may have changed."""
    mean = (gains - losses) / n
    variance = ((gains + losses) / n - mean**2) * n / (n - 1) / n
    parts = np.array([variance, 1 / (n * (n + 2))])
    freedom = parts.sum() ** 2 / (parts**2 / (n - 1)).sum()
    return mean, float(stats.t.ppf(0.975, freedom) * math.sqrt(parts.sum()))


def test_recalls_are_paired_by_image(found: ip.Comparison) -> None:
    recalls = found.recalls
    assert recalls is not None
    assert (recalls.paired, recalls.images) == (True, (CLASSES * EACH, CLASSES * EACH))
    by_name = {one.name: one.recall for one in recalls.classes}
    for c, gains, losses in ((2, 0, 40), (3, 30, 0), (4, 0, 2)):
        mean, half = interval_of_a_paired_difference(gains, losses, EACH)
        change = by_name[SHOWN[c]]
        assert change.change == pytest.approx(mean)
        assert (change.low, change.high) == pytest.approx((mean - half, mean + half))
    said = [by_name[name].said for name in SHOWN]
    assert said == ["within chance"] * 2 + ["lower", "higher"] + ["within chance"] * 4
    # Two images that are lost among a thousand: a test of signs says 1/4 on one side at best.
    assert by_name[SHOWN[4]].p >= 0.5


def test_the_whole_is_of_all_images(found: ip.Comparison) -> None:
    recalls = found.recalls
    assert recalls is not None
    assert recalls.accuracy is not None
    mean, half = interval_of_a_paired_difference(30, 42, CLASSES * EACH)
    assert recalls.accuracy.change == pytest.approx(mean)
    assert recalls.accuracy.high - mean == pytest.approx(half)
    assert recalls.accuracy.said == "within chance"
    assert recalls.log_odds is not None
    assert recalls.log_odds.change == pytest.approx(2 * mean)
    assert "no difference beyond chance" in found.headline[0]
    assert "1 is recognised less often" in found.headline[1]


def test_other_test_images_are_two_samples(before: Path, after: Path, tmp_path: Path) -> None:
    other = run_of(tmp_path / "run", {2: 0.86}, seed=2)
    edit(other, lambda manifest: manifest["data"]["test"].update(fingerprint="34" * 32))
    found = ip.compare(before, other)
    assert found.recalls is not None
    assert not found.recalls.paired
    assert any("The test images are others" in note for note in found.notes)
    change = found.recalls.classes[2].recall
    variance = (0.9 * 0.1 + 0.86 * 0.14) / (EACH - 1)
    # The interval of two shares, with one image more.
    half = stats.norm.ppf(0.975) * math.sqrt(variance + 1 / (EACH * (EACH + 2)))
    assert change.change == pytest.approx(-0.04)
    assert change.high - change.change == pytest.approx(half, rel=5e-3)


def test_a_run_of_an_earlier_version_is_not_paired(before: Path, tmp_path: Path) -> None:
    older = run_of(tmp_path / "run", {2: 0.86}, seed=2)
    for path in (older / "ablation").glob("*-answers.npz"):
        path.unlink()
    found = ip.compare(before, older)
    assert found.recalls is not None
    assert not found.recalls.paired
    assert any("An earlier version wrote B" in note for note in found.notes)


def test_classes_are_matched_by_name(before: Path, tmp_path: Path) -> None:
    """The same network, its outputs in the opposite order, without the last class and with another one."""
    other = run_of(tmp_path / "run", seed=3)
    names = [*reversed(NAMES[:-1]), "new"]
    path = other / "weights" / "interpretation.npz"
    named = Interpretation.load(path)
    order = [*reversed(range(CLASSES - 1)), CLASSES - 1]
    replace(named, classes=tuple(names), coef=named.coef[order], gaps=named.gaps[order]).save(path)
    study = json.loads((other / "ablation" / "ablation.json").read_text())
    study["classes"] = names
    (other / "ablation" / "ablation.json").write_text(json.dumps(study))
    kept = Answers.load(other / "ablation" / "ablation-answers.npz")
    labels = np.array(order)[kept.labels]
    Answers(kept.images, labels, kept.right, kept.log_odds).save(other / "ablation" / "ablation-answers.npz")
    found = ip.compare(before, other)
    assert found.classes == tuple(SHOWN[:-1])
    assert found.recalls is not None
    assert all(one.recall.change == 0 for one in found.recalls.classes)
    assert found.channels is not None
    assert all(channel.state == "kept" for one in found.channels.ways[0].classes for channel in one.channels)
    assert sum("Classes are compared that are in both runs" in note for note in found.notes) == 2


def test_channels_gained_and_lost(before: Path, tmp_path: Path) -> None:
    other = run_of(tmp_path / "run", seed=2)
    path = other / "weights" / "interpretation.npz"
    named = Interpretation.load(path)
    coef = named.coef.copy()
    lost = named.columns(0)[0]
    gained = np.flatnonzero(coef[0] == 0)[0]
    coef[0, [lost, gained]] = 0.0, 9.0
    replace(named, coef=coef).save(path)
    found = ip.compare(before, other)
    assert found.channels is not None
    (way,) = found.channels.ways
    one = way.classes[0]
    assert [(c.channel, c.weights[1]) for c in one.of("gained")] == [(named.channels[int(gained)], 9.0)]
    assert [c.channel for c in one.of("lost")] == [named.channels[int(lost)]]
    assert "scores are missing" in found.channels.why


@pytest.mark.parametrize("aligned", [True, False])
def test_numbers_of_channels_mean_the_same_where_they_answer_alike(aligned: bool, before: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [run_of(tmp_path / name, seed=seed) for seed, name in enumerate("ab")]
    m = len(Interpretation.load(runs[0] / "weights" / "interpretation.npz").channels)
    scores = rng.random((60, m))
    write_scores(runs[0], scores)
    write_scores(runs[1], scores + 0.05 * rng.random((60, m)) if aligned else rng.random((60, m)))
    found = ip.compare(*runs).channels
    assert found is not None
    assert found.correspond is aligned
    assert bool(found.ways[0].classes) is aligned
    assert ("compared by number" in found.why) is aligned
    assert found.matched == pytest.approx(1.0 if aligned else 0.05, abs=0.06)


def test_other_layers_are_compared_as_layers(before: Path, tmp_path: Path) -> None:
    other = run_of(tmp_path / "run", seed=2)
    path = other / "weights" / "interpretation.npz"
    named = Interpretation.load(path)
    sizes = ((("all", len(named.channels)),),)
    replace(named, channels=type(named.channels)(*sizes)).save(path)
    found = ip.compare(before, other).channels
    assert found is not None
    assert not found.correspond
    assert "other layers" in found.why
    assert [one.layer for one in found.ways[0].layers[1]] == ["all"]
    assert found.ways[0].layers[1][0].share == pytest.approx(1.0)


def test_suspicions_come_and_go(tmp_path: Path) -> None:
    a, b = (run_of(tmp_path / name, seed=seed) for seed, name in enumerate("ab"))
    whole = findings(NAMES)
    fine = replace(whole.classes[0], share=0.1, low=0.05, high=0.2)
    new = replace(whole.classes[2], part="a patch", share=0.8, low=0.7, high=0.9)
    write_shortcuts(a, NAMES, whole)
    write_shortcuts(b, NAMES, replace(whole, classes=(fine, whole.classes[1], new, *whole.classes[3:])))
    looks = ip.compare(a, b).looks
    assert looks is not None
    gone = next(one for one in looks if one.name == NAMES[0])
    assert (gone.verdict, gone.share.said) == ("suspicious in A alone", "lower")
    assert gone.share.change == pytest.approx(0.1 - 0.83)
    # Zou and Donner: the distances to the ends that face each other.
    assert gone.share.low == pytest.approx(-0.73 - math.hypot(0.1 - 0.05, 0.91 - 0.83))
    came = next(one for one in looks if one.name == whole.classes[2].name and one.part == "a patch")
    assert came.verdict == "suspicious in B alone"
    assert ip.compare(a, tmp_path / "b").headline[2].startswith("New in B")


def test_a_share_that_chose_its_part_is_not_tested(tmp_path: Path) -> None:
    a, b = (run_of(tmp_path / name, seed=seed) for seed, name in enumerate("ab"))
    whole = findings(NAMES)
    write_shortcuts(a, NAMES, whole)
    unconfirmed = replace(whole.classes[0], share=0.1, low=0.05, high=0.2, confirmed=False)
    write_shortcuts(b, NAMES, replace(whole, classes=(unconfirmed, *whole.classes[1:])))
    looks = ip.compare(a, b).looks
    assert looks is not None
    assert looks[0].share.said == "not tested"


def test_what_did_not_end_is_left_out(before: Path, tmp_path: Path) -> None:
    other = run_of(tmp_path / "run", seed=2)
    edit(other, lambda manifest: manifest["stages"]["ablate"].update(state="interrupted"))
    found = ip.compare(before, other)
    assert found.recalls is None
    assert any("In B the stage ablate did not end" in note for note in found.notes)
    assert "one of the runs has looked at no test image" in found.headline[0]


def test_runs_that_cannot_be_compared_are_refused(before: Path, tmp_path: Path) -> None:
    with pytest.raises(InterpNetError, match="are the same run folder; name two runs"):
        ip.compare(before, before)
    with pytest.raises(RunFolderError, match="does not exist; `interpnet audit"):
        ip.compare(before, tmp_path / "absent")
    with pytest.raises(RunFolderError, match="holds no run"):
        ip.compare(tmp_path, before)
    with pytest.raises(InterpNetError, match="second is 3; expected the name of a file or folder"):
        ip.compare(before, 3)  # type: ignore[arg-type]
    half = run_of(tmp_path / "half")
    edit(half, lambda manifest: [one.update(state="running") for one in manifest["stages"].values()])
    with pytest.raises(RunFolderError, match=r"holds nothing to compare.*run `interpnet audit --out"):
        ip.compare(before, half)
    shard = run_of(tmp_path / "shard")
    edit(shard, lambda manifest: manifest.update(shard=[1, 2]))
    with pytest.raises(RunFolderError, match="holds shard 1 of 2 alone"):
        ip.compare(before, shard)
    several = run_of(tmp_path / "several")
    edit(several, lambda manifest: manifest["model"].update(outputs="independent"))
    with pytest.raises(InterpNetError, match=r"one class for each image and .* several labels for an image"):
        ip.compare(before, several)
    others = run_of(tmp_path / "others")
    for name in ("weights/interpretation.npz",):
        named = Interpretation.load(others / name)
        replace(named, classes=tuple("abcdefgh")).save(others / name)
    study = json.loads((others / "ablation" / "ablation.json").read_text())
    (others / "ablation" / "ablation.json").write_text(json.dumps(study | {"classes": list("abcdefgh")}))
    with pytest.raises(InterpNetError, match="they have no class in common"):
        ip.compare(before, others)


def test_the_command_prints_tables_json_and_a_page(
    before: Path, after: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "new" / "page.html"
    assert main(["compare", str(before), str(after), "--html", str(page)]) == 0
    text = capsys.readouterr().out
    assert "Recall of each class" in text
    assert "Channels are" not in text
    html = page.read_text()
    assert "<script>alert(1)</script>" not in html
    assert "&lt;script&gt;" in html
    assert main(["compare", str(before), str(after), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["format"] == "interpnet-compare-1"
    assert told["recalls"]["classes"][2]["recall"]["differs"] is True
    assert told == json.loads(json.dumps(ip.compare(before, after).to_json()))
    assert main(["compare", str(before), str(after), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["compare", str(before), str(after), "--html", str(tmp_path)]) == 2
    assert f"--html {str(tmp_path)!r} cannot be written" in capsys.readouterr().err


def test_a_comparison_shows_itself(found: ip.Comparison) -> None:
    assert repr(found).startswith("Comparison(")
    shown = found._repr_html_()
    assert "<table>" in shown
    assert "<script>alert(1)" not in shown


def test_a_fall_against_a_baseline_is_a_finding(before: Path, after: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = ["check", str(after), "--against", str(before), "--allow-shortcuts"]
    assert main(check) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "90.0 % to 86.0 %" in said
    assert "no fall beyond chance" in said
    assert main([*check, "--max-recall-loss", "0.05"]) == 0
    assert main(["check", str(before), "--against", str(after), "--allow-shortcuts"]) == 1  # the fourth class
    capsys.readouterr()
    assert main(["check", str(after), "--allow-shortcuts", "--max-recall-loss", "0.05"]) == 2
    assert "--max-recall-loss came, and no run to compare with" in capsys.readouterr().err


def test_a_suspicion_that_the_baseline_has_may_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (run_of(tmp_path / name, seed=seed) for seed, name in enumerate("ab"))
    write_shortcuts(b, NAMES, findings(NAMES))
    check = ["check", str(b), "--against", str(a), "--allow-known-shortcuts"]
    assert main(check) == 2
    assert "was not searched for any; run `interpnet shortcuts" in capsys.readouterr().err
    write_shortcuts(a, NAMES, findings(NAMES))
    assert main(check) == 0
    assert main(check[:-1]) == 1


def test_differences_of_intervals_by_hand() -> None:
    """Two means with symmetric intervals have the interval of their difference, and its normal p-value."""
    found = of_intervals((0.0, -1.96, 1.96), (3.0, 3 - 1.96, 3 + 1.96))
    assert found.high - 3 == pytest.approx(1.96 * math.sqrt(2))
    assert found.p == pytest.approx(2 * stats.norm.sf(3 / math.sqrt(2)), rel=1e-3)
    same = of_errors(1.0, 4.0, 1.5)
    assert same.p == pytest.approx(2 * stats.norm.sf(2.0))
    assert (same.low, same.high) == pytest.approx((3 - 1.5 * 1.959964, 3 + 1.5 * 1.959964))
    assert of_intervals((0.5, 0.4, 0.6), (0.5, 0.5, 0.5)).p == 1.0
    assert math.isnan(of_intervals((math.nan,) * 3, (0.5, 0.4, 0.6)).p)


def test_labels_of_one_image_are_compared_as_recalls(tmp_path: Path) -> None:
    """Where an image can have several labels there is no accuracy, and no search for shortcuts."""
    runs = []
    for seed, (name, share) in enumerate((("a", 0.9), ("b", 0.8))):
        run = run_of(tmp_path / name, dict.fromkeys(range(CLASSES), share), seed=seed)
        edit(run, lambda manifest: manifest["model"].update(outputs="independent"))
        path = run / "ablation" / "ablation.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"outputs": "independent"}))
        kept = Answers.load(run / "ablation" / "ablation-answers.npz")
        # Every image has all labels.
        replace(kept, images=kept.images % EACH).save(run / "ablation" / "ablation-answers.npz")
        runs.append(run)
    found = ip.compare(*runs)
    assert found.recalls is not None
    assert (found.recalls.accuracy, found.recalls.images) == (None, (EACH, EACH))
    assert found.recalls.recall.change == pytest.approx(-0.1)
    # The same 100 images lose all of their labels: as certain as one label of each, and no more.
    mean, half = interval_of_a_paired_difference(0, 100, EACH)
    assert found.recalls.recall.high - mean == pytest.approx(half, rel=0.05)
    assert found.headline[0].startswith(
        "Mean recall on the same 1,000 test images: 90.0 % in A, 80.0 % in B: B is lower"
    )
    json.dumps(found.to_json(), allow_nan=False)


def test_neither_comparing_nor_checking_loads_torch() -> None:
    code = (
        "import sys, interpnet.pipelines.cli.commands_check, interpnet.pipelines.cli.commands_compare; "
        "sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
