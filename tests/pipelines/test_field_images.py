"""Images from the field as a program has them: every form, without labels, prepared as the training images are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_run import again, images, recorded, said, through, tiny_session
from interpnet.pipelines.auditing.call import audit
from interpnet.pipelines.run.field import field_key, field_of
from interpnet.pipelines.run.images import Own
from interpnet.pipelines.run.own_reading import Keys
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.stages import shortcuts
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from interpnet.datasets import ImageData, stack_images
from interpnet.errors import DataError, InterpNetError, RunFolderError

X = images(np.array([0, 1, 2, 0, 1, 2]), 5)
LABELS = torch.tensor([9, 9, 9, 9, 9, 9])  # of no class
SETTINGS: dict[str, Any] = {"mu": 1.0, "seed": 3}


class Alone:
    """A data set of images without labels."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> Tensor:
        return X[i]


def pillow(x: Tensor) -> Image.Image:
    return Image.fromarray((x.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())


FORMS: dict[str, Any] = {
    "tensor": X,
    "list of batches": [X[:4], X[4:]],
    "two batches": [X[:3], X[3:]],
    "pair with labels": (X, LABELS),
    "batches with labels": [(X[:4], LABELS[:4]), (X[4:], LABELS[4:])],
    "dictionaries": [{"image": X}],
    "list of images": list(X),
    "data set": TensorDataset(X),
    "data set with labels": TensorDataset(X, LABELS),
    "data set of images": Alone(),
    "loader": DataLoader(TensorDataset(X, LABELS), batch_size=4),
    "loader of images": DataLoader(Alone(), batch_size=4, shuffle=True),  # type: ignore[arg-type]
    "Pillow images": [pillow(x) for x in X],
    "Pillow images with labels": [(pillow(x), "nobody knows") for x in X],
}


def with_field(path: Path, field: Any, **settings: Any) -> Session:
    session = tiny_session(path, field="python:test", **SETTINGS | settings)
    session.own = Own(field=field)
    return session


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_images_in_their_order(form: str, tmp_path: Path) -> None:
    found = field_of(with_field(tmp_path / "run", FORMS[form]))
    assert found is not None
    read = stack_images(found.data, range(len(found.data)))
    torch.testing.assert_close(read, X, atol=1 / 255, rtol=0)


def test_image_data_is_taken_as_it_is_and_prepare_makes_images(tmp_path: Path) -> None:
    data = ImageData.from_dataset(TensorDataset(X, torch.zeros(6, dtype=torch.long)), 2)
    found = field_of(with_field(tmp_path / "one", data))
    assert found is not None
    assert found.data is data
    session = with_field(tmp_path / "two", [X.permute(0, 2, 3, 1)])
    session.own = replace(session.own, keys=Keys(prepare=lambda batch: batch.permute(0, 3, 1, 2)))  # type: ignore[type-var]
    found = field_of(session)
    assert found is not None
    torch.testing.assert_close(stack_images(found.data, range(6)), X)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (5, "field: images: a int came; expected a DataLoader"),
        ([], r"field: .*yields nothing"),
        (
            X[:, :, :8],
            r"the images from the field \(python:test\) have the shape \(3, 8, 16\), and the training images",
        ),
        (X[:, :1], r"image 'images/field/0' has 1 channels, expected 3"),
        (iter([X]), "field: .*"),
        ([{"pixels of it": X}], r"field: .*name its images with inputs="),
    ],
    ids=["number", "nothing", "size", "channels", "iterator", "keys"],
)
def test_what_is_no_field_is_refused(field: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        field_of(with_field(tmp_path / "run", field))


def test_random_images_are_refused(tmp_path: Path) -> None:
    class Noise(Alone):
        def __getitem__(self, i: int) -> Tensor:
            return torch.rand(3, 16, 16)

    with pytest.raises(DataError, match="is another one each time it is read"):
        field_of(with_field(tmp_path / "run", Noise()))


def test_files_are_refused_where_nobody_knows_how_training_images_were_normalised(tmp_path: Path) -> None:
    session = with_field(tmp_path / "run", [pillow(x) for x in X])
    honest = session.loaded.train.data._source.read
    session.loaded.train.data._source.read = lambda i, channels: (4 * honest(i, channels)[0] - 2, True)  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"come as finished tensors, with values from -2 to 1\.\d.*--mean, --std"):
        field_of(session)


def test_of_many_images_so_many_are_used_and_others_by_another_seed(tmp_path: Path) -> None:
    few = field_of(with_field(tmp_path / "a", X, shortcut_images=4))
    other = field_of(with_field(tmp_path / "b", X, shortcut_images=4, seed=8))
    assert few is not None
    assert other is not None
    assert len(few.used) == len(other.used) == 4
    assert few.used.tolist() != other.used.tolist()


def test_what_a_program_called_its_field_is_asked_for_again(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", field="python:list", **SETTINGS)
    with pytest.raises(RunFolderError, match=r"'python:list' is in no file; call audit\(\) with the same field="):
        field_key(session)


def test_the_search_gets_the_field_and_repairs_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = through(with_field(tmp_path / "run", X), "collect")
    calls = recorded(monkeypatch, shortcuts, "find")
    shortcuts.run_shortcuts(session)
    torch.testing.assert_close(torch.cat([batch.images for batch in calls[0]["field"]]), X)
    entry = session.run.stage("shortcuts")
    assert entry["field"]["n_images"] == 6
    found, _ = shortcuts.search(session, None, session.memo.setdefault("notes", _Notes()), masks=False)
    assert found is not None
    assert calls[1]["field"] is None


class _Notes:
    def add(self, _text: str) -> None:
        pass


def test_the_same_images_are_not_looked_at_again_and_others_are(tmp_path: Path) -> None:
    session = through(with_field(tmp_path / "run", X), "collect")
    assert shortcuts.run_shortcuts(session)
    same = again(session, field="python:test", **SETTINGS)
    same.own = Own(field=X.clone())
    assert not shortcuts.run_shortcuts(same)
    lost = again(session, field="python:test", **SETTINGS)
    assert not shortcuts.run_shortcuts(lost)
    assert "What was found in the images from the field stands, but: this run was made from Python" in said(lost)
    other = again(session, field="python:test", **SETTINGS)
    other.own = Own(field=X[:5])
    assert shortcuts.run_shortcuts(other)


def test_audit_takes_a_field_and_names_what_is_none(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(512, 3))
    y = net(X).argmax(1)
    quick: dict[str, Any] = {"out": tmp_path / "run", "anyway": True, "progress": False}
    with pytest.raises(InterpNetError, match="'nowhere' does not exist"):
        audit(net, (X, y), field="nowhere", **quick)
    with pytest.raises(InterpNetError, match="field: images: a float came"):
        audit(net, (X, y), field=0.5, **quick)
    assert not (tmp_path / "run").exists()


def test_an_audit_from_python_looks_at_its_field(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(512, 3))
    train = images(np.arange(24) % 3, 7)
    few: dict[str, Any] = {"methods": "gradient", "examples": 1, "misclassified": 0, "identify": "mu-lasso"}
    out = tmp_path / "run"
    found = audit(
        net, (train, torch.arange(24) % 3), field=DataLoader(Alone()), out=out, anyway=True, progress=False, **few
    )  # type: ignore[arg-type]
    assert found._run.beside["field"] == {"n": 6, "spec": "python:Alone"}
    assert "What images from the field lean to" in Path(found.report()).read_text(encoding="utf-8")
    assert 'field = "python:Alone"' in (out / "run.toml").read_text()
