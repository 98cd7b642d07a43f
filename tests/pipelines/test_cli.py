"""The command line: help, wrong arguments, layers, train; pipelines/cli/app.py, options.py, commands_model.py."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interpnet.pipelines.cli import app
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.cli.options import flowing
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.settings import about

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "demo",
    "audit",
    "collect",
    "solve",
    "ablate",
    "explain",
    "shortcuts",
    "repair",
    "report",
    "check",
    "layers",
    "filters",
    "dissect",
    "train",
)


# WEIGHTS is replaced by a file that is there.
AUDIT = ["audit", "smallcnn", "digits", "--weights", "WEIGHTS"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"interpnet {command}" in text
    assert "Usage:" in text


def test_paragraphs_of_help_flow_and_examples_keep_their_lines():
    text = "First\n    goes on.\n\n    [green]interpnet a[/]\n    [green]interpnet b[/]\n\n    Last\n    goes on.\n    "
    assert flowing(text) == "First goes on.\n\n[green]interpnet a[/]\n[green]interpnet b[/]\n\nLast goes on."


def test_help_lists_the_commands_and_defaults(capsys):
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert all(command in overview for command in COMMANDS)
    assert main(["audit", "-h"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option in (
        "--layers",
        "--mu",
        "--positive",
        "--seed",
        "--device",
        "--on-bad-image",
        "--fit-on",
        "--workers",
        "--class-weight",
        "--stability",
        "--shortcut",
        "--strength",
        "X|auto",
    ):
        assert option in text
    assert "[default: (10)]" in text or "[default: 10]" in text


def test_version(capsys):
    from interpnet import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"interpnet {__version__}\n"


def test_help_does_not_wait_for_heavy_libraries():
    code = (
        "import sys; from interpnet.pipelines.cli.app import main; main(['audit', '--help']); "
        "sys.exit(bool({'torch', 'numpy', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "interpnet", "--help"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    # Versions of typer differ in how they write the rest of the line.
    assert "Usage: interpnet [OPTIONS]" in " ".join(done.stdout.split())


def test_the_module_ends_with_the_exit_code_of_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "interpnet", "audti"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_every_setting_is_an_option_of_audit():
    offered = set(inspect.signature(app.audit).parameters)
    settings = {entry.name for entry in dataclasses.fields(RunConfig)}
    limits = {entry.name for entry in dataclasses.fields(RunConfig) if about(entry).section == "check"}
    assert settings - offered == {"directory"} | limits
    assert limits <= set(inspect.signature(app.check).parameters)
    more = {"out", "config", "fresh", "open_report", "shortcut", "strength", "json", "quiet", "log"}
    assert offered - settings == more


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["audti"], "audit"),
        (["audit", "--muu", "3"], "--muu"),
        (["audit", "smallcnn", "digits", "--mu", "much"], "--mu"),
        (["solve"], "RUN"),
        (["audit"], "MODEL and DATA missing: interpnet audit MODEL DATA"),
        (["audit", "smallcnn"], "DATA missing"),
        (["audit", "torchvision:resnet81", "digits", "--weights", "random"], "did you mean 'resnet18'"),
        (["audit", "resnet18", "digits"], "did you mean 'torchvision:resnet18'?"),
        (["audit", "smallcnn", "digits"], "--weights FILE"),
        (["audit", "smallcnn", "digts", "--weights", "WEIGHTS"], "did you mean 'digits'?"),
        (["audit", "smallcnn", "imagefolder:absent", "--weights", "WEIGHTS"], "'absent' does not exist"),
        (["audit", "smallcnn", "digits", "--weights", "absent.safetensors"], "does not exist"),
        ([*AUDIT, "--layers", "blocks.0.rellu"], "did you mean 'blocks.0.relu"),
        ([*AUDIT, "--mu", "-1"], "--mu is -1.0; expected a number above 0, or auto"),
        ([*AUDIT, "--mu", "aut"], "--mu is 'aut'; expected a number above 0, or auto; did you mean 'auto'?"),
        ([*AUDIT, "--class-weight", "balancd"], "did you mean 'balanced'?"),
        ([*AUDIT, "--stability", "-1"], "--stability is -1"),
        ([*AUDIT, "--norm", "l7"], "--norm is 'l7'; expected l2 or l2sq"),
        ([*AUDIT, "--image-size", "big"], "--image-size is 'big'"),
        ([*AUDIT, "--channels", "3"], "cannot run on images of shape"),
        ([*AUDIT, "--device", "gpu"], "device='gpu'"),
        ([*AUDIT, "--classes", "absent.txt"], "absent.txt"),
        (["audit", "--config", "absent.toml"], "configuration 'absent.toml' does not exist"),
        (["layers", "torchvision:resnet18", "--weights", "randon"], "did you mean 'random'?"),
        (["train", "digits", "--out", "weights.bin"], "expected a file NAME.safetensors"),
        (["train", "digits", "--out", "w.safetensors", "--epochs", "0"], "epochs is 0"),
        (["train", "an8flower-single-6d"], "did you mean 'an8flower-single-6c'"),
        (["train", "an8flower-single-6c?size=31"], "size is 31; expected a whole number from 32"),
        (["train", "an8flower-single-6c?n=5"], "n is 5; expected a whole number of at least 6, one image for"),
        (["train", "an8flower-single-6c?sise=64"], "unknown option 'sise'"),
        (["train", "an8flower-released:absent"], "an8Flower folder 'absent' does not exist"),
        (["demo", "--shortcut", "backgrund"], "--shortcut is 'backgrund'; expected background"),
        (["demo", "--shortcut", "pto"], "did you mean 'pot'?"),
        (["demo", "--strength", "0.5"], "--strength came without --shortcut"),
        (["demo", "--shortcut", "pot", "--strength", "1.5"], "--strength is 1.5; expected a number from 0 to 1"),
        (["train", "an8flower-single-6c", "--shortcut", "pot", "--strength", "much"], "Invalid value for '--strength'"),
        (["train", "mnist", "--shortcut", "pot"], "generated flowers and the data is 'mnist'; expected an8flower"),
        ([*AUDIT, "--strength", "0.5"], "--strength plants a cue in generated flowers and the data is 'digits'"),
        (["collect", "smallcnn", "an8flower-single-6c?shortcut=pot", "--shortcut", "texture"], "give it once"),
        (["report", "absent"], "run folder 'absent' does not exist"),
        (["explain", "absent", "--image", "x.png"], "run folder 'absent' does not exist"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, expected, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [str(weights) if argument == "WEIGHTS" else argument for argument in arguments]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert expected in captured.err
    assert "Traceback" not in captured.out + captured.err
    assert list(tmp_path.iterdir()) == []  # a mistyped word leaves no folder behind


def test_cuda_where_there_is_none(weights, tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    arguments = [
        "audit",
        "smallcnn",
        "digits",
        "--weights",
        str(weights),
        "--device",
        "cuda",
        "--out",
        str(tmp_path / "r"),
    ]
    assert main(arguments) == 2
    assert "no usable CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["file/run", "/proc/run"])
def test_an_unwritable_folder_is_one_line(where, weights, tmp_path, capsys):
    (tmp_path / "file").touch()
    out = str(tmp_path / where) if not where.startswith("/") else where
    if where.startswith("/") and not Path("/proc").is_dir():
        pytest.skip("no /proc on this machine")
    assert main(["audit", "smallcnn", "digits", "--weights", str(weights), "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot be written" in error


def test_layers_lists_the_sites(weights, capsys):
    assert main(["layers", "smallcnn", "--weights", str(weights)]) == 0
    text = capsys.readouterr().out
    assert "images of 1x8x8, 10 outputs" in text
    row = next(line for line in text.splitlines() if "blocks.0.relu" in line)
    assert [cell.strip() for cell in row.split("│")[1:6]] == ["blocks.0.relu", "rectifier", "8x8x8", "8", "yes"]
    assert "classifier's output" in text
    assert "by default 40 channels of 3 layers" in text


def test_layers_of_a_network_of_ones_own(tmp_path, capsys):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)\n"
        "    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), *head)\n"
    )
    arguments = ["layers", f"{tmp_path / 'net.py'}:make", "--channels", "2", "--image-size", "9x7"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "images of 2x9x7, 3 outputs" in text
    assert "by default 5 channels of 1 layers" in text


def test_a_name_that_looks_like_markup_is_printed_as_it_is(tmp_path, capsys):
    from interpnet.pipelines.auditing.terminal_tables import show_explained
    from rich.console import Console

    record = {
        "name": "[red]x[/].png",
        "predicted": 0,
        "explained": 0,
        "confidence": 0.5,
        "channels": [],
        "note": "[b]none[/b]",
    }
    show_explained(Console(width=200), ["[link=x]cat"], [record], "folder[/]")
    text = capsys.readouterr().out
    for part in ("[red]x[/].png", "[link=x]cat", "[b]none[/b]", "folder[/]"):
        assert part in text


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interruption_leaves_a_whole_run_folder(name, tmp_path):
    import json
    import signal

    run = tmp_path / "run"
    (tmp_path / "slow.py").write_text(
        "import os, time\nfrom torch import nn\n"
        "class Slow(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv, self.relu, self.fc = nn.Conv2d(1, 3, 8), nn.ReLU(), nn.Linear(3, 10)\n"
        "    def forward(self, x):\n"
        # Slow from where it collects: what comes before need not be waited for.
        f"        time.sleep(0.2 if os.path.isdir({str(run / 'scores')!r}) else 0)\n"
        "        return self.fc(self.relu(self.conv(x)).flatten(1))\n"
    )
    arguments = ["audit", "slow.py:Slow", "digits", "--out", str(run), "--batch-size", "32", "--anyway"]
    code = (
        # A suite that a shell has started in the background ignores SIGINT, and its children with it.
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"sys.path.insert(0, {str(ROOT)!r}); from interpnet.pipelines.cli.app import main; "
        f"sys.exit(main({arguments!r}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 90
        while not (run / "scores" / "state.json").exists() and not (run / "scores" / "X.f32").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the collection did not begin"
            time.sleep(0.1)
        process.send_signal(getattr(signal, name))
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert error.count("\n") == 1
    assert error.startswith(f"interrupted in stage 'collect'; run folder {str(run)!r} is whole. ")
    assert error.rstrip().endswith(f"Go on with: interpnet audit --out {run}")
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["stages"]["collect"]["state"] == "interrupted"
