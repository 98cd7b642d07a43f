"""Batches: which images, what becomes of bad ones, and what a seed fixes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.image_files import noise, one_image
from PIL import Image

from interpnet.datasets import BadImageError, load_dataset, make_loader, stack_images
from interpnet.errors import DataError, InterpNetError


def break_files(root: Path) -> dict[str, str]:
    """Put four unreadable files into ``root/cat``; return the name and the reason of each."""
    Image.fromarray(noise(64, 64, 3)).save(root / "cat" / "cut.jpg")
    whole = (root / "cat" / "cut.jpg").read_bytes()
    (root / "cat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "cat" / "zero.png").write_bytes(b"")
    (root / "cat" / "text.png").write_text("this is no image")
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    return {
        "cat/cut.jpg": "truncated",
        "cat/zero.png": "0 bytes",
        "cat/text.png": "no image of a known format",
        "cat/gone.png": "No such file",
    }


def test_unreadable_images_are_named_with_the_remedy(folder: Path):
    reasons = break_files(folder)
    data = load_dataset(f"imagefolder:{folder}")
    names = [data.name(i) for i in range(len(data))]
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=rf"{name}.*{reason}.*--on-bad-image skip"):
            data[names.index(name)]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_fails_on_the_bad_image_by_name(folder: Path, workers: int):
    break_files(folder)
    data = load_dataset(f"imagefolder:{folder}")
    with pytest.raises(BadImageError, match=r"^image 'cat/cut.jpg' cannot be read: .*truncated") as caught:
        list(make_loader(data, batch_size=2, num_workers=workers))
    assert caught.value.index == 3


@pytest.mark.parametrize(("workers", "batch_size"), [(0, 1), (0, 2), (0, 3), (0, 100), (2, 2)])
def test_loader_skips_and_lists_bad_images(folder: Path, workers: int, batch_size: int):
    reasons = break_files(folder)
    data = load_dataset(f"imagefolder:{folder}", on_bad_image="skip")
    loader = make_loader(data, batch_size=batch_size, num_workers=workers)
    for _again in range(2):
        batches = list(loader)
        assert all(len(batch.images) == len(batch.labels) == len(batch.indices) > 0 for batch in batches)
        kept = torch.cat([batch.indices for batch in batches]).tolist()
        assert [data.name(i) for i in kept] == [f"cat/{i}.png" for i in range(3)] + ["dog/0.png", "dog/1.png"]
        reported = [entry for batch in batches for entry in batch.skipped]
        assert {entry.name for entry in loader.skipped} == set(reasons)
        assert reported == loader.skipped
        for index, name, reason in loader.skipped:
            assert data.name(index) == name
            assert reasons[name] in reason


def test_bad_images_after_the_last_batch_come_with_it(folder: Path):
    (folder / "dog" / "z.png").write_bytes(b"")
    loader = make_loader(load_dataset(f"imagefolder:{folder}", on_bad_image="skip"), batch_size=5)
    batches = list(loader)
    assert [len(batch.labels) for batch in batches] == [5]
    assert batches[0].skipped == loader.skipped
    assert [entry.name for entry in loader.skipped] == ["dog/z.png"]


def test_no_readable_image_at_all_is_an_error(tmp_path: Path):
    file, spec = one_image(tmp_path)
    file.write_bytes(b"")
    data = load_dataset(spec, on_bad_image="skip")
    with pytest.raises(DataError, match=r"none of the 1 images .* can be read; the first is 'x/a.png': .*0 bytes"):
        list(make_loader(data))
    with pytest.raises(DataError, match="none of the 1 images"):
        _ = data.shape


def test_loader_covers_the_chosen_images_in_order():
    data = load_dataset("digits")
    chosen = [5, 3, 900, 4, 4]
    loader = make_loader(data, batch_size=2, indices=chosen)
    batches = list(loader)
    assert (len(loader), loader.n_images) == (3, 5)
    assert torch.cat([batch.indices for batch in batches]).tolist() == chosen
    assert torch.cat([batch.labels for batch in batches]).tolist() == data.labels[chosen].tolist()
    assert loader.labels.tolist() == data.labels[chosen].tolist()
    assert len(set(data.labels[chosen])) > 2
    torch.testing.assert_close(torch.cat([b.images for b in batches]), stack_images(data, chosen), rtol=0, atol=0)
    images, labels, *_ = batches[0]
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("workers", [0, 2])
def test_shuffling_is_seeded_and_leaves_the_global_random_state_alone(workers: int):
    data = load_dataset("digits")

    def orders(seed: int) -> list[list[int]]:
        loader = make_loader(data, batch_size=7, indices=range(20), shuffle=True, seed=seed, num_workers=workers)
        return [torch.cat([batch.indices for batch in loader]).tolist() for _epoch in range(2)]

    before = torch.get_rng_state()
    first = orders(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert first == orders(3)
    assert first != orders(4)
    assert first[0] != first[1]
    assert sorted(first[0]) == sorted(first[1]) == list(range(20))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected a whole number of at least 1"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"indices": []}, r"indices have shape \(0,\)"),
        ({"indices": [0.5]}, "type float64"),
        ({"indices": [0, 5000]}, "indices reach from 0 to 5000, expected 0 to 1441"),
    ],
)
def test_loader_settings_out_of_range_are_refused(options: dict, message: str):
    with pytest.raises(DataError, match=message):
        make_loader(load_dataset("digits"), **options)


def test_what_a_pass_waits_for_is_its_images(monkeypatch: pytest.MonkeyPatch):
    data = load_dataset("digits")
    now = [0.0]
    honest = data._source.read

    def slow(i: int, channels: int):
        now[0] += 0.25
        return honest(i, channels)

    monkeypatch.setattr(data._source, "read", slow)
    monkeypatch.setattr("interpnet.datasets._loader.time.perf_counter", lambda: now[0])
    loader = make_loader(data, batch_size=4, indices=range(10))
    for _ in range(2):
        for _batch in loader:
            now[0] += 100.0
        assert loader.waited == 2.5


def test_stacking_nothing_is_refused():
    with pytest.raises(DataError, match="indices is empty"):
        stack_images(load_dataset("digits"), [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", None),
        ("seed", 0.5),
        ("seed", 2**64),
        ("shuffle", 2),
        ("shuffle", "no"),
        ("shuffle", None),
        ("pin_memory", 1),
        ("num_workers", True),
        ("batch_size", 2.0),
    ],
)
def test_settings_of_another_kind_are_refused(name: str, value: object):
    with pytest.raises(InterpNetError, match=f"{name} is {value!r}"):
        make_loader(load_dataset("digits"), **{name: value})
