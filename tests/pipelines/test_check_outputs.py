"""``interpnet check`` for CI: limits in a file, JUnit XML, annotations of GitHub, a log, and silence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.junit import read_junit
from helpers.report_fixture import make_run
from interpnet.pipelines.auditing.check import Check
from interpnet.pipelines.auditing.ci import github_lines, write_junit
from interpnet.pipelines.cli.app import main

MEASURED = ("collect", "solve", "ablate")


@pytest.fixture(scope="module")
def suspicious(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("check") / "run", classes=8, stages=MEASURED, shortcuts=True)


def limits(folder: Path, text: str) -> str:
    path = folder / "limits.toml"
    path.write_text(text)
    return str(path)


def test_limits_come_from_a_file_and_options_override_them(suspicious: Path, tmp_path: Path) -> None:
    file = limits(tmp_path, "[check]\nfail_on_shortcut = false\nmax_suspicion = 0.57\n")
    assert main(["check", str(suspicious), "--config", file]) == 1
    assert main(["check", str(suspicious), "--config", file, "--max-suspicion", "0.59"]) == 0
    assert main(["check", str(suspicious), "--config", file, "--max-suspicion", "0.59", "--fail-on-shortcut"]) == 1


def test_limits_of_the_run_are_in_its_own_file(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", classes=8, stages=MEASURED, shortcuts=True)
    assert main(["check", str(folder)]) == 1
    with (folder / "run.toml").open("a") as file:
        file.write("[check]\nfail_on_shortcut = false\n")
    assert main(["check", str(folder)]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[check]\nmin_acuracy = 0.9\n", "has no setting 'min_acuracy'; did you mean 'min_accuracy'"),
        ("[chek]\nmin_accuracy = 0.9\n", "unknown section [chek]; did you mean 'check'"),
        ("[check]\nmin_accuracy = '0.9'\n", "--min-accuracy is '0.9'; expected a number"),
        ("[check]\nmin_recall = 2\n", "--min-recall is 2; expected a number from 0 to 1"),
        ("[check\n", "limits.toml' cannot be read"),
    ],
)
def test_a_wrong_file_is_one_line(
    text: str, message: str, suspicious: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(suspicious), "--config", limits(tmp_path, text)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_class_of_least_recall_is_named(suspicious: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(suspicious), "--allow-shortcuts", "--min-recall", "0.01"]) == 0
    one = capsys.readouterr().out
    assert "at least 1.0 %" in one
    assert main(["check", str(suspicious), "--allow-shortcuts", "--min-recall", "1"]) == 1
    assert re.search(r"% of \d+.* and \d more", capsys.readouterr().out)


def test_junit_has_a_case_for_each_check(suspicious: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "check.xml"
    assert main(["check", str(suspicious), "--min-accuracy", "0.1", "--junit", str(file)]) == 1
    suite = read_junit(file)
    assert suite.attrib["name"] == "interpnet check"
    states = {case.attrib["name"]: case.find("failure") is None for case in suite.findall("testcase")}
    assert states == {"accuracy": True, "shortcuts": False, "suspicion": True}
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "(a patch); limit: no class beyond what is usual" in failure.attrib["message"]


def test_junit_says_why_nothing_could_be_checked(tmp_path: Path) -> None:
    file = tmp_path / "check.xml"
    folder = make_run(tmp_path / "run", classes=8, stages=MEASURED)
    assert main(["check", str(folder), "--junit", str(file)]) == 2
    suite = read_junit(file)
    error = suite.find("testcase/error")
    assert error is not None
    assert "was not searched for shortcuts" in (error.text or "")


def test_junit_and_annotations_take_any_text(tmp_path: Path) -> None:
    name = 'a<b>&"\x07\x1b[31m 9 %,:\nsecond'
    found = (Check("accuracy", name, "none", None), Check("shortcuts", name, "less", False), Check("x", "1", "2", True))
    file = tmp_path / "check.xml"
    write_junit(file, Path("runs/first"), found)
    suite = read_junit(file)
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.attrib["message"] == r'a<b>&"\x07\x1b[31m 9 %,:\nsecond; limit: less'
    notice, error = github_lines(Path("runs/first"), found)
    assert notice == r'::notice title=interpnet check%3A accuracy::runs/first: a<b>&"\x07\x1b[31m 9 %25,:%0Asecond'
    assert error == notice.replace("notice", "error").replace("accuracy", "shortcuts") + "; limit: less"


def test_findings_are_annotations_on_github(
    suspicious: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert main(["check", str(suspicious)]) == 1
    assert "::error" not in capsys.readouterr().out
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["check", str(suspicious)]) == 1
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("::error title=interpnet check%3A shortcuts::")]
    assert main(["check", str(suspicious), "--no-github", "--json"]) == 1
    assert capsys.readouterr().err == ""
    # Of a mistake, too; and stdout is left to the JSON.
    assert main(["check", str(suspicious / "absent"), "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("::error title=interpnet check::run folder ")


def test_quiet_prints_nothing_and_the_log_keeps_it(
    suspicious: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs" / "check.log"
    assert main(["check", str(suspicious), "--quiet", "--log", str(log)]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    assert main(["check", str(suspicious / "absent"), "--quiet", "--log", str(log)]) == 2
    assert capsys.readouterr().err.startswith("error: run folder")
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ( |$)", line) for line in lines)
    text = "\n".join(line[21:] for line in lines)
    assert text.count("interpnet check\n") == 2
    assert "beyond the limit" in text
    assert "\nexit code 1\n" in text
    assert text.splitlines()[-1].startswith("RunFolderError: run folder")


def test_quiet_json_is_json(suspicious: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(suspicious), "--quiet", "--json", "--allow-shortcuts"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True


@pytest.mark.parametrize("option", ["--junit", "--log"])
def test_a_file_that_cannot_be_written_is_one_line(
    option: str, suspicious: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for where in (tmp_path, tmp_path / "file" / "check.xml"):
        assert main(["check", str(suspicious), option, str(where)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {option} {str(where)!r} cannot be written (")
        assert error.count("\n") == 1
