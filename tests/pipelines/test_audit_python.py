"""audit() from Python: the whole pipeline on a program's own network and images, and what comes of it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.wrong_kinds import FLAG, FUNCTION, MODEL, check_refused
from interpnet.pipelines.auditing.result import Audit, Report
from interpnet.pipelines.auditing.words import in_python
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.stages.collect import run_collect
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import interpnet as ip
from interpnet.errors import DataError, InterpNetError, ModelError, RunFolderError

NAMES = ["left", "right"]
IMAGES_ALONE = torch.rand(4, 1, 8, 8)
QUICK: dict[str, Any] = {"methods": "gradient", "examples": 1, "misclassified": 0, "progress": False}


class Halves(nn.Module):
    """Says which half of an image is brighter, by one of its four channels."""

    def __init__(self, temper: float = 40.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1)
        self.fc = nn.Linear(8, 2)
        self.temper = temper
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -1.0, 0.5, -0.5]).view(4, 1, 1, 1))
            self.conv.bias.fill_(0.1)
            self.fc.weight.zero_()
            self.fc.weight[:, :2] = torch.eye(2)
            self.fc.bias.zero_()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = torch.relu(self.conv(x - 0.5))
        halves = nn.functional.adaptive_avg_pool2d(maps, (1, 2)).flatten(1)
        return {"logits": self.temper * self.fc(halves), "features": halves}


class Bright(Dataset[dict[str, Any]]):
    def __init__(self, n: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(n) % 2
        self.images = 0.5 + 0.1 * torch.rand(n, 1, 8, 8, generator=generator)
        for image, label in zip(self.images, self.labels.tolist(), strict=True):
            image[..., 4 * label : 4 * label + 4] += 0.3

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"image": self.images[i], "label": int(self.labels[i]), "name": f"{i}"}


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    return DataLoader(Bright(60, 0), 16, shuffle=True), DataLoader(Bright(30, 1), 16)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    network = Halves().train()
    found = ip.audit(
        network, *loaders(), out=tmp_path_factory.mktemp("audit") / "run", classes=NAMES, output="logits", **QUICK
    )
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    return found


def test_an_audit_gives_tables_figures_verdicts_and_a_report(done: Audit) -> None:
    assert done.classes == ("left", "right")
    assert set(done.named) == set(done.studies) == set(done.verdicts) == {"reliance", "mu-lasso"}
    assert done.verdict is next(iter(done.verdicts.values()))
    assert done.contributions is not None
    assert done.scores.X.shape == (60, 4)
    tables = done.tables()
    assert {"classes", "channels", "examples", "ablation", "reliance_ablation"} <= set(tables)
    assert tables["classes"]["class"].tolist() == NAMES
    assert tables["classes"]["recall_intact"].tolist() == [1.0, 1.0]
    assert tables["classes"]["train_images"].tolist() == [30, 30]
    assert len(tables["examples"]) == 2
    figures = done.figures()
    buffer = io.BytesIO()
    figures["ablation"].savefig(buffer)
    assert buffer.getvalue()[:4] == b"\x89PNG"


def test_without_pandas_tables_are_lists_of_rows(done: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    def importing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("interpnet.pipelines.auditing.result.import_module", importing)
    rows = done.tables()["classes"]
    assert [row["class"] for row in rows] == NAMES


def test_the_report_shows_itself_in_a_notebook_and_is_a_path(done: Audit) -> None:
    report = done.report()
    page = Path(report).read_text(encoding="utf-8")
    assert "Halves on Bright" in page
    assert "60 of 60 images right, 50 % by chance" in page
    assert "those of the program that called audit()" in page
    shown = report._repr_html_()
    assert shown.startswith('<iframe srcdoc="')
    assert "<script" not in shown
    assert str(report).endswith("index.html")
    assert repr(report) == f"Report({str(done.folder / 'report' / 'index.html')!r})"


def test_an_audit_shows_itself_on_one_line_and_as_a_table(done: Audit) -> None:
    text = repr(done)
    assert text.startswith(f"Audit({str(done.folder)!r}: Halves on Bright, 2 classes, recall 100.0 %")
    assert "\n" not in text
    assert "<table>" in done._repr_html_()
    reopened = ip.load_run(done.folder)
    assert repr(reopened) == text
    assert reopened.notes == done.notes


def test_the_same_call_does_nothing_again(done: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(
        "interpnet.pipelines.auditing.call.make_console", lambda **_options: Console(file=said, width=140)
    )
    again = ip.audit(Halves(), *loaders(), out=done.folder, classes=NAMES, output="logits", **QUICK)
    assert repr(again) == repr(done)
    text = said.getvalue()
    assert text.count("up to date, skipped") == len(text.strip().splitlines())


def test_another_network_or_other_images_are_refused(done: Audit) -> None:
    call: dict[str, Any] = {"out": done.folder, "classes": NAMES, **QUICK}
    train, test = loaders()
    # The same weights, and another forward pass.
    with pytest.raises(RunFolderError, match=r"belongs to another model.* what the network computes.*out="):
        ip.audit(Halves(80.0), train, test, output="logits", **call)
    with pytest.raises(RunFolderError, match="the output taken is 'logits' there"):
        ip.audit(Halves(), train, test, output=lambda result: result["logits"], **call)
    with pytest.raises(RunFolderError, match=r"another set of training images.*fresh=True"):
        ip.audit(Halves(), test, test, output="logits", **call)


def test_functions_that_take_the_logits_are_told_apart(tmp_path: Path) -> None:
    train, test = loaders()
    call: dict[str, Any] = {"out": tmp_path / "run", "identify": "mu-lasso", **QUICK}
    first = ip.audit(Halves(), train, test, output=lambda result: result["logits"], **call)
    assert first.classes == ("0", "1")
    with pytest.raises(RunFolderError, match="belongs to another model"):
        ip.audit(Halves(), train, test, output=lambda result: -result["logits"], anyway=True, **call)


def test_a_run_of_python_is_reported_again_and_else_wants_its_objects(
    done: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(done.folder)]) == 0
    capsys.readouterr()
    assert main(["ablate", str(done.folder), "--repeats", "3"]) == 2
    said = capsys.readouterr().err
    assert "this run was made from Python" in said
    assert "call audit() with the same objects" in said


def test_an_interrupted_audit_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call: dict[str, Any] = {"out": tmp_path / "run", "classes": NAMES, "output": "logits", "identify": "mu-lasso"}
    network = Halves().train()

    def interrupt(*_args: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("interpnet.pipelines.stages.ablate.ablation_study", interrupt)
        with pytest.raises(KeyboardInterrupt, match=r"Go on with: the same call of audit\(\)"):
            ip.audit(network, *loaders(), **call, **QUICK)
    assert network.training
    unfinished = ip.load_run(tmp_path / "run")
    with pytest.raises(RunFolderError, match="is missing; run `interpnet report"):
        unfinished.report()
    assert unfinished.verdict is None
    assert "classes" in unfinished.tables()
    monkeypatch.setattr("interpnet.pipelines.stages.collect.collect_scores", interrupt)
    assert ip.audit(network, *loaders(), **call, **QUICK).verdict is not None


def test_nothing_is_printed_where_nothing_is_wanted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interpnet.pipelines.auditing.call.run_audit", run_collect)
    monkeypatch.setattr("interpnet.pipelines.auditing.call.Audit", Path)
    train, test = loaders()
    ip.audit(Halves(), train, test, out=tmp_path / "run", output="logits", progress=False)
    assert capfd.readouterr() == ("", "")


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no network": ({"model": "no"}, ModelError, "model 'no'|unknown model"),
    "no module": ({"model": 3}, ModelError, "model is a int; expected a torch.nn.Module"),
    "unknown setting": ({"mue": 5}, InterpNetError, r"audit\(\) takes no argument 'mue'; did you mean 'mu'"),
    "data as a setting": ({"data": "digits"}, InterpNetError, "takes no argument 'data'"),
    "setting of a wrong type": ({"k": "three"}, InterpNetError, r"k= is 'three'; expected a whole number"),
    "unknown method": ({"methods": "gradcamm"}, InterpNetError, "gradcamm"),
    "bytes as mean": ({"mean": 123.0}, InterpNetError, r"mean= is 123.*such as mean=0\.482 \(or anyway=True\)"),
    "unknown layers": ({"layers": "conv9"}, InterpNetError, "conv9"),
    "classes of one name": ({"classes": ["a", "a"]}, InterpNetError, "classes"),
    "too few classes": ({"classes": ["a"]}, DataError, "labels|different lines"),
    "a number as classes": ({"classes": 2}, InterpNetError, "classes is 2; expected a list"),
    "no such output": ({"output": "logit"}, ModelError, "logit"),
    "a test beside a name": ({"train": "digits"}, InterpNetError, "which names both splits"),
    "progress as text": ({"progress": "no"}, InterpNetError, "progress"),
    "a tensor": ({"train": torch.rand(4, 1, 8, 8)}, DataError, "Tensor"),
    "a network as images": ({"train": nn.ReLU()}, DataError, "ReLU"),
    "nothing as images": ({"train": None}, InterpNetError, "train|images"),
    "another test": ({"test": [(torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 9]))]}, DataError, "9|2 outputs"),
    "a device": ({"device": "gpu"}, InterpNetError, "gpu"),
    "images of another size": ({"train": (torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))}, ModelError, "shape"),
}


@pytest.mark.parametrize("slip", WRONG)
def test_a_slip_is_one_line_that_names_the_argument_and_leaves_no_folder(slip: str, tmp_path: Path) -> None:
    given, kind, message = WRONG[slip]
    train, test = loaders()
    call = {"model": Halves(), "train": train, "test": test, "output": "logits", "progress": False} | given
    with pytest.raises(kind, match=message) as caught:
        ip.audit(call.pop("model"), call.pop("train"), call.pop("test"), out=tmp_path / "run", **call)
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value).replace("--help", "")
    assert not (tmp_path / "run").exists()


def test_arguments_of_the_wrong_kind_are_one_line(tmp_path: Path) -> None:
    train, test = loaders()
    good = {"model": Halves(), "train": train, "test": test, "output": "logits", "out": tmp_path / "run"}
    names = [5, "nonsense", [], [5], ["a", "a"], True]
    wrong = {
        "model": MODEL,
        "train": [None, 5, "nonsense", IMAGES_ALONE, {}, lambda: train, [5]],
        "test": [5, IMAGES_ALONE, {}, [5], [[]]],
        "out": [5, [], True, ""],
        "classes": names,
        "output": ["nonsense", [], True, 7, lambda result: "logits"],
        "inputs": ["nonsense", 5, []],
        "labels": ["nonsense", 5, []],
        "prepare": FUNCTION,
        "fresh": FLAG,
        "progress": FLAG,
        "layers": [5, [], "nonsense", {}],
        "mu": ["a", 0, -1, True, []],
        "device": ["nonsense", 5],
        "only": ["nonsense", [5], {}, True],
    }
    check_refused((ip.audit, good, wrong))
    assert not (tmp_path / "run").exists()
    check_refused((ip.load_run, {}, {"folder": [None, 5, [], tmp_path / "nothing", tmp_path]}))


def test_a_network_without_its_weights_and_pixels_in_another_unit_are_stopped(tmp_path: Path) -> None:
    untrained = Halves()
    untrained.fc.weight.data.zero_()
    untrained.fc.bias.data[0] = 1.0
    call: dict[str, Any] = {"out": tmp_path / "run", "progress": False}
    with pytest.raises(DataError, match=r"no more than chance.*trained weights were not loaded into it.*anyway=True"):
        ip.audit(untrained, Bright(200, 0), output="logits", **call)
    bright = Bright(60, 0)
    with pytest.raises(DataError, match=r"and with pixels less 0, divided by .*in the data's own transform"):
        ip.audit(Halves(), (bright.images / 255, bright.labels), output="logits", **call)
    with pytest.raises(DataError, match=r"another order of the classes fits .* did you mean classes= with"):
        ip.audit(Halves(), (bright.images, 1 - bright.labels), output="logits", **call)


def test_groups_come_as_a_dictionary_and_classes_as_numbers(tmp_path: Path) -> None:
    train, test = loaders()
    call: dict[str, Any] = {"out": tmp_path / "run", "output": "logits", "progress": False}
    with pytest.raises(InterpNetError, match="every class is in one group"):
        ip.audit(Halves(), train, test, classes=NAMES, group={"both": NAMES}, **call)
    with pytest.raises(InterpNetError, match="class 7 does not exist"):
        ip.audit(Halves(), train, test, classes=NAMES, only=[0, 7], **call)
    with pytest.raises(InterpNetError, match="unknown class 'rigth'; did you mean 'right'"):
        ip.audit(Halves(), train, test, classes=NAMES, only="rigth", **call)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--mu is 0; expected a number above 0", "mu= is 0; expected a number above 0"),
        ("give --classes FILE, or --max-images 200", "give classes=FILE, or max_images=200"),
        ("(--image-size, --channels)", "(image_size=, channels=)"),
        ("--classes imagenet finds them", "classes='imagenet' finds them"),
        ("or --fresh to start this one over (--out)", "or fresh=True to start this one over (out=)"),
        ("interpnet audit --help", "interpnet audit --help"),
    ],
)
def test_options_are_named_as_arguments(text: str, expected: str) -> None:
    assert in_python(text) == expected


def test_a_function_of_a_file_gives_the_images_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = Path(__file__).parent
    (tmp_path / "mine.py").write_text(
        f"import sys; sys.path.insert(0, {str(here)!r})\n"
        "from test_audit_python import Halves, loaders, Bright\n"
        "def make(): return Halves()\n"
        "def train_only(): return Bright(60, 0)\n"
        "def nothing(): pass\n"
        "def broken(): raise ValueError('no disk')\n"
    )
    quick = ["--output", "logits", "--methods", "gradient", "--examples", "1"]
    assert main(["audit", "mine.py:make", "mine.py:loaders", "--out", "run", *quick]) == 0
    capsys.readouterr()
    # By the run folder alone: the files were named once.
    assert main(["ablate", "run", "--repeats", "3"]) == 0
    for name, message in {
        "nothing": "returned nothing; expected the training images",
        "broken": "raised ValueError: no disk",
        "loader": "did you mean 'loaders'?",
    }.items():
        capsys.readouterr()
        assert main(["audit", "mine.py:make", f"mine.py:{name}", "--out", "other", *quick]) == 2
        assert message in capsys.readouterr().err
    assert main(["layers", "mine.py:make", "mine.py:train_only", "--output", "logits"]) == 0
    assert "conv" in capsys.readouterr().out


def test_a_data_file_that_nobody_named_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "settings").mkdir()
    (tmp_path / "elsewhere.py").write_text("raise SystemExit('ran')\n")
    toml = tmp_path / "settings" / "run.toml"
    toml.write_text(f'[model]\nmodel = "torchvision:resnet18"\n[data]\ndata = "{tmp_path / "elsewhere.py"}:loaders"\n')
    assert main(["audit", "--config", str(toml), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "never named on a command line here" in said
    assert "data file" in said


def test_reports_and_audits_are_paths(done: Audit) -> None:
    assert Path(done) == done.folder
    assert isinstance(done.report(), Report)
    assert os.fspath(done.report()) == str(done.folder / "report" / "index.html")
