"""Which output of the network each class of the data is: in order, by a list, by ImageNet's names."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.run import outputs
from interpnet.pipelines.run.config import RunConfig

from interpnet.errors import DataError


def data(*classes: str) -> Any:
    """Return data of these classes."""
    return SimpleNamespace(classes=classes, spec="x", numbered=False)


def test_as_many_classes_as_outputs_are_taken_in_order() -> None:
    found = outputs.in_order(data("b", "a"), 2)
    assert (found.names, found.of_data.tolist(), found.of_data.dtype) == (("b", "a"), [0, 1], np.int64)


@pytest.mark.parametrize(
    ("classes", "n", "match"),
    [
        (("b", "a"), 1, "data 'x' has 2 classes and the model has 1 outputs; expected at most 1"),
        (("b", "a"), 3, r"data 'x' has 2 classes \(b, a\) and the model 3 outputs, .* give --classes FILE"),
        (tuple("abcdef"), 9, r"has 6 classes \(a, b, c, d, ...\) and the model 9 outputs"),
        (("cat", "dog"), 1000, r"the model 1000 outputs, so which .* \(--classes imagenet for its 1,000\)"),
        (("tench", "pug"), 1000, r"\(tench, pug\) are ImageNet's, .*; give --classes imagenet"),
    ],
)
def test_what_would_be_a_guess_is_refused(classes: tuple[str, ...], n: int, match: str) -> None:
    with pytest.raises(DataError, match=match):
        outputs.in_order(data(*classes), n)


def test_a_list_names_all_outputs_and_the_data_has_some(tmp_path: Path) -> None:
    found = outputs.by_list(data("b", "a"), 3, ["a", "c", "b"])
    assert (found.names, found.of_data.tolist(), found.of_data.dtype) == (("a", "c", "b"), [2, 0], np.int64)
    (tmp_path / "names.txt").write_text("a\n\n c \nb\n")
    again = outputs.matched(data("b", "a"), 3, RunConfig(classes=str(tmp_path / "names.txt")))
    assert again.names == found.names
    assert again.of_data.tolist() == [2, 0]
    (tmp_path / "damaged.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"list of classes '.*damaged.txt' cannot be read"):
        outputs.matched(data("b", "a"), 3, RunConfig(classes=str(tmp_path / "damaged.txt")))
    with pytest.raises(DataError, match=r"list of classes 'no\.txt' cannot be read .*, or the word imagenet"):
        outputs.matched(data("b", "a"), 3, RunConfig(classes="no.txt"))


@pytest.mark.parametrize(
    ("listed", "match"),
    [
        (["a", "b"], "has 2 different lines; the model has 3 outputs"),
        (["a", "b", "b"], "has 2 different lines; the model has 3 outputs"),
        (["a", "b", "b", "c"], "has 3 different lines; the model has 3 outputs"),
        (["a", "bb", "c"], "class 'b' of the data is not in the list of classes; did you mean 'bb'"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(listed: list[str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        outputs.by_list(data("b", "a"), 3, listed)


def test_imagenets_classes_are_found_by_name_id_and_synonym() -> None:
    pytest.importorskip("timm", reason="WordNet ids and synonyms come from timm")
    found = outputs.matched(
        data("Sports_Car", "n02102040", "tabby_cat", "crane bird", "crane"), 1000, RunConfig(classes="imagenet")
    )
    assert found.of_data.tolist() == [817, 217, 281, 134, 517]
    assert found.names[0] == "tench"
    assert found.names[217] == "English springer"


@pytest.mark.parametrize(
    ("classes", "n", "match"),
    [
        (("tench",), 10, "--classes imagenet names 1000 outputs; the model has 10"),
        (("tenche",), 1000, "class 'tenche' of the data is none of ImageNet's 1,000; did you mean 'tench'"),
        (("n99999999",), 1000, "class 'n99999999' of the data is none of ImageNet's 1,000"),
        (("tench", "n01440764"), 1000, "classes 'tench' and 'n01440764' of the data are both ImageNet's 'tench'"),
        (("cock",), 1000, None),
    ],
)
def test_names_that_are_not_imagenets_are_refused(classes: tuple[str, ...], n: int, match: str | None) -> None:
    pytest.importorskip("timm", reason="WordNet ids and synonyms come from timm")
    if match is None:
        assert outputs.by_imagenet(data(*classes), n).of_data.tolist() == [7]
        return
    with pytest.raises(DataError, match=match):
        outputs.by_imagenet(data(*classes), n)


def test_a_word_of_several_classes_is_refused() -> None:
    names = outputs.imagenet_names()
    with pytest.raises(DataError, match=r"class 'x' of the data can be ImageNet's 'tench' \(output 0\) or 'goldfish'"):
        outputs._one("x", [0, 1], names)


def test_without_timm_names_are_found_and_ids_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.data", None)
    outputs._synsets.cache_clear()
    try:
        assert outputs.by_imagenet(data("goldfish", "tench"), 1000).of_data.tolist() == [1, 0]
        with pytest.raises(
            DataError, match=r"'n01440764' of the data is a WordNet id, .* pip install 'interpnet\[timm"
        ):
            outputs.by_imagenet(data("n01440764"), 1000)
        with pytest.raises(DataError, match="are ImageNet's, but not its first ones"):
            outputs.in_order(data("goldfish", "tench"), 1000)
    finally:
        outputs._synsets.cache_clear()


def test_an_audit_of_fewer_classes_than_outputs_stops_before_the_first_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = tmp_path / "network.py"
    network.write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 13))\n"
    )
    code = main(["audit", f"{network}:make", "digits", "--out", str(tmp_path / "run")])
    shown = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert "data 'digits' has 10 classes (0, 1, 2, 3, ...) and the model 13 outputs" in shown
    assert "give --classes FILE" in shown
    assert not (tmp_path / "run" / "scores").exists()
