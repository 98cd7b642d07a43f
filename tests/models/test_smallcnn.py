"""The small network: its shapes and its self-describing file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from interpnet.errors import ModelError
from interpnet.models import SmallCNN, describe_model, fingerprint_model, load_model, load_smallcnn, save_smallcnn


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 32), (5, (9, 40)), (2, 224)])
def test_smallcnn_file_says_what_it_holds(channels: int, size: int | tuple[int, int], tmp_path: Path):
    model = SmallCNN(channels, 4, size, width=2, seed=3).eval()
    file = tmp_path / "net.safetensors"
    preprocessing = {"mean": [0.5], "std": [0.5]}
    save_smallcnn(model, file, {"preprocessing": preprocessing})
    loaded = load_model("smallcnn", weights=file)
    height, width = (size, size) if isinstance(size, int) else size
    images = torch.rand(2, channels, height, width)
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)
    assert any(module.stride == (2, 2) for module in loaded.modules() if isinstance(module, nn.Conv2d))
    assert describe_model("smallcnn", file, loaded).preprocessing == preprocessing


def test_smallcnn_mistakes_are_named(tmp_path: Path):
    with pytest.raises(ModelError, match="image_size is 7; expected a whole number of at least 8"):
        SmallCNN(1, 10, 7)
    with pytest.raises(ModelError, match="n_classes is 0"):
        SmallCNN(1, 0, 8)
    for weights in (None, "random"):
        with pytest.raises(ModelError, match=r"takes its architecture from its file.*--weights FILE"):
            load_model("smallcnn", weights=weights)
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="does not say which SmallCNN it holds"):
        load_smallcnn(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ModelError, match="is no readable safetensors file"):
        load_smallcnn(tmp_path / "text.safetensors")


def test_smallcnn_seed_fixes_the_weights_and_spares_the_global_random_state():
    before = torch.get_rng_state()
    first = SmallCNN(1, 3, 8, seed=5)
    again = SmallCNN(1, 3, 8, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert fingerprint_model(first) == fingerprint_model(again)
    assert fingerprint_model(SmallCNN(1, 3, 8, seed=6)) != fingerprint_model(first)


@pytest.mark.parametrize(("size", "side"), [(8, 4), (28, 7), (32, 4), (224, 7)])
def test_smallcnn_halves_by_stride_until_the_map_is_small(size: int, side: int):
    model = SmallCNN(1, 2, size, width=2).eval()
    assert model.blocks(torch.zeros(1, 1, size, size)).shape == (1, 8 if size > 8 else 4, side, side)
    assert not any("Pool" in type(module).__name__ for module in model.blocks.modules())
    strided = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    assert size / 2 ** len(strided) == side


def test_an_unwritable_folder_is_refused_and_the_old_file_kept(tmp_path: Path):
    from interpnet.errors import RunFolderError

    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match="cannot write"):
        save_smallcnn(SmallCNN(1, 2, 8, width=2), tmp_path / "file" / "net.safetensors")
    file = tmp_path / "net.safetensors"
    save_smallcnn(SmallCNN(1, 2, 8, width=2, seed=1), file)
    content = file.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_smallcnn(SmallCNN(1, 2, 8, width=2, seed=2), file, {"accuracy": float("nan")})
    assert file.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []
