"""The run folder, its settings file and what identifies a run: pipelines/run/folder.py, config.py, settings.py."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.folder import RunFolder, digest
from interpnet.pipelines.run.lock import locked
from interpnet.pipelines.run.opening import default_name
from interpnet.pipelines.run.settings import Given, numbers
from interpnet.pipelines.run.split import balanced
from interpnet.pipelines.run.subject import make_output

from interpnet.errors import InterpNetError, ModelError, RunFolderError

ROOT = Path(__file__).resolve().parents[2]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(max_examples=80, derandomize=True)
@given(
    mu=st.just("auto") | st.floats(0, 1e6, exclude_min=True),
    layers=st.lists(TEXT, min_size=1, max_size=3),
    mean=st.none() | st.lists(st.floats(allow_nan=False, max_value=1), min_size=1),
    positive=st.booleans(),
    size=st.none() | st.tuples(st.integers(1, 999)),
    seed=st.integers(0, 2**40),
)
def test_config_survives_its_file(tmp_path_factory, mu, layers, mean, positive, size, seed):
    path = tmp_path_factory.mktemp("config") / "run.toml"
    config = RunConfig(
        model="m.py:make",
        data="digits",
        mu=mu,
        layers=tuple(layers),
        mean=mean,
        positive=positive,
        image_size=size,
        seed=seed,
        output=layers[0],
    )
    config.save(path)
    assert RunConfig.load(path) == config


def test_toml_integers_serve_as_numbers(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[solve]\nmu = 5\n[data]\nmean = [0, 1]\n")
    config = RunConfig.load(path)
    assert (config.mu, config.mean) == (5.0, (0.0, 1.0))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[solv]\nmu = 1", r"unknown section \[solv\]; did you mean 'solve'\?"),
        ("[solve]\nmuu = 1", r"no setting 'muu'; did you mean 'mu' or 'mu_rule'\?"),
        ("[collect]\nmu = 1", r"section \[collect\] has no setting 'mu'"),
        ("mu = 1", "mu stands outside of a section"),
        ("[solve]\nmu = 'ten'", "--mu is 'ten'; expected a number above 0, or auto"),
        ("[solve]\npositive = 1", "--positive is 1; expected true or false"),
        ("[run]\nseed = true", "--seed is True; expected a whole number"),
        ("[collect]\nlayers = 'conv'", "--layers is 'conv'; expected a list of text"),
        ("[solve", "cannot be read"),
    ],
)
def test_a_faulty_settings_file_is_named(tmp_path, text, match):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(InterpNetError, match=match):
        RunConfig.load(path)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"mu": -1.0}, "--mu is -1.0; expected a number above 0, or auto"),
        ({"mu": float("nan")}, "--mu is nan"),
        ({"norm": "l3"}, "--norm is 'l3'; expected l2 or l2sq"),
        ({"on_bad_image": "skipp"}, "did you mean 'skip'"),
        ({"k": 0}, "--k is 0; expected a whole number of at least 1"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"layers": ()}, "--layers is empty"),
    ],
)
def test_settings_out_of_range_are_refused(given, match):
    with pytest.raises(InterpNetError, match=match):
        RunConfig().override(given)


def test_override_keeps_what_is_not_given():
    config = RunConfig(mu=3.0, k=5).override({"mu": None, "k": 2})
    assert (config.mu, config.k) == (3.0, 2)


def test_words_of_the_command_line_become_values():
    def read(**words):
        return Given.read(dataclasses.fields(RunConfig), words).values

    values = {"image_size": (32, 48), "mean": (0.5, 0.25, 1.0), "layers": ("a", "b", "c.*"), "mu": 2.5}
    assert values == read(image_size="32x48", mean="0.5,0.25,1", layers=["a,b", "c.*"], mu="2.5", k=None, methods=[])
    assert read(mu="auto", positive=False) == {"mu": "auto", "positive": False}
    with pytest.raises(InterpNetError, match=r"--std is 'wide'; expected numbers such as 0\.5"):
        read(std="wide")
    with pytest.raises(InterpNetError, match=r"--image-size is '3\.5'"):
        numbers("3.5", "--image-size", whole=True)


def test_default_name_is_a_safe_file_name():
    config = RunConfig(model="../nets/my net.py:make", data="imagefolder:/data/My Photos/")
    assert default_name(config) == "make-My-Photos"
    assert default_name(RunConfig(model="torchvision:resnet18", data="digits")) == "resnet18-digits"


def test_paths_are_found_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "w.pt").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = RunConfig(directory=str(tmp_path))
    assert config.path("w.pt") == str(tmp_path / "w.pt")
    assert config.path("absent.pt") == "absent.pt"


def test_digest_depends_on_values_only():
    assert digest({"a": [1, 2], "b": None}) == digest({"b": None, "a": [1, 2]})
    assert digest([1, "1"]) != digest(["1", 1])


def test_a_stage_is_done_for_its_key_and_while_its_files_are_there(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.txt").write_text("a")
    run.mark("solve", "complete", "k1", files=["a.txt"], notes=["look"])
    run = RunFolder.open(tmp_path / "run")
    assert run.is_done("solve", "k1")
    assert not run.is_done("solve", "k2")
    assert run.key("solve") == "k1"
    assert run.manifest["notes"] == ["look"]
    (tmp_path / "run" / "a.txt").unlink()
    assert not run.is_done("solve", "k1")
    with pytest.raises(RunFolderError, match=r"'solve' has not run; run `interpnet solve"):
        run.key("solve")


def test_an_interrupted_stage_has_no_key(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.mark("collect", "interrupted", "k")
    with pytest.raises(RunFolderError, match=r"'collect' was interrupted; run `interpnet collect"):
        run.key("collect")


def test_the_manifest_says_what_made_it(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.save()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["format"] == "interpnet-run-1"
    assert {"python", "torch", "numpy"} <= set(manifest["versions"])
    assert {"created", "platform", "interpnet", "stages", "identity"} <= set(manifest)


def test_a_folder_belongs_to_one_identity(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.claim({"model": "aaaabbbbccccdddd", "set of training images": "1"})
    run.claim({"model": "aaaabbbbccccdddd", "set of training images": "1"})
    with pytest.raises(RunFolderError, match=r"another model \(aaaabbbbcccc there, eeee here\).*--fresh"):
        run.claim({"model": "eeee", "set of training images": "1"})
    with pytest.raises(RunFolderError, match="another set of training images"):
        run.claim({"model": "aaaabbbbccccdddd", "set of training images": "2"})


def test_clearing_keeps_what_is_not_the_runs(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.save()
    (run.folder("collect")).mkdir()
    (run.path / "mine.txt").write_text("keep")
    run.claim({"model": "a"})
    run.clear()
    assert not run.folder("collect").exists()
    assert (run.path / "mine.txt").read_text() == "keep"
    run.claim({"model": "b"})


def test_folders_of_something_else_are_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(RunFolderError, match="not empty and holds no run"):
        RunFolder.create(tmp_path / "photos")
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder.create(tmp_path / "photos" / "cat.jpg")
    with pytest.raises(RunFolderError, match="does not exist"):
        RunFolder.open(tmp_path / "absent")
    with pytest.raises(RunFolderError, match="holds no run"):
        RunFolder.open(tmp_path / "photos")
    (tmp_path / "photos" / "manifest.json").write_text("[]")
    with pytest.raises(RunFolderError, match="format None"):
        RunFolder.open(tmp_path / "photos")
    (tmp_path / "photos" / "manifest.json").write_text("{")
    with pytest.raises(RunFolderError, match="cannot be read"):
        RunFolder.open(tmp_path / "photos")


def test_a_second_process_is_kept_out(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    code = (
        "from pathlib import Path; from interpnet.pipelines.run.folder import RunFolder\n"
        f"with RunFolder.create(Path({str(run.path)!r})).locked(): pass"
    )
    with run.locked():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "another process is at work" in done.stderr
    with run.locked():
        pass


def test_an_unwritable_folder_is_told(tmp_path):
    (tmp_path / "file").touch()
    run = RunFolder.create(tmp_path / "file" / "run")
    with pytest.raises(RunFolderError, match="cannot be written: Not a directory"), run.locked():
        pass


@settings(max_examples=60, derandomize=True)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), limit=st.integers(1, 70), seed=st.integers(0, 5))
def test_balanced_subsets_are_as_even_as_the_labels_allow(labels, limit, seed):
    labels = np.array(labels)
    chosen = balanced(labels, limit, seed)
    assert len(chosen) == min(limit, len(labels))
    assert (np.diff(chosen) > 0).all()
    have = np.bincount(labels[chosen], minlength=5)
    there = np.bincount(labels, minlength=5)
    # Whatever class got fewer than another has no image left to give, up to one of the last turn.
    assert all(have[a] + 1 >= have[b] or have[a] == there[a] for a in range(5) for b in range(5))
    assert (balanced(labels, limit, seed) == chosen).all()


def test_output_takes_an_entry_or_says_what_is_there():
    assert make_output(None) is None
    assert make_output("logits")({"logits": 1, "aux": 2}) == 1
    assert make_output("-1")((1, 2)) == 2
    with pytest.raises(
        ModelError, match="--output logit does not exist: the model returns a dict with keys logits, aux"
    ):
        make_output("logit")({"logits": 1, "aux": 2})
    with pytest.raises(ModelError, match="--output 3 does not exist: the model returns a tuple"):
        make_output("3")((1, 2))


def test_a_folder_that_another_command_has_just_made_is_at_work(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.toml").write_text("")
    with pytest.raises(RunFolderError, match="is not empty and holds no run"):
        RunFolder.create(folder)
    with locked(folder, "run.toml"), pytest.raises(RunFolderError, match="another process is at work"):
        RunFolder.create(folder)
    with pytest.raises(RunFolderError, match="is not empty and holds no run"):
        RunFolder.create(folder)
