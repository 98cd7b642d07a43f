"""Commands on run folders: locks, failed first commands, edited model files, whose code runs, links, leftovers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.small_audit import folder_of_images, manifest
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.run.folder import RunFolder
from interpnet.pipelines.stages import collect as collecting

from interpnet.errors import RunFolderError

NETWORK = """
import torch
from torch import nn
FACTOR = 1.0
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 3)
    def forward(self, x):
        h = torch.relu(self.conv(x)) * 2.0
        return self.fc(h.clamp(max=100.0).mean((2, 3)))
def make():
    return Net()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network and images, the current one."""
    (tmp_path / "net.py").write_text(NETWORK)
    folder_of_images(tmp_path / "images", 3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(collecting, "first_look", lambda *_: None)  # the network was never trained
    return tmp_path


def collect(*more: str) -> int:
    return main(["collect", "net.py:make", "imagefolder:images", "--out", "run", *more])


# --- the lock --------------------------------------------------------------------------------------------


def test_the_manifest_is_read_under_the_lock(here):
    """Another command changes the run between our opening and our lock."""
    assert collect() == 0
    mine = RunFolder.open(here / "run")
    assert main(["solve", "run", "--mu", "2"]) == 0
    with mine.locked():
        assert mine.stage("solve")["mu"] == 2.0
        assert mine.config().mu == 2.0
    assert not RunFolder.create(here / "new").path.exists()


def test_settings_and_weights_of_a_command_belong_together(here, monkeypatch, capsys):
    """A solve with mu = 2 that ends just before our audit takes the lock: the audit must not say mu = 10."""
    from interpnet.pipelines.run import folder

    assert collect() == 0
    assert main(["solve", "run"]) == 0
    real = folder.locked
    others = [["solve", "run", "--mu", "2"]]

    def late(*arguments):
        if others:
            assert main(others.pop()) == 0
            capsys.readouterr()
        return real(*arguments)

    monkeypatch.setattr(folder, "locked", late)
    assert main(["solve", "run"]) == 0
    text = capsys.readouterr().out
    assert "solve: up to date" in text
    assert "mu = 2)" in text
    assert json.loads(Path("run/weights/summary.json").read_text())["mu"] == 2.0


def test_readers_are_kept_out_while_a_command_works(here, capsys):
    assert collect() == 0
    run = RunFolder.open(here / "run")
    with run.locked():
        for command in (["report", "run"], ["solve", "run"], ["audit", "--out", "run"], ["collect", "run"]):
            assert main(command) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert "another process is at work in run folder 'run'" in error
    assert main(["solve", "run"]) == 0


# --- a first command that fails --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mistake",
    [
        ["--classes", "absent.txt"],
        ["--layers", "nothing"],
        ["--image-size", "2"],
        ["--channels", "1"],
        ["--num-classes", "2"],
        ["--weights", "absent.pt"],
        ["--device", "gpu"],
    ],
)
def test_a_mistake_leaves_no_folder(mistake, here, capsys):
    assert main(["audit", "net.py:make", "imagefolder:images", "--out", "runs/deep/run", *mistake]) == 2
    assert not (here / "runs").exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_an_empty_folder_of_the_users_stays(here, capsys):
    (here / "run").mkdir()
    assert collect("--layers", "nothing") == 2
    assert list((here / "run").iterdir()) == []


@pytest.mark.parametrize(
    "corrected", [["--mean", "0.4"], ["--norm", "l2sq"], ["--max-images", "3"], ["--channels", "3", "--std", "0.5"]]
)
def test_a_pass_that_failed_does_not_bind_the_corrected_command(corrected, here, monkeypatch, capsys):
    from interpnet.pipelines.stages import collect as stage

    with monkeypatch.context() as patch:
        patch.setattr(stage, "collect_scores", lambda *_a, **_k: (_ for _ in ()).throw(RunFolderError("NaN")))
        assert collect() == 2
    assert manifest(here / "run")["stages"]["collect"]["failed"] is True
    assert collect(*corrected) == 0
    assert "belongs to another" not in capsys.readouterr().err
    assert collect() == 2
    assert "belongs to another" in capsys.readouterr().err


# --- what differs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text + "\n# a remark\n",
        lambda text: text + "\ndef another():\n    return nn.Linear(2, 2)\n",
        lambda text: '"""A docstring."""\n' + text,
        lambda text: text.replace("h = torch", "signal = torch").replace("h.clamp", "signal.clamp"),
        lambda text: text.replace("def forward(self, x):", "def forward(self, x):\n        print(end='')"),
        lambda text: text.replace("FACTOR = 1.0", "FACTOR = 3.0"),
    ],
)
def test_an_edit_that_changes_nothing_goes_on_with_a_note(edit, here, capsys):
    assert collect() == 0
    (here / "net.py").write_text(edit(NETWORK))
    for _ in range(2):
        capsys.readouterr()
        assert collect() == 0
        text = capsys.readouterr().out
        assert "The text of the model's file (net.py:make) changed since this run began" in text
        assert "collect: up to date, skipped" in text
    assert any("net.py" in note for note in manifest(here / "run")["notes"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("* 2.0", "* 3.0"),
        ("max=100.0", "max=50.0"),
        ("torch.relu(", "torch.tanh("),
        ("* 2.0", "* 2.0 + torch.tensor(0.5)"),
        ("mean((2, 3))", "amax((2, 3))"),
        ("self.fc = nn", "self.dropout = nn.Dropout()\n        self.fc = nn"),
    ],
)
def test_an_edit_that_changes_the_network_is_named(old, new, here, capsys):
    assert collect() == 0
    (here / "net.py").write_text(NETWORK.replace(old, new))
    capsys.readouterr()
    assert collect() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "belongs to another model" in error
    assert "what the network computes is" in error
    assert "the text of its file is" in error
    assert "the weights" not in error


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda _here: ["--norm", "l2sq"], "norm is 'l2' there and 'l2sq' here"),
        (lambda _here: ["--mean", "0.25"], r"mean is \[.*\] there and \[0.25.*\] here"),
        (lambda _here: ["--max-images", "5"], "max_images is None there and 5 here"),
        (
            lambda here: (here / "net.py").write_text(NETWORK.replace("seed(0)", "seed(1)")) * [],
            "the weights is '.*' there and '.*' here",
        ),
        (
            lambda here: (
                shutil.copy(next((here / "images/train/class 0").iterdir()), here / "images/train/class 1/n.png") and []
            ),
            "n_images of the training images is 18 there and 19 here",
        ),
    ],
)
def test_what_differs_is_said_with_both_values(edit, said, here, capsys):
    import re

    assert collect() == 0
    more = edit(here)
    capsys.readouterr()
    assert collect(*more) == 2
    assert re.search(said, capsys.readouterr().err)


# --- whose code runs -------------------------------------------------------------------------------------


def stranger(here: Path, file: str) -> Path:
    """Write a run.toml whose model file says that it ran."""
    theirs = here / "stranger"
    theirs.mkdir(exist_ok=True)
    model = (theirs / file).resolve()
    model.parent.mkdir(exist_ok=True)
    model.write_text("open('/'.join(__file__.split('/')[:-1]) + '/ran', 'w').close()\n" + NETWORK)
    (theirs / "run.toml").write_text(f'[model]\nmodel = "{model}:make"\n[data]\ndata = "imagefolder:images"\n')
    return model


@pytest.mark.parametrize("file", ["../evil.py", "../elsewhere/evil.py"])
@pytest.mark.parametrize("command", ["audit", "collect"])
def test_a_strangers_file_outside_of_the_runs_folder_does_not_run(file, command, here, capsys):
    model = stranger(here, file)
    assert main([command, "--config", "stranger/run.toml", "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert f"the settings name the model file {str(model)!r}, which lies outside of the run's folder" in error
    assert not (model.parent / "ran").exists()
    assert not (here / "run").exists()


def test_a_link_in_the_folder_is_followed_before_it_is_believed(here, capsys):
    model = stranger(here, "../evil.py")
    (here / "stranger" / "evil.py").symlink_to(model)
    text = (here / "stranger" / "run.toml").read_text().replace(str(model), str(here / "stranger" / "evil.py"))
    (here / "stranger" / "run.toml").write_text(text)
    assert main(["collect", "--config", "stranger/run.toml", "--out", "run"]) == 2
    assert not (here / "ran").exists()


def test_a_file_in_the_folder_runs_and_one_that_was_named(here, capsys):
    stranger(here, "net.py")
    assert main(["collect", "--config", "stranger/run.toml", "--out", "one"]) == 0
    model = stranger(here, "../evil.py")
    assert main(["collect", f"{model}:make", "--config", "stranger/run.toml", "--out", "two"]) == 0
    assert main(["collect", "--config", "stranger/run.toml", "--out", "three"]) == 0


def test_ones_own_run_goes_on_from_anywhere(here, monkeypatch):
    assert collect() == 0
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    for command in (["solve", "../run"], ["ablate", "../run", "--repeats", "1"], ["collect", "../run"]):
        assert main(command) == 0


def test_a_copy_on_another_machine_asks_first(here, monkeypatch, tmp_path_factory, capsys):
    assert collect() == 0
    assert main(["solve", "run"]) == 0
    monkeypatch.setenv("INTERPNET_STATE", str(tmp_path_factory.mktemp("other")))
    assert main(["solve", "run", "--mu", "3"]) == 0, "it runs no code"
    assert main(["ablate", "run"]) == 2
    assert "name it once: interpnet collect net.py:make" in capsys.readouterr().err
    assert main(["collect", "net.py:make", "--config", "run/run.toml", "--out", "run"]) == 0
    assert main(["ablate", "run", "--repeats", "1"]) == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "interpnet-named-files-1", "files": 3}'])
def test_a_damaged_list_of_named_files_names_nothing(content, here, monkeypatch, tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("INTERPNET_STATE", str(state))
    (state / "named_files.json").write_text(content)
    stranger(here, "../evil.py")
    assert main(["collect", "--config", "stranger/run.toml", "--out", "run"]) == 2
    assert collect() == 0
    assert main(["solve", "run"]) == 0


# --- links and leftovers ---------------------------------------------------------------------------------


def test_fresh_does_not_follow_links(here, capsys):
    assert collect() == 0
    outside = here / "outside"
    outside.mkdir()
    (outside / "precious").write_text("text")
    (here / "run" / "weights").symlink_to(outside)
    (here / "run" / "scores" / "link").symlink_to(outside)
    assert collect("--fresh", "--norm", "l2sq") == 0
    assert (outside / "precious").read_text() == "text"
    (here / "link").symlink_to(here / "run")
    assert main(["collect", "--out", "link", "--fresh"]) == 2
    assert "--fresh deletes nothing through a link; name the folder itself" in capsys.readouterr().err
    assert main(["collect", "--out", "link"]) == 0


@pytest.mark.parametrize("name", [".lock", "manifest.json", "run.toml", "scores/X.f32", "scores/state.json"])
def test_nothing_is_written_through_a_link(name, here):
    victim = here / "victim"
    victim.write_text("precious")
    run = here / "run"
    (run / "scores").mkdir(parents=True)
    if name != "manifest.json":
        RunFolder(run, {"created": "", "identity": {}, "stages": {}}).save()
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(victim)
    collect()
    assert victim.read_text() == "precious"


def test_what_a_killed_command_left_goes_at_the_next_start(here):
    assert collect() == 0
    left = [here / "run" / name for name in (".interpnet-manifest.x.json", "scores/.interpnet-state.y.json")]
    mine = [here / "run" / ".note", here / "run" / "mine" / ".interpnet-z"]
    (here / "run" / "mine").mkdir()
    for path in (*left, *mine):
        path.write_text("text")
    assert main(["solve", "run"]) == 0
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in mine)


# --- names -----------------------------------------------------------------------------------------------

EVIL = ["\x1b[31mred", "a\rb", "a\nb", "a\tb", "\u202eabc", "=1+1", "@x", "-x", os.fsdecode(b"caf\xe9")]


def test_no_hostile_name_reaches_terminal_or_tables(here, capsys):
    classes = here / "images"
    for split in ("train", "test"):
        for path, name in zip(sorted((classes / split).iterdir()), EVIL, strict=False):
            path.rename(classes / split / name)
    options = ["--repeats", "1", "--examples", "1", "--misclassified", "0", "--max-channels", "1"]
    assert main(["audit", "net.py:make", "imagefolder:images", "--out", "run", *options, "--methods", "gradient"]) == 0
    captured = capsys.readouterr()
    for text in (captured.out, captured.err, *(path.read_text() for path in here.glob("run/**/*.csv"))):
        assert not {"\x1b", "\r", "\t", "\u202e"} & set(text)
    assert r"\x1b[31mred" in (here / "run" / "weights" / "channels.csv").read_text()
    assert "\x1b" not in (here / "run" / "report" / "index.html").read_text()
