"""The report's part on how mu was chosen and how stable the named channels are; and the figure of the curve."""

from __future__ import annotations

import csv
import dataclasses
import json
import re

import numpy as np
import pytest
from helpers.report_fixture import class_names, frequencies, interpretation, make_run, mu_selection
from interpnet.pipelines.report.build import build_report
from interpnet.pipelines.run.selection import how_chosen, selection_from, selection_json, write_selection
from matplotlib.figure import Figure

from interpnet.errors import InterpNetError, RunFolderError
from interpnet.mulasso import SelectionCurve
from interpnet.plot import mu_curve


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("run"), classes=3, pictured=1, chosen=True, stability=True)
    build_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run) -> str:
    return (run / "report" / "index.html").read_text(encoding="utf-8")


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_the_page_says_how_mu_was_chosen(page):
    words = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert how_chosen(mu_selection()) in words
    assert "chosen on held-out images, 5 folds, one-standard-error rule by error" in words
    assert page.count('href="#sparsity"') == page.count('id="sparsity"') == 1
    figure = re.search(r'<svg role="img" aria-label="([^"]*mu from[^"]*)"', page)
    assert figure.group(1) == (
        "Held-out error, accuracy and number of relevant channels against mu from 0.825 to 160: the error is smallest "
        "at 40, chosen is 10; the numbers are in mu_curve.csv"
    )


def test_the_curve_s_numbers_lie_beside_the_page(run):
    found = mu_selection()
    table = rows(run / "report" / "mu_curve.csv")
    assert [float(row["mu"]) for row in table] == found.mus.tolist()
    assert [float(row["error_mean"]) for row in table] == found.error_mean.tolist()
    assert [float(row["accuracy_se"]) for row in table] == found.accuracy_se.tolist()
    assert [float(row["mu"]) for row in table if row["chosen"] == "1"] == [10.0]
    assert (run / "report" / "mu_curve.png").stat().st_size > 10_000
    data = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"))
    assert selection_json(selection_from(data["selection"])) == data["selection"] == selection_json(found)


def test_every_channel_has_its_frequency_and_low_ones_are_said(run, page):
    found = interpretation(class_names(3), np.random.default_rng(0))
    often = frequencies(found)
    expected = [often[c, column] for c in range(3) for column in found.columns(c)]
    assert [float(row["frequency"]) for row in rows(run / "report" / "channels.csv")] == expected
    words = [f"{value:.2f}{' seldom' if value < 0.6 else ''}" for value in expected]
    shown = re.findall(r'<small class="frequency">frequency (.*?)</small>', page)
    assert [re.sub(r"<[^>]*>", "", text) for text in shown] == words
    assert words.count("1.00") == 3
    assert sum("seldom" in text for text in words) == 9
    assert page.count("(3 seldom named)") == 3
    for source in ("share of 40 random halves", "Meinshausen and Bühlmann 2010", "Shah and Samworth 2013", "Below 0.6"):
        assert source in page


def test_without_them_the_page_is_silent(tmp_path):
    folder = make_run(tmp_path, classes=2, pictured=1)
    page = build_report(folder).read_text(encoding="utf-8")
    for word in ("sparsity", 'id="frequency"', 'class="frequency"', "seldom", "mu_curve"):
        assert word not in page, word
    assert {row["frequency"] for row in rows(folder / "report" / "channels.csv")} == {""}


def test_an_earlier_choice_s_figure_and_table_do_not_outlive_it(tmp_path):
    folder = make_run(tmp_path, classes=2, pictured=1, chosen=True)
    build_report(folder)
    assert (folder / "report" / "mu_curve.png").exists()
    (folder / "weights" / "selection.json").unlink()
    build_report(folder)
    assert not (folder / "report" / "mu_curve.png").exists()
    assert not (folder / "report" / "mu_curve.csv").exists()


def test_a_choice_of_other_weights_is_refused(tmp_path):
    folder = make_run(tmp_path, classes=2, pictured=1, chosen=True)
    write_selection(folder / "weights", dataclasses.replace(mu_selection(), chosen=12.5))
    with pytest.raises(RunFolderError, match=r"chose mu = 12\.5 and the weights beside it are those of mu = 10; run"):
        build_report(folder)


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        (
            "selection.json",
            "{}",
            "selection.json' cannot be used .the choice of mu has format None.*`interpnet solve` again",
        ),
        (
            "stability.npz",
            "no zip",
            "stability.npz' holds no stability selection .*delete it.*`interpnet solve`",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, match):
    folder = make_run(tmp_path, classes=2, pictured=1, chosen=True, stability=True)
    (folder / "weights" / file).write_text(content)
    with pytest.raises(RunFolderError, match=match):
        build_report(folder)


# --- the figure -------------------------------------------------------------------------------------------


def test_the_figure_has_a_panel_for_each_curve_with_its_unit():
    figure = mu_curve(mu_selection())
    assert isinstance(figure, Figure)
    error, accuracy, channels = figure.axes
    assert [axes.get_xscale() for axes in figure.axes] == ["log"] * 3
    assert {axes.get_xlabel() for axes in figure.axes} == {"mu: bound on ‖w‖₁ (log scale)"}
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "squared error per image and class",
        "held-out images (%)",
        "channels per class (mean)",
    ]
    found = mu_selection()
    np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), 100 * found.accuracy_mean)
    np.testing.assert_array_equal(channels.lines[0].get_ydata(), found.channels_mean)
    for axes in figure.axes:
        chosen = next(line for line in axes.lines if str(line.get_label()).startswith("chosen"))
        assert list(chosen.get_xdata()) == [10.0, 10.0]
    # The rule's line stands at the smallest error plus its standard error, the diamond at the smallest error.
    lines = {str(line.get_label()): line for line in error.lines}
    best = int(np.argmin(found.error_mean))
    assert lines["smallest + 1 standard error"].get_ydata()[0] == found.error_mean[best] + found.error_se[best]
    assert lines["smallest error: mu = 40"].get_xdata()[0] == found.mus[best]
    band = error.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (
        (found.error_mean - found.error_se).min(),
        (found.error_mean + found.error_se).max(),
    )


def test_a_choice_by_accuracy_shows_its_bounds():
    found = dataclasses.replace(mu_selection(), rule="accuracy", most=30.0)
    error, accuracy, channels = mu_curve(found).axes
    assert "smallest + 1 standard error" not in {str(line.get_label()) for line in error.lines}
    few = found.channels_mean <= 30
    # The accuracy rises with mu, so the best of those allowed is the last one.
    bound = 100 * (found.accuracy_mean[few][-1] - found.accuracy_se[0])
    dotted = [line for line in accuracy.lines if line.get_linestyle() == ":"]
    assert [line.get_ydata()[0] for line in dotted] == [pytest.approx(bound)]
    assert {str(line.get_label()): line for line in channels.lines}["most allowed"].get_ydata()[0] == 30


def test_without_accuracies_there_are_two_panels():
    assert len(mu_curve(mu_selection(accuracy=False)).axes) == 2


@pytest.mark.parametrize("count", [1, 2, 20])
@pytest.mark.parametrize("factor", [1.02, 2.0, 30.0])
def test_any_grid_has_labelled_ticks(count, factor):
    mus = 3.0 * factor ** np.arange(count)
    flat = np.full(count, 0.5)
    found = SelectionCurve(mus, flat, 0 * flat, flat, 0 * flat, 8 * flat, mus[0], mus[0], mus[0], "one_se", 5)
    figure = mu_curve(found)
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    inside = [t for t in figure.axes[0].get_xticks() if low <= t <= high]
    assert 1 <= len(inside) <= 12


def test_curves_of_unequal_length_are_refused():
    with pytest.raises(InterpNetError, match=r"expected \(20,\), at least one mu"):
        mu_curve(dataclasses.replace(mu_selection(), error_se=np.zeros(3)))
    none = np.zeros(0)
    with pytest.raises(InterpNetError, match=r"expected \(0,\), at least one mu"):
        mu_curve(SelectionCurve(none, none, none, None, None, none, 1.0, 1.0, 1.0, "one_se", 5))


def test_a_curve_with_one_mu_per_class_is_refused():
    each = np.array([5.0, 20.0])
    found = dataclasses.replace(mu_selection(accuracy=False), chosen=each, best=each, one_se=each)
    with pytest.raises(InterpNetError, match=r"chosen has shape \(2,\), one mu per class; expected one number"):
        mu_curve(found)
