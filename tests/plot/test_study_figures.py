"""Figures of ablation studies and layers: drawn from results and from JSON, safe labels; none of them loads torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from helpers.figures import faults
from helpers.report_fixture import ablation, class_names, interpretation
from matplotlib.figure import Figure

from interpnet import plot
from interpnet.ablation import as_result, mean_change, others_change
from interpnet.errors import InterpNetError

RNG_SEED = 5


def study(count: int = 10) -> dict:
    rng = np.random.default_rng(RNG_SEED)
    return ablation(interpretation(class_names(count), rng), rng)


def texts(figure: Figure) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text)]


def drawn(figure: Figure, path) -> Figure:
    """Draw it for real: layout and labels are only made then."""
    figure.savefig(path / "figure.png", dpi=50)
    assert (path / "figure.png").stat().st_size > 2000
    return figure


# Letters the drawing font lacks are boxes in a PNG, and said so by matplotlib.
lacks_letters = pytest.mark.filterwarnings("ignore:Glyph", "ignore:Matplotlib currently does not support")


@lacks_letters
def test_ablation_figures_name_axes_and_conditions(tmp_path):
    result = study()
    figure = drawn(plot.ablation(result), tmp_path)
    left, right = figure.axes
    assert left.get_xlabel() == "mean recall of the class itself"
    assert right.get_xlabel() == "change in the others' mean recall"
    mean = as_result(result).condition("relevant").mean_own()
    assert f"{mean:.2f}" in texts(figure)
    assert "relevant (named by InterpNet)" in texts(figure)


@lacks_letters
def test_small_changes_of_the_others_do_not_print_over_each_other():
    data = study(2)
    entries = [
        {"name": name, "layers": "all", "removed": [1, 1], "own": [[0.5, 0.5]], "others": [[0.8 - loss] * 2]}
        for name, loss in (("relevant", 0.02), ("random", 0.085), ("highest-activation", 0.051))
    ]
    figure = plot.ablation({**data, "intact": [0.8, 0.8], "conditions": entries})
    assert not faults(figure)
    assert 2 <= len(figure.axes[1].get_xticks()) <= 5


@lacks_letters
def test_a_change_of_almost_nothing_is_no_negative_zero():
    data = study(2)
    entry = {"name": "random", "layers": "all", "removed": [1, 1], "own": [[0.5, 0.5]], "others": [[0.799, 0.799]]}
    figure = plot.ablation({**data, "intact": [0.8, 0.8], "conditions": [entry]})
    assert "0.00" in texts(figure)
    assert not {"-0.00", "−0.00", "+0.00"} & set(texts(figure))


@lacks_letters
def test_a_result_and_its_json_give_the_same_figure():
    data = study()
    one = plot.ablation(data)
    two = plot.ablation(as_result(data))
    assert texts(one) == texts(two)


@lacks_letters
def test_curve_marks_every_k_and_the_band_is_the_interval(tmp_path):
    figure = drawn(plot.ablation_curve(study()), tmp_path)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel().startswith("channels removed")
    assert {"1", "2", "4", "8"} <= {t.get_text() for t in axes.get_xticklabels()}


def test_a_study_without_curve_or_relevant_channels_is_refused():
    with pytest.raises(InterpNetError, match="curve=True"):
        plot.ablation_curve({**study(), "curve": None})
    with pytest.raises(InterpNetError, match="lacks the condition 'relevant'"):
        plot.class_recall({**study(), "conditions": []})


@lacks_letters
@pytest.mark.parametrize("count", [2, 10, 60])
def test_class_figure_shows_names_as_text_and_at_most_forty(count, tmp_path):
    figure = drawn(plot.class_recall(study(count)), tmp_path)
    labels = figure.axes[0].get_yticklabels()
    assert len(labels) == min(count, 40)
    assert all(not label.get_parse_math() for label in labels)
    if count == 10:
        assert "no test images" in texts(figure)
        assert labels[0].get_text() == "<script>alert(1)</script>"


@pytest.mark.parametrize("layers", [1, 5, 150])
def test_layer_figure_is_readable_for_few_and_for_many(layers, tmp_path):
    shares = np.random.default_rng(0).dirichlet(np.ones(layers), 3)
    shares[2] = 0
    names = [f"layer{i}.conv.relu:1" for i in range(layers)]
    figure = drawn(plot.layer_relevance(shares, names, ["a", "b", "c"], expected=np.full(layers, 1 / layers)), tmp_path)
    bars = figure.axes[0]
    widths = np.array([bar.get_width() for bar in bars.patches])
    np.testing.assert_allclose(widths, shares[:2].mean(0))
    height = figure.get_size_inches()[1]
    assert height <= 11
    assert height / len(bars.get_yticks()) >= 0.15


def test_shares_of_another_shape_are_refused():
    with pytest.raises(InterpNetError, match=r"expected \(2, 1\)"):
        plot.layer_relevance(np.ones((1, 2)), ["a"], ["x", "y"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.pop("intact"), "lacks 'intact'"),
        (lambda d: d["conditions"][0].update(own=[[0.5]]), r"own of 'relevant' has shape \(1, 1\)"),
        (lambda d: d.update(support=[1]), r"support has shape \(1,\)"),
        (lambda d: d.update(intact="none"), "cannot be read"),
        (lambda d: d.update(format="other"), "no ablation result"),
    ],
)
def test_a_damaged_study_is_named(change, match):
    data = study()
    change(data)
    with pytest.raises(InterpNetError, match=match):
        as_result(data)
    with pytest.raises(InterpNetError, match="got list"):
        as_result([])


def test_change_of_the_others_by_hand():
    entry = {
        "name": "random",
        "layers": "all",
        "removed": [1, 1],
        "own": [[0, 0]] * 2,
        "others": [[0.5, 0.7], [0.3, 0.7]],
    }
    data = {**study(2), "intact": [0.8, 0.6], "conditions": [entry]}
    result = as_result(data)
    condition = result.conditions[0]
    np.testing.assert_allclose(others_change(result, condition), [[-0.1, -0.1], [-0.3, -0.1]])
    mean, (low, high) = mean_change(result, condition)
    # Repeats' means are -0.1 and -0.2: mean -0.15, half width t(1, 97.5 %) * 0.0707 / sqrt(2).
    assert mean == pytest.approx(-0.15)
    assert (low, high) == pytest.approx((-0.15 - 12.7062 * 0.05, -0.15 + 12.7062 * 0.05), abs=1e-4)


def test_no_chart_and_no_picture_loads_torch():
    """A report is made again without torch."""
    code = (
        "import sys, numpy as np; from interpnet import plot, plotting; plotting.render(np.eye(3), np.ones((1, 3, 3)));"
        "plot.layer_relevance(np.ones((1, 1)), ['a'], ['x']); plot.ablation, plot.mu_curve;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
