"""What the seed of a training decides: first weights, order of the images, shifts and dropout, each by itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from interpnet.datasets import ImageData
from interpnet.models import SmallCNN, _training, fit_smallcnn, train

IMAGES = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 3


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained(seed: int, *, dropout: float = 0.0, max_shift: int = 0) -> torch.Tensor:
    """Return the weights after two epochs from the same start, on the same batches."""
    torch.manual_seed(9)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 3))
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=6)
    train(model, loader, epochs=2, max_shift=max_shift, seed=seed, progress=False)
    return weights(model)


@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"max_shift": 2}], ids=str)
def test_the_seed_decides_what_is_dropped_and_shifted(options: dict[str, Any]) -> None:
    assert torch.equal(trained(0, **options), trained(0, **options))
    assert not torch.equal(trained(0, **options), trained(1, **options))
    # Without anything random it decides nothing.
    assert torch.equal(trained(0), trained(1))


def test_every_argument_reaches_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ImageData.from_dataset(TensorDataset(IMAGES, LABELS), ["a", "b", "c"])
    calls: list[dict[str, Any]] = []

    def listening(model: nn.Module, loader: Any, **options: Any) -> Any:
        labels = [batch.labels.tolist() for batch in loader]
        calls.append({"weights": weights(model), "labels": labels, "images": loader.n_images} | options)
        return _training.History(())

    monkeypatch.setattr(_training, "train", listening)
    for seed in (0, 0, 1):
        fit_smallcnn(
            data, indices=range(21), epochs=4, batch_size=5, lr=0.1, width=4, max_shift=3, seed=seed, progress=False
        )
    first, again, other = calls
    assert torch.equal(first["weights"], again["weights"])
    assert first["labels"] == again["labels"]
    assert not torch.equal(first["weights"], other["weights"])
    assert first["labels"] != other["labels"]
    assert [len(batch) for batch in first["labels"]] == [5, 5, 5, 5, 1]
    assert (first["images"], first["epochs"], first["lr"], first["max_shift"]) == (21, 4, 0.1, 3)
    assert (first["seed"], other["seed"], first["progress"]) == (0, 1, False)
    assert torch.equal(first["weights"], weights(SmallCNN(1, 3, 8, 4, seed=0)))
    fit_smallcnn(data, width=4, progress=False)
    # 150,000 images to see would be 6250 epochs of these; a fourteenth of 8 pixels is one.
    assert (calls[-1]["epochs"], calls[-1]["max_shift"], len(calls[-1]["labels"])) == (30, 1, 1)


def test_one_optimiser_step_is_that_of_adamw_at_the_rate_of_the_cycle() -> None:
    """Four batches of one epoch: the rates are those of a rise over a fifth, then a cosine."""
    torch.manual_seed(9)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    twin = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    twin.load_state_dict(model.state_dict())
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=6)
    history = train(model, loader, epochs=1, lr=0.05, weight_decay=0.2, progress=False)
    rates = [0.02, *(0.5 * (1 + math.cos(math.pi * (done - 0.2) / 0.8)) for done in (0.25, 0.5, 0.75))]
    optimiser = torch.optim.AdamW(twin.parameters(), lr=1.0, weight_decay=0.2)
    losses = []
    right = 0
    for rate, (images, labels) in zip(rates, loader, strict=True):
        optimiser.param_groups[0]["lr"] = 0.05 * rate
        logits = twin(images)
        loss = nn.functional.cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        right += int((logits.argmax(1) == labels).sum())
    torch.testing.assert_close(weights(model), weights(twin))
    assert history.epochs[0].loss == pytest.approx(sum(losses) / 4, rel=1e-6)
    assert history.epochs[0].accuracy == pytest.approx(right / 24)
