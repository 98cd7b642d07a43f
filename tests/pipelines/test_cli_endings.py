"""How commands end: --traceback, mistakes of ours, memory, workers, closed pipes, signals; cli/failures.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interpnet.pipelines.cli.app import main

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: str, before: str = "") -> list[str]:
    """Return the words that run a command line in a process of its own, after some lines of Python."""
    line = ["interpnet", *arguments]
    code = f"import sys\n{before}\nfrom interpnet.pipelines.cli.app import main\nsys.argv = {line!a}\nsys.exit(main())"
    return [sys.executable, "-c", code]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


@pytest.mark.parametrize("where", [0, 1, 2])
def test_traceback_may_stand_anywhere(where, capsys):
    arguments = ["report", "absent"]
    arguments.insert(where, "--traceback")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last):")
    assert "RunFolderError" in error
    assert error.splitlines()[-1].startswith("error: run folder 'absent' does not exist")
    assert main(["report", "absent"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_names_traceback(capsys):
    assert main(["--help"]) == 0
    assert "--traceback" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyError("x"), 1, "internal error: KeyError: 'x' (test_cli_endings.py:"),
        (AssertionError(), 1, "this is a bug of InterpNet"),
        (EOFError("No data left in file"), 1, "internal error: EOFError: No data left in file"),
        (RecursionError("deep\nand deeper\x1b[2J"), 1, r"deep and deeper\x1b[2J"),
        (MemoryError(), 2, "error: memory ran out (MemoryError); use a smaller --batch-size"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), 2, "error: memory ran out (DefaultCPU"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nmore"),
            2,
            "error: a process that reads images ended early, often because memory ran out (DataLoader worker (pid 7)",
        ),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), 2, "use fewer --workers"),
        (PermissionError(13, "Permission denied", "file\x1b"), 2, r"error: [Errno 13] Permission denied: 'file\x1b'"),
        (BrokenPipeError(), 141, ""),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("interrupted in stage\nx"), 130, "interrupted in stage x"),
    ],
)
def test_every_error_is_one_line(error, code, said, monkeypatch, capfd):
    from interpnet.pipelines.cli import commands, failures

    def fail(*_arguments):
        raise error

    monkeypatch.setattr(commands, "report", fail)
    monkeypatch.setattr(failures, "silence", lambda: None)
    assert main(["report", "run"]) == code
    text = capfd.readouterr().err
    assert said in text
    assert text.count("\n") == bool(said)
    assert "\x1b" not in text
    if code == 1:
        assert main(["--traceback", "report", "run"]) == 1
        assert "Traceback (most recent call last)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["collect", "net.py:make", "digits", "--out", ""], "--out is empty; give it a value, or leave it out"),
        (["collect", "", "digits"], "MODEL is empty"),
        (["collect", "smallcnn", ""], "DATA is empty"),
        (["collect", "smallcnn", "digits", "--weights", ""], "--weights is empty"),
        (["solve", ""], "RUN is empty"),
        (["explain", "run", "--class", ""], "--class is empty"),
        (["collect", "smallcnn", "digits", "--layers", ","], "--layers is empty"),
        (["collect", "smallcnn", "digits", "--seed", "9" * 30], "--seed is 9999"),
        (["collect", "smallcnn", "digits", "--batch-size", "9" * 15], "expected a whole number from 1 to 2147483647"),
        (["collect", "smallcnn", "digits", "--workers", "2000"], "expected a whole number from 0 to 1024"),
        (["audit", "--config", "/dev/zero"], "configuration '/dev/zero' cannot be read: it is no file"),
        (["audit", "--config", "."], "configuration '.' cannot be read: it is no file"),
        (["report", "x" * 5000], "File name too long"),
        (["report", "a\x1b[31mb"], r"run folder 'a\x1b[31mb' does not exist"),
        (["--workers"], "No such option"),
        (["\x1b[2J"], r"No such command"),
    ],
)
def test_odd_words_are_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert "\x1b" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", ["head", "closed", "full"])
def test_a_stdout_that_takes_nothing(end, tmp_path):
    """--version prints; its reader has gone, or there is none, or no room."""
    words = command("--version")
    if end == "head":
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False)
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, b"")
        return
    if end == "closed":
        shell = ["sh", "-c", 'exec "$@" >&-', "sh", *words]
        done = subprocess.run(shell, stderr=subprocess.PIPE, env=environment(), check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        return
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this machine")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, env=environment(), check=False)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"the output cannot be written" in done.stderr


def test_letters_that_the_terminal_lacks_are_escaped(tmp_path):
    words = command("report", "Größe-猫")
    ascii_only = environment(PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0")
    done = subprocess.run(words, capture_output=True, env=ascii_only, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"does not exist" in done.stderr


WAITING = """
import time, types
def wait(*_):
    print("waiting", flush=True)
    try:
        time.sleep(60)
    finally:
        time.sleep(0.3)
# In the place of the real commands, which load torch.
sys.modules["interpnet.pipelines.cli.commands"] = types.SimpleNamespace(report=wait)
"""


@pytest.mark.parametrize(
    "names", [["SIGINT"], ["SIGTERM"], ["SIGHUP"], ["SIGTERM"] * 5, ["SIGHUP", "SIGTERM", "SIGINT"]]
)
def test_signals_end_a_command_once(names, tmp_path):
    # As in a terminal: tests that run under nohup or in the background would hand on signals that are ignored.
    handlers = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    handlers += "; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    words = command("report", "run", before=handlers + WAITING)
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        for name in names:
            process.send_signal(getattr(signal, name))
            time.sleep(0.02)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert error == "interrupted\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_after_the_work_ends_the_process_with_the_commands_code(name, tmp_path):
    code = """
import os, signal, sys, time
from interpnet.pipelines.cli import app, running
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
running.run = lambda _app, _arguments: 3
sys.argv = ["interpnet"]
code = app.main()
os.kill(os.getpid(), getattr(signal, sys.stdin.read()))
time.sleep(20)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=name,
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_nohup_is_respected(tmp_path):
    ignored = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    words = command("report", "run", before=ignored + WAITING.replace("60", "1"))
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
