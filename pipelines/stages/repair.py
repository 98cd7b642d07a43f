"""Repairing a network that was found to go by a shortcut: weights, figures before and after, and pictures.

Beside an audit: its stages neither need this nor wait for it. Images with exchanged parts come from the search, which
runs again, for a file of findings holds no images.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import evaluating, forward_logits, log_odds, to_device
from interpnet.errors import InterpNetError
from interpnet.models import SmallCNN, smallcnn_extra
from interpnet.plotting import enlarge, save_png
from interpnet.shortcuts import ClassFinding, Findings, Repair, repair
from interpnet.support.class_names import chosen_classes
from interpnet.support.io import remove_tree, write_json
from interpnet.support.types import Int64

from ..run.chosen import chosen
from ..run.config import RunConfig
from ..run.cue import described
from ..run.folder import digest
from ..run.images import load_images
from ..run.notes import Notes
from ..run.repair import AUDIT_FILE, FORMAT, REPAIR_FILE, WEIGHTS_FILE, load_repair, picture_names
from ..run.repair_settings import RepairSettings
from ..run.session import Session
from ..run.shortcuts import load_shortcuts
from ..run.split import Batches, Split, balanced
from .shortcuts import FOUND, SUBJECT, run_shortcuts, search, searched_key

_VERSION = 1  # a change of what is written makes earlier results stale
_SIZE = 192  # pixels of a picture
_MOST_PICTURED = 12  # classes
_EXAMPLES = 2  # of a class
# Fewer test images decide nothing: two fifths of them are what a repair is accepted on.
_FEWEST_TEST = 100
# Of a model's file, what is no longer so of other weights.
_OF_OLD_WEIGHTS = ("key", "epochs", "test_accuracy")
_HOW = re.compile(r"how='(\w+)'")


def run_repair(session: Session, settings: RepairSettings) -> dict[str, Any]:
    """Search where that has not been done, repair, and write ``repair/``; return what ``repair.json`` holds.

    ``InterpNetError`` where the run cannot be searched, or a way that was asked for by name cannot be gone.
    """
    session.open_subject()
    run_shortcuts(session)
    refused = session.run.stage("shortcuts").get("refused")
    if refused is not None:
        raise InterpNetError(f"there is nothing to repair by: shortcuts were not searched, {_lower(refused)}")
    searched = searched_key(session)
    config = session.config
    used = [config.max_images, config.max_ablation_images]
    key = digest(["repair", _VERSION, searched, session.run.manifest["identity"], used, asdict(settings)])

    def work(notes: Notes) -> dict[str, Any]:
        return {"searched": searched, **_Work(session, settings, notes).run()}

    session.perform("repair", key, work, files=(REPAIR_FILE,))
    facts = load_repair(session.run.path)
    if facts is None:
        raise InterpNetError(f"{str(session.run.path / REPAIR_FILE)!r} has gone; run the command again")
    return facts


def in_options(text: str) -> str:
    """Return what the library says with options of the command line in the place of arguments.

    Examples
    --------
    >>> in_options("no linear layer; how='training' is left")
    'no linear layer; --how training is left'
    """
    return _HOW.sub(r"--how \1", text)


def _lower(sentence: str) -> str:
    """Return a sentence as the end of another one."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")


class _Work:
    """One repair in the making."""

    def __init__(self, session: Session, settings: RepairSettings, notes: Notes) -> None:
        self.session = session
        self.subject = session.subject
        self.settings = settings
        self.notes = notes
        self.folder = session.run.folder("repair")

    def run(self) -> dict[str, Any]:
        """Repair and write all files; return facts for the manifest. What an earlier repair left stays until then."""
        facts: dict[str, Any] = {"format": FORMAT, "classes": list(self.subject.classes)}
        facts |= {"settings": asdict(self.settings), "accepted": False, "weights": None}
        found = self._findings()
        facts["suspicious"] = [_told(one) for one in found.suspicious]
        if not found.suspicious:
            remove_tree(self.folder)
            facts["why"] = "no class is suspicious"
            if self._masked:
                facts["why"] += " where nobody knows where the subjects are, as in new images"
            return self._written(facts)
        train, validation, used = self._images()
        made = self._repaired(found, train, validation)
        remove_tree(self.folder)
        facts |= made.facts() | {"images": used}
        facts["why"] = in_options(made.why)
        facts["without"] = {how: in_options(why) for how, why in made.without.items()}
        self._note_coarse(made)
        if made.accepted:
            facts |= self._of_accepted(made, found)
        return self._written(facts)

    def _written(self, facts: dict[str, Any]) -> dict[str, Any]:
        write_json(self.session.run.path / REPAIR_FILE, facts)
        return {"accepted": facts["accepted"], "written": ("repair/*",)}

    def _findings(self) -> Findings:
        """Return what the search found suspicious, with what exchanges it, of the classes that are to be repaired."""
        session = self.session
        known = load_shortcuts(session.run.path)
        if known is not None and not known.suspicious:
            return known
        found: Findings | None = session.memo.get(FOUND)
        if found is None or self._masked:
            why = "a file of findings holds no images"
            if self._masked:
                why += ", and new images no masks"
            session.say(f"  the search runs again, for {why}")
            found, refused = search(session, chosen(session), Notes(), masks=False, pasted=False)
            if found is None:
                raise InterpNetError(f"shortcuts cannot be searched again: {_lower(refused)}")
        if self._masked:
            self.notes.add("Searched without the masks of the subjects, which other images do not have.")
        return self._wanted(found)

    @property
    def _masked(self) -> bool:
        """Whether the search of the run knew where the subjects are."""
        return SUBJECT in (self.subject.train.data.masks or {})

    def _wanted(self, found: Findings) -> Findings:
        """Return the findings of the classes that ``--only`` names."""
        if not self.settings.only:
            return found
        classes = list(self.subject.classes)
        numbers = chosen_classes(self.settings.only, classes, "--only")
        suspicious = [one.index for one in found.suspicious]
        for number in numbers:
            if number not in suspicious:
                named = ", ".join(classes[index] for index in suspicious) or "none"
                raise InterpNetError(f"--only names {classes[number]!r}, which is not suspicious; those are: {named}")
        return found.among(numbers)

    def _images(self) -> tuple[Batches, Batches | None, dict[str, Any]]:
        """Return the images to fit with, those to choose and measure with where there are any, and what they are."""
        subject = self.subject
        train = self._some(subject.train, "train", subject.train_indices())
        test = self._some(subject.test, "test", subject.test_indices())
        used: dict[str, Any] = {"train": len(train), "test": len(test), "held": "test"}
        held = (
            "a fifth of each class's training images was held out. A network knows these by heart, so that a repair "
            "seems to cost more than on new ones"
        )
        why = ""
        if subject.train.data.fingerprint() == subject.test.data.fingerprint():
            why = "There are no test images"
        elif subject.test.data.shape != subject.train.data.shape:
            why = "The test images are of another size than the training images"
        elif len(test) < _FEWEST_TEST:
            why = f"{len(test)} test images are too few to choose and measure with"
        validation = None
        if why:
            self.notes.add(f"{why}: {held}.")
            used |= {"test": 0, "held": "train"}
        else:
            validation = subject.batches(subject.test, test)
        if len(train) < len(subject.train.data):
            self.notes.add(
                f"Repaired with {len(train)} of {len(subject.train.data)} training images, balanced by class "
                "(--max-images)."
            )
        return subject.batches(subject.train, train), validation, used

    def _some(self, split: Split, name: str, indices: Int64) -> Int64:
        """Return at most so many of the images in use, without those that cannot be read."""
        unreadable = [row[0] for row in self.session.run.manifest["data"][name].get("skipped", [])]
        indices = indices[~np.isin(indices, unreadable)]
        return indices[balanced(split.labels[indices], self.settings.max_images, self.session.config.seed)]

    def _repaired(self, found: Findings, train: Batches, validation: Batches | None) -> Repair:
        settings = self.settings
        subject = self.subject
        try:
            return repair(
                subject.model,
                train,
                found,
                how=settings.how,
                max_clean_loss=settings.max_clean_loss,
                clean=settings.clean,
                validation=validation,
                epochs=settings.epochs,
                seed=self.session.config.seed,
                device=subject.device,
                output=subject.output,
            )
        except InterpNetError as error:
            raise type(error)(in_options(str(error))) from error

    def _note_coarse(self, made: Repair) -> None:
        """Say where the bound is finer than the images can tell."""
        one = 1 / made.before.n
        if one > self.settings.max_clean_loss:
            self.notes.add(
                f"One of the {made.before.n} images held out is {one:.1%} of the accuracy, more than the bound of "
                f"{self.settings.max_clean_loss:.2%}: no net loss of an image was allowed. More images (--max-images), "
                "or --max-clean-loss."
            )

    def _of_accepted(self, made: Repair, found: Findings) -> dict[str, Any]:
        """Write the weights and what loads them; return facts of an accepted repair."""
        session = self.session
        path = session.run.path / WEIGHTS_FILE
        made.save(path, self._extra())
        audited(session).save(session.run.path / AUDIT_FILE)
        return {
            "weights": WEIGHTS_FILE,
            "groups": self._groups(made.model),
            "examples": [e for one in found.suspicious[:_MOST_PICTURED] for e in self._examples(one, made.model)],
        }

    def _extra(self) -> dict[str, Any]:
        """Return what the old file of a SmallCNN says that is still so."""
        config = self.session.config
        if not isinstance(self.subject.model, SmallCNN) or config.weights is None:
            return {}
        extra = smallcnn_extra(config.path(config.weights))
        return {name: value for name, value in extra.items() if name not in _OF_OLD_WEIGHTS}

    def _groups(self, model: nn.Module) -> dict[str, list[float]]:
        """Return the accuracy before and after where a cue was planted and agrees with the class, and where not."""
        session = self.session
        if described(session.config.data) is None:
            return {}
        found = {}
        for name in ("agree", "disagree"):
            data = load_images(session.config, f"test-{name}", self.subject.info.preprocessing)
            split = Split(data, self.subject.train.outputs)
            found[name] = [self._accuracy(one, split) for one in (self.subject.model, model)]
        return found

    def _accuracy(self, model: nn.Module, split: Split) -> float:
        right = [
            self._logits(model, batch.images).argmax(1) == batch.labels
            for batch in self.subject.batches(split, np.arange(len(split.data)))
        ]
        return float(torch.cat(right).double().mean())

    def _logits(self, model: nn.Module, images: Tensor) -> Tensor:
        with torch.no_grad(), evaluating(model):
            return forward_logits(model, to_device(images, self.subject.device), self.subject.output).float().cpu()

    def _examples(self, one: ClassFinding, model: nn.Module) -> list[dict[str, Any]]:
        """Write pictures of images that the part of a class moved; return what both networks say of each."""
        made = []
        for number, example in enumerate(one.examples[:_EXAMPLES]):
            if example.pictures is None:
                continue
            images = example.pictures[[0, 2]]
            names = picture_names(one.index, number)
            for name, picture in zip(names, self.subject.train.data.displayed(images), strict=True):
                save_png(self.folder / name, enlarge(picture, _SIZE), durable=False)
            said: dict[str, Any] = {"class": one.index, "pictures": list(names)}
            for when, network in (("before", self.subject.model), ("after", model)):
                logits = self._logits(network, images)
                odds = log_odds(logits, torch.full((2,), one.index))
                said[when] = {"taken": logits.argmax(1).tolist(), "odds": odds.tolist()}
            made.append(said)
        return made


def _told(one: ClassFinding) -> dict[str, Any]:
    """Return a suspicious class for the file."""
    return {name: getattr(one, name) for name in ("index", "name", "part", "share", "low", "high", "usual")}


def audited(session: Session) -> RunConfig:
    """Return the settings of an audit of the repaired network: the run's, with other weights.

    Images are prepared as they were: where published weights brought that along, it is written out.
    """
    config = session.config
    values: dict[str, Any] = {}
    if session.subject.info.preprocessing is not None:
        used = session.subject.train.data.preprocessing
        for name in ("image_size", "crop", "mean", "std", "channels"):
            value = used.get(name)
            if isinstance(value, list):
                value = tuple(value)
            elif name != "channels" and value is not None:
                value = (value,)
            values[name] = value
    return replace(config, weights=str((session.run.path / WEIGHTS_FILE).resolve()), weights_key=None, **values)
