"""The report of a run that names channels both ways: two columns, what they agree on, and what is not used."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.report_fixture import make_run
from interpnet.pipelines.report.build import build_report
from interpnet.pipelines.report.channels import Limits, agreement, channel_rows
from interpnet.pipelines.report.load import RunData, load_run
from interpnet.pipelines.report.pictures import Pictures

from interpnet.errors import RunFolderError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("both"), classes=4, pictured=1, both=True, few=1)
    build_report(folder)
    return folder


@pytest.fixture(scope="module")
def data(run: Path) -> RunData:
    return load_run(run)


def words(folder: Path) -> str:
    page = (folder / "report" / "index.html").read_text()
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page[page.index("<main") :])).split())


def table(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "report" / name).read_text().splitlines()))


def test_channels_stand_in_two_columns_the_relied_on_first(run: Path, data: RunData) -> None:
    rows = table(run, "channels.csv")
    assert data.relied is not None
    assert data.weights is not None
    assert data.contributions is not None
    S = data.contributions.specific(1.0)
    error = data.contributions.specific_stderr(1.0)
    for c in range(4):
        mine = [row for row in rows if row["class_index"] == str(c)]
        first = [f"{channel.layer} {channel.index}" for channel, _ in data.relied.relevant(c)]
        second = [f"{channel.layer} {channel.index}" for channel, _ in data.weights.relevant(c)]
        assert [f"{row['layer']} {row['channel']}" for row in mine] == list(dict.fromkeys(first + second))
        for row in mine:
            name = f"{row['layer']} {row['channel']}"
            assert (row["relied_on"] == "1") == (name in first)
            assert (row["weight"] != "") == (name in second)
            column = list(data.relied.channels).index(
                next(x for x in data.relied.channels if f"{x.layer} {x.index}" == name)
            )
            assert float(row["reliance"]) == pytest.approx(S[c, column])
            assert float(row["reliance_standard_error"]) == pytest.approx(error[c, column])
            assert float(row["contribution"]) == pytest.approx(data.contributions.mean[c, column])
            assert float(row["price"]) == pytest.approx(data.contributions.mean[c, column] - S[c, column])
    page = words(run)
    for heading in ("The class relies on it", "It predicts the class", "not named", "not among those relied on"):
        assert heading in page


def test_what_predicts_and_is_not_used_is_flagged(run: Path, data: RunData) -> None:
    rows = table(run, "channels.csv")
    flagged = [row for row in rows if row["not_used"] == "1"]
    # In each class the channel of the smallest weight above zero takes from the class.
    assert [int(row["class_index"]) for row in flagged] == [0, 1, 2, 3]
    for row in flagged:
        c = int(row["class_index"])
        assert data.weights is not None
        last = data.weights.channels[int(data.weights.columns(c, "positive")[-1])]
        assert (row["layer"], int(row["channel"])) == (last.layer, last.index)
        assert float(row["contribution"]) <= 0 < float(row["weight"])
    assert words(run).count("predicts, but is not used") == 1 + len(flagged)  # and once in the explanation
    # A negative weight speaks against the class: a contribution below zero is no surprise.
    assert any(float(row["weight"] or 0) < 0 for row in rows)


def test_what_the_ways_agree_on_is_counted(run: Path, data: RunData) -> None:
    rows = table(run, "classes.csv")
    assert data.relied is not None
    assert data.weights is not None
    for c, row in enumerate(rows):
        relied = set(data.relied.columns(c).tolist())
        predicting = set(data.weights.columns(c).tolist())
        counts = (len(relied & predicting), len(relied - predicting), len(predicting - relied))
        assert agreement(data, c) == counts
        names = ("named_by_both", "named_by_reliance_only", "named_by_weights_only")
        assert tuple(int(row[name]) for name in names) == counts
        assert int(row["relevant_channels"]) == len(predicting)
        assert int(row["relied_on_channels"]) == len(relied)
        assert row["not_used"] == "1"
    both, first, second = agreement(data, 0) or (0, 0, 0)
    assert f"{both} channels are named both ways, {first} by reliance only, {second} by weight only" in words(run)


def test_each_way_has_its_study_and_reliance_leads(run: Path, data: RunData) -> None:
    assert list(data.studies) == ["reliance", "mu-lasso"]
    assert data.study is data.studies["reliance"]
    summary = json.loads((run / "report" / "report.json").read_text())
    relied = data.studies["reliance"].condition("relevant").mean_own()
    predicting = data.studies["mu-lasso"].condition("relevant").mean_own()
    assert summary["mean_recall"]["relevant_removed"] == pytest.approx(relied)
    assert summary["named"]["mu-lasso"]["mean_recall"]["relevant_removed"] == pytest.approx(predicting)
    assert summary["verdict"] == summary["named"]["reliance"]["verdict"]
    page = words(run)
    assert page.index("Channels the class relies on") < page.index("Channels that predict the class")
    for name in ("ablation.csv", "reliance_ablation.csv", "layers.png", "reliance_layers.png", "reliance_ablation.png"):
        assert (run / "report" / name).is_file()
    own = {
        row["condition"]: float(row["own_recall"])
        for row in table(run, "reliance_ablation.csv")
        if row["layers"] == "all"
    }
    assert own["relevant"] == pytest.approx(relied, abs=1e-6)
    first = table(run, "classes.csv")[0]
    assert float(first["recall_relied_on_removed"]) == pytest.approx(
        float(data.studies["reliance"].condition("relevant").own[0, 0])
    )
    assert float(first["recall_relevant_removed"]) == pytest.approx(
        float(data.studies["mu-lasso"].condition("relevant").own[0, 0])
    )


def test_classes_of_few_images_are_pointed_out(run: Path) -> None:
    page = words(run)
    assert (
        page.count("Only 4 training images: of fewer than 10, the weights of a regression name noise. Read what") == 1
    )
    assert 'Fewer than 10 training images, so the weights of the regression name noise: “"><img' in page


def test_a_run_by_the_mu_lasso_alone_says_how_to_get_the_other(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", classes=2, pictured=1)
    build_report(folder)
    page = words(folder)
    assert "audit --identify both --out" in page
    assert "The class relies on it" not in page
    rows = table(folder, "channels.csv")
    assert {row["relied_on"] for row in rows} == {"0"}
    assert {row["reliance"] for row in rows} == {""}


def test_reliance_alone_has_one_column(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "run.toml").write_text('[solve]\nidentify = "reliance"\n')
    build_report(folder)
    page = words(folder)
    assert "The class relies on it" in page
    assert "It predicts the class" not in page
    assert not (folder / "report" / "ablation.csv").exists()
    assert {row["weight"] for row in table(folder, "channels.csv")} == {""}
    assert table(folder, "classes.csv")[0]["named_by_both"] == ""


def test_files_that_lie_there_from_other_settings_are_not_read(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "run.toml").write_text('[solve]\nidentify = "mu-lasso"\n')
    (folder / "weights" / "reliance.npz").write_text("damaged")
    assert load_run(folder).relied is None
    build_report(folder)
    (folder / "run.toml").write_text('[solve]\nidentify = "both"\n')
    with pytest.raises(RunFolderError, match=r"reliance.npz"):
        build_report(folder)


def test_without_contributions_reliance_is_what_the_weights_say(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "contributions" / "contributions.npz").unlink()
    data = load_run(folder)
    rows = channel_rows(data, 0, Pictures(folder / "explanations"), Limits())
    assert data.relied is not None
    values = [value for _, value in data.relied.relevant(0)]
    assert [row.reliance for row in rows if row.relied] == values
    assert all(np.isnan(row.contribution) and not row.unused for row in rows)
    build_report(folder)
