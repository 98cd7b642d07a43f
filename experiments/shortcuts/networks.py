"""Train a subject and see how it behaves: what it gets right where the cue agrees, where not, and without one."""

from __future__ import annotations

from pathlib import Path

from experiments.shortcuts.plan import SIZE, Subject
from interpnet.datasets import make_loader
from interpnet.models import SmallCNN, accuracy, load_smallcnn, save_smallcnn, train

EPOCHS = 8
#: A network relies on its cue if it loses at least so much where the cue disagrees.
RELIES = 0.10


def network(subject: Subject, work: Path, *, epochs: int = EPOCHS, n: int | None = None) -> SmallCNN:
    """Return the trained network, from the working folder where it is there."""
    file = work / f"network-{subject.seed}.safetensors"
    if file.exists():
        return load_smallcnn(file)
    data = subject.data("train", work, n=n)
    model = SmallCNN(3, len(data.classes), SIZE, 8, hidden=subject.hidden, seed=subject.seed)
    loader = make_loader(data, batch_size=64, shuffle=True, seed=subject.seed)
    train(model, loader, epochs=epochs, max_shift=SIZE // 14, seed=subject.seed, progress=False)
    save_smallcnn(model, file)
    return model


def behaviour(model: SmallCNN, subject: Subject, work: Path, *, n: int | None = None) -> dict[str, float]:
    """Return accuracies on the splits, and ``reliance``: where the cue agrees minus where it disagrees (0 without)."""

    def reached(split: str, *, planted: bool = True) -> float:
        return accuracy(model, make_loader(subject.data(split, work, planted=planted, n=n), batch_size=100))

    found = {"clean": reached("test", planted=False), "validation": reached("validation")}
    if subject.kind is None:
        return {**found, "reliance": 0.0}
    found |= {"agree": reached("test-agree"), "disagree": reached("test-disagree")}
    return {**found, "reliance": found["agree"] - found["disagree"]}
