"""C4's script on birds drawn here: a trial, resumed; its agreement by hand; the rules of its claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.funnybirds import birds, claims, run
from experiments.funnybirds.agreement import across, compared, orders, tops, usual
from experiments.funnybirds.importance import AREA, BEST, NAMED, OURS, USUAL, USUAL_OF_CLASS

PARTS = {"beak": (255, 255, 0), "foot": (255, 0, 1), "wing": (0, 255, 1)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two training and two test images, whose wings are red or green stripes."""
    out = tmp_path / "birds"
    rng = np.random.default_rng(0)
    (out / "x").mkdir(parents=True)
    (out / "parts.json").write_text(json.dumps({part: [{"model": "a"}] for part in PARTS}))
    (out / "classes.json").write_text(json.dumps([{"class_idx": k} for k in (0, 1)]))
    for split in ("train", "test"):
        (out / f"dataset_{split}.json").write_text(
            json.dumps([{"class_idx": i // 2, "bg_objects": ""} for i in range(4)])
        )
        for i in range(4):
            place = f"{i // 2}/{i:06d}"
            painted = np.zeros((32, 32, 3), dtype=np.uint8)
            pixels = np.full((32, 32, 3), birds.BACKGROUND, dtype=np.uint8)
            for p, colour in enumerate(PARTS.values()):
                rows = slice(8 * p + 2, 8 * p + 8)
                painted[rows, i : 20 + i] = colour
                pixels[rows, i : 20 + i] = rng.integers(256, size=3)
            files = {f"{split}/{place}": pixels, f"{split}_part_map/{place}": painted}
            for part, colour in PARTS.items():
                kept = "_".join(sorted(set(PARTS) - {part}))
                away = (painted == colour).all(-1, keepdims=True)
                files[f"{split}_interventions/{place}/body_{kept}"] = np.where(away, np.uint8(birds.BACKGROUND), pixels)
            for name, array in files.items():
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(out / f"{name}.png")
    return out


def test_a_quick_trial_resumes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(birds, "SIZE", 32)
    words = ["--quick", "--birds", str(folder), "--networks", "1", "--work", str(tmp_path / "work")]
    words += ["--out", str(tmp_path / "results.json")]
    run.main(words)
    single, joint = json.loads((tmp_path / "results.json").read_text())
    assert [seen for _, _, seen in single["parts"].values()] == [4, 4, 4]
    # Removed by the renderer or painted over: the same pictures here.
    assert joint["ways"]["part painted over"]["order"] == [1.0, 1.0, 1.0]
    assert joint["ways"][OURS]["ours less it"] == [0.0, 0.0, 0.0]
    assert (tmp_path / "work/birds.png").exists()
    monkeypatch.setattr(run, "compared", None)  # what is there is not done again
    run.main(words)


def test_parts_cover_pixels_and_dissection_reads_the_marked_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(birds, "SIZE", 16)
    data = birds.Birds(folder)
    assert data.masks.shape == (4, 3, 16, 16)
    # Stripes of 6 x 20, two pixels wider but for the left border, at half the size.
    assert data.masks.sum((2, 3))[0].tolist() == [10 * 22 / 4] * 3
    assert data.seen.all()
    (folder / "train_part_map/0/000001.png").unlink()
    ((images, masks),) = birds.Marked(data)
    assert (images.shape, masks.shape) == ((3, 3, 16, 16), (3, 3, 16, 16))
    for file in (folder / "train_part_map").rglob("*.png"):
        file.unlink()
    with pytest.raises(Exception, match="has no part map of a training image; render it with --masks 15"):
        list(birds.Marked(data))


def test_agreement_by_hand() -> None:
    losses = np.array([[3.0, 2.0, 1.0, 9.0], [1.0, 2.0, 3.0, 0.0], [5.0, 1.0, 0.0, 0.0]])
    seen = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]], dtype=bool)
    values = np.array([[5.0, 1.0, 4.0, 7.0], [2.0, 2.0, 2.0, 2.0], [1.0, 0.0, 0.0, 0.0]])
    # Ranks 3 1 2 against 3 2 1: 1 - 6 * 2 / (3 * 8); no order; too few parts.
    np.testing.assert_allclose(orders(values, losses, seen), [0.5, 0.0, np.nan])
    np.testing.assert_allclose(tops(values, losses, seen), [1.0, 0.25, np.nan])
    known = usual(losses, seen, np.array([0, 0, 1]))
    np.testing.assert_allclose(known, [[1, 2, 3, 0], [3, 2, 1, 0], [0, 0, 0, 0]])
    # Of the first two parts in three images, and of the others in two and one: 1, 0, 1 (ranks of 2), 0.
    first = across(losses[:, :2], losses[:, :2], seen[:, :2])
    assert first[0] == 1.0
    assert len(first) == 201


def test_all_ways_are_compared_on_the_same_draws() -> None:
    rng = np.random.default_rng(1)
    losses = rng.normal(size=(40, 4))
    seen = np.ones((40, 4), dtype=bool)
    ways = {OURS: losses * 2 + 1, "opposite": -losses, "none": rng.normal(size=(40, 4))}
    found = compared([ways, ways], [(losses, seen)] * 2, OURS, "none")
    assert found[OURS]["order"] == [1.0, 1.0, 1.0]
    assert found["opposite"]["order"] == [-1.0, -1.0, -1.0]
    assert found["opposite"]["ours less it"] == [2.0, 2.0, 2.0]
    assert found["none"]["beyond control"] == [0.0, 0.0, 0.0]
    low, high = found["none"]["order"][1:]
    assert low < 0 < high


def line_of(**orders_: float) -> dict[str, Any]:
    def interval(mean: float) -> list[float]:
        return [mean, mean - 0.05, mean + 0.05]

    names = {"ours": OURS, "named": NAMED, "best": BEST, "area": AREA, "usual": USUAL, "own": USUAL_OF_CLASS}
    values = {names.get(key, key): value for key, value in orders_.items()}
    return {
        "networks": 2,
        "ways": {
            name: {
                "order": interval(value),
                "top": interval(value),
                "across": interval(value),
                "ours less it": interval(values[OURS] - value),
                "beyond control": interval(value - values[AREA]),
            }
            for name, value in values.items()
        },
    }


def test_the_claims_follow_from_the_intervals() -> None:
    good = line_of(ours=0.8, named=0.7, best=0.3, area=0.3, usual=0.5, own=0.9, gradient=0.4)
    found = claims.claims([{"network": 0}, {"network": 1}, good])
    assert [one.verdict for one in found] == ["holds", "holds in part", "holds in part"]
    bad = line_of(ours=0.3, named=0.2, best=0.1, area=0.35, usual=0.5, own=0.9, gradient=0.6)
    found = claims.claims([{"network": 0}, bad])
    assert [one.verdict for one in found] == ["does not hold"] * 3
    assert "gradient" in found[0].figure
