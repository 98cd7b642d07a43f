"""The settings of ``interpnet repair``, which are the command's own: a run is the same whatever was repaired of it."""

from __future__ import annotations

from dataclasses import dataclass

from interpnet.errors import InterpNetError

from .settings import Settings, setting

#: The library's, but for the one whose result is no file of weights.
HOW = ("auto", "ridge", "logistic", "projection", "training", "exchanged")


@dataclass(frozen=True)
class RepairSettings(Settings):
    """The settings of a repair; ``interpnet repair --help`` explains each.

    Examples
    --------
    >>> RepairSettings().override({"how": "ridge"}).max_clean_loss
    0.005
    """

    how: str = setting(
        "auto",
        "ridge, logistic: the last layer is fitted again, drawn to its old weights; projection: the part's directions "
        "are taken out of it; training: the network is trained on, exchanged: on images with another's part alone. "
        "auto: the one that gains most; it trains only where the others leave something to gain.",
        choices=HOW,
    )
    max_clean_loss: float = setting(
        0.005,
        "The most accuracy that may be lost on images as they are: 0.005 is half a point.",
        least=0,
        below=1.000001,
        expected="a share from 0 to 1",
    )
    clean: str = setting(
        "all",
        "Of which images: all, or unmoved, those alone that the old network is as right about with another's part. "
        "Where nearly every image has the cue, no network without it can be as right about all.",
        choices=("all", "unmoved"),
    )
    only: tuple[str, ...] = setting(
        (),
        "Repair what these suspicious classes go by, by name or number, and leave the others, which may go by it.",
        shown="all suspicious classes",
        metavar="CLASS",
    )
    epochs: int = setting(4, "Of training on.", least=1)
    max_images: int = setting(
        2000,
        "Fit with so many training images, and choose and measure with so many test images, balanced by class.",
        least=10,
    )

    def __post_init__(self) -> None:
        if self.how == "reactive":
            raise InterpNetError(
                "--how is 'reactive', which puts a layer of its own into the network: its weights are no file that the "
                "same model loads. Expected projection, which takes the same directions out of the weights; from "
                "Python, interpnet.shortcuts.repair(..., how='reactive') gives the network itself"
            )
        super().__post_init__()
