"""Methods and rankings of the user's own in an audit: from files and by name, in the study, pictures and report."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from helpers.small_audit import manifest
from helpers.tiny_run import read, through, tiny_session
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.run import own_code
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.own_code import check_named, code_digests, short_names
from interpnet.pipelines.run.trust import allow_code
from interpnet.pipelines.stages.ablate import ablate_key
from interpnet.pipelines.stages.explain import explain_key

from interpnet.ablation import rankings, register_ranking, unregister_ranking
from interpnet.attribution import METHODS, register_method, unregister_method
from interpnet.errors import InterpNetError, RunFolderError

#: Figures are made but not drawn: test_pipeline_end_to_end.py and test_report.py draw those of whole audits.
pytestmark = pytest.mark.usefixtures("blank_charts")

MINE = """
import numpy as np
import beside

def loudest(table, contributions):
    assert contributions is None or contributions.mean.shape[1] == len(table.channels)
    return np.tile(table.channel_means(), (table.n_classes, 1)) * beside.SIGN

def bright(model, images, targets, *, power=1.0):
    return images.sum(1) ** power
"""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for name in rankings():
        unregister_ranking(name)
    for method in list(METHODS.values()):
        if method.family == "own":
            unregister_method(method.name)
    for known in own_code._from_files.values():
        known.clear()


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a user's own, with what it imports beside it; and a machine on which nothing was named yet."""
    monkeypatch.setenv("INTERPNET_STATE", str(tmp_path / "state"))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "beside.py").write_text("SIGN = 1\n")
    file = tmp_path / "code" / "mine.py"
    file.write_text(MINE)
    return file


def conditions(run: Path, name: str = "ablation") -> list[str]:
    study = json.loads((run / "ablation" / f"{name}.json").read_text())
    return [c["name"] for c in study["conditions"] if c["layers"] == "all"]


def test_files_on_the_command_line(run: Path, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", str(run), "--rankings", f"{mine}:loudest"]) == 0
    assert "loudest" in capsys.readouterr().out
    assert main(["explain", str(run), "--methods", f"gradient,{mine}:bright"]) == 0
    assert main(["report", str(run)]) == 0
    for name in ("ablation", "reliance"):
        assert conditions(run, name)[-1] == "loudest"
    rows = list(csv.DictReader((run / "report" / "reliance_ablation.csv").read_text().splitlines()))
    (row,) = [row for row in rows if (row["condition"], row["layers"]) == ("loudest", "all")]
    (control,) = [row for row in rows if (row["condition"], row["layers"]) == ("random", "all")]
    assert row["mean_removed"] == control["mean_removed"]
    examples = json.loads((run / "explanations" / "examples.json").read_text())
    assert examples["methods"] == ["gradient", "bright"]
    for example in examples["examples"]:
        assert (run / "explanations" / example["baselines"]["bright"]).is_file()
        assert "bright" not in example["note"]
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "loudest" in page
    assert "bright" in page
    # The same again does nothing; another text of the file does the study again.
    capsys.readouterr()
    assert main(["ablate", str(run)]) == 0
    assert "ablate: up to date, skipped" in capsys.readouterr().out
    mine.write_text(MINE.replace("* beside.SIGN", "* -beside.SIGN"))
    assert main(["report", str(run)]) == 2
    assert "belongs to earlier settings" in capsys.readouterr().err
    assert main(["ablate", str(run)]) == 0
    assert "ablate: done" in capsys.readouterr().out


@pytest.mark.parametrize(("setting", "command"), [("rankings", "ablate"), ("methods", "explain")])
def test_a_file_that_nobody_named_does_not_run(setting: str, command: str, mine: Path, tmp_path: Path) -> None:
    config = RunConfig(model="smallcnn", **{setting: ("gradient", f"{mine}:f")})
    told = rf"the settings name the {setting[:-1]} file '.*mine.py', .* once: interpnet {command} RUN --{setting} .*:f"
    for named in ((), ("model", "data")):
        with pytest.raises(RunFolderError, match=told):
            allow_code(config, named=named, folders=[tmp_path / "run"])
    # What lies in the folder of the run, or of its settings, may run.
    allow_code(config, named=(), folders=[mine.parent])
    with pytest.raises(RunFolderError, match=told):
        allow_code(config, named=(), folders=[])
    # What the command line names may run, from then on.
    allow_code(config, named=(setting,), folders=[])
    allow_code(config, named=(), folders=[])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rankings", "loudest"], "unknown ranking 'loudest'; enter it with register_ranking"),
        (["--rankings", "mine.py"], "ranking 'mine.py': expected 'path/to/file.py:function', a file and the function"),
        (["--rankings", "nowhere.py:f"], "ranking file 'nowhere.py' does not exist"),
        (["--rankings", "{mine}:loudestt"], "has no function 'loudestt'; did you mean 'loudest'"),
        (["--rankings", "{mine}:loudest,other.py:loudest"], "--rankings: 2 of them are called 'loudest'; rename one"),
        (["--rankings", "{mine}:bright"], "cannot be called as bright(table, contributions)"),
        (["--methods", "gradinet"], "unknown method 'gradinet'; did you mean 'gradient'"),
        (["--methods", "{mine}:loudest"], "cannot be called as loudest(model, images, targets)"),
        (["--methods", "{mine}:gradient"], "has no function 'gradient'"),
    ],
)
def test_wrong_names_are_one_line(
    run: Path, mine: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = {"--rankings": "ablate", "--methods": "explain"}[arguments[0]]
    assert main([command, str(run), *(word.format(mine=mine) for word in arguments)]) == 2
    told = capsys.readouterr().err
    assert message in " ".join(told.split())
    assert "Traceback" not in told
    assert manifest(run)["stages"]["ablate"]["state"] == "complete"


def test_a_function_of_the_librarys_name_is_refused(run: Path, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine.write_text("def random(table, contributions):\n    return 0\n")
    assert main(["ablate", str(run), "--rankings", f"{mine}:random"]) == 2
    assert "the ranking name 'random' is taken by the library" in capsys.readouterr().err


def test_registered_ones_by_name(tmp_path: Path) -> None:
    came: list[Any] = []

    def mine(table: Any, contributions: Any) -> Any:
        came.append(contributions)
        return np.zeros((table.n_classes, len(table.channels)))

    register_ranking("mine", mine)
    register_method("own", lambda model, images, targets: images.sum(1))
    chosen: dict[str, Any] = {"rankings": ("mine",), "methods": ("gradient", "own")}
    session = through(tiny_session(tmp_path / "a", identify="both", **chosen))
    assert [contributions is None for contributions in came] == [False, False]
    for name in ("ablation", "reliance"):
        assert conditions(tmp_path / "a", name)[-1] == "mine"
    assert read(session, "explanations/examples.json")["methods"] == ["gradient", "own"]
    assert set(session.run.manifest["own_code"]) == {"mine", "own"}
    through(tiny_session(tmp_path / "b", **chosen), "ablate")
    assert came[2] is None  # no contributions were collected

    # Another function of that name makes the study stale; a process without it goes by what the run noted.
    keys = [ablate_key(session), explain_key(session)]
    unregister_ranking("mine")
    unregister_method("own")
    assert [ablate_key(session), explain_key(session)] == keys
    register_ranking("mine", lambda table, contributions: contributions.mean)
    assert ablate_key(session) != keys[0]
    noted = explain_key(session)
    register_method("own", lambda model, images, targets: images.sum(1) + 1)
    assert explain_key(session) != noted


def test_runs_without_them_keep_their_keys(tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path), "ablate")
    assert "own_code" not in session.run.manifest
    assert session.own_code("methods") == session.own_code("rankings") == {}


def test_code_is_told_by_what_it_does() -> None:
    def numbered(n: int) -> Any:
        def outer(table: Any, contributions: Any) -> Any:
            return [n for _ in table] if n else (lambda: 3)()

        return outer

    register_ranking("mine", numbered(1))
    config = RunConfig(rankings=("mine",))
    first = code_digests(config, "rankings", {})
    register_ranking("mine", numbered(2), replace=True)
    # What it closes over is no part of its code.
    assert code_digests(config, "rankings", {}) == first
    register_ranking("mine", lambda table, contributions: (lambda: 4)(), replace=True)
    other = code_digests(config, "rankings", {})
    register_ranking("mine", lambda table, contributions: (lambda: 5)(), replace=True)
    assert len({*first.values(), *other.values(), *code_digests(config, "rankings", {}).values()}) == 3
    unregister_ranking("mine")
    assert code_digests(config, "rankings", {"mine": "noted"}) == {"mine": "noted"}


def test_the_same_text_has_the_same_digest() -> None:
    text = "def mine(table, contributions):\n    return (lambda: table)() in {0, 8}\n"
    config = RunConfig(rankings=("mine",))
    found = []
    for order in ([0, 8], [8, 0]):
        names: dict[str, Any] = {}
        exec(text, names)  # noqa: S102 - our own text
        code = names["mine"].__code__
        # As a set can be ordered in another process.
        constants = [frozenset(order) if isinstance(one, frozenset) else one for one in code.co_consts]
        names["mine"].__code__ = code.replace(co_consts=tuple(constants))
        register_ranking("mine", names["mine"], replace=True)
        found.append(code_digests(config, "rankings", {}))
    assert found[0] == found[1]


def test_partials_defaults_and_objects_are_told_apart() -> None:
    def powered(table: Any, contributions: Any, power: float = 1.0) -> Any:
        return table.channel_means() ** power

    class One:
        def __call__(self, table: Any, contributions: Any) -> Any:
            return 1

    class Two:
        def __call__(self, table: Any, contributions: Any) -> Any:
            return 2

    other = FunctionType(powered.__code__, {}, "powered", (2.0,))
    other.__qualname__ = powered.__qualname__
    forms: list[Any] = [powered, other, partial(powered, power=2.0), partial(powered, power=3.0), One(), Two(), max]
    digests = []
    for form in forms:
        register_ranking("mine", form, replace=True)
        digests += [code_digests(RunConfig(rankings=("mine",)), "rankings", {})["mine"] for _ in range(2)]
    assert digests[::2] == digests[1::2]
    assert len(set(digests)) == len(forms)


def test_what_is_gone_is_what_the_run_noted(tmp_path: Path) -> None:
    spec = f"{tmp_path / 'mine.py'}:f"
    assert code_digests(RunConfig(methods=("gradient", spec)), "methods", {spec: "noted"}) == {spec: "noted"}
    (tmp_path / "mine.py").write_text("f = 1\n")
    assert code_digests(RunConfig(methods=(spec,)), "methods", {spec: "noted"}) != {spec: "noted"}


def test_short_names_and_doubles() -> None:
    assert short_names(("gradient", "a/b.py:f", "C:/x/mine.py:g")) == ["gradient", "f", "g"]
    check_named({"methods": ("gradient", "gradient"), "mu": 3.0})
    with pytest.raises(InterpNetError, match="--methods: 2 of them are called 'gradient'; rename one"):
        check_named({"methods": ("gradient", "mine.py:gradient")})
