"""One invocation at work on a run folder: its settings, its subject, and how a stage is run and recorded."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from interpnet.errors import InterpNetError, RunFolderError
from interpnet.support.ranks import ALONE, Ranks
from interpnet.support.text import printable

from .config import RunConfig
from .console import make_console
from .folder import RunFolder, now
from .identity import differences
from .notes import Notes
from .stopping import stop_asked
from .trust import allow_code

if TYPE_CHECKING:
    from .images import Own
    from .subject import Subject

# What need not be the same for processes on several machines.
_OF_A_MACHINE = frozenset({"device", "workers", "directory"})


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, with what to tell the user."""


#: The work of a stage: may leave notes, and returns facts for the manifest.
Work = Callable[["Notes"], dict[str, Any]]


@dataclass
class Session:
    """A run folder with the settings of this invocation."""

    run: RunFolder
    config: RunConfig
    resume: str  # the command that goes on where this one stops
    fresh: bool = False  # delete what the run folder holds, once the model and the images are known to be good
    named: frozenset[str] = frozenset()  # which of model and data the command line names: their files may run
    own_folders: tuple[Path, ...] = ()  # of files with settings: what lies in them may run, too
    wanted_shard: tuple[int, int] | None = None  # the i-th of n shards, which this command is to collect alone
    own: Own | None = None  # a program's objects in the place of what the settings name
    console: Console = field(default_factory=make_console)
    tables: bool = True  # whether what a stage found is shown as a table
    # What stages found out on the way, by name, so that others need not again.
    memo: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def loaded(self) -> Subject:
        """The network and its images, loaded once; the run folder is not touched."""
        from .own_code import register_named
        from .subject import load_subject

        allow_code(self.config, named=self.named, folders=(self.run.path, *self.own_folders))
        register_named(self.config)
        with warnings.catch_warnings():
            # Sites that cannot be used stand in the subject's notes.
            warnings.simplefilter("ignore", UserWarning)
            return load_subject(self.config, self.own)

    @property
    def independent(self) -> bool:
        """Whether an image of this run can have several labels; the subject must have been opened once."""
        return bool((self.run.manifest.get("model") or {}).get("outputs") == "independent")

    @cached_property
    def subject(self) -> Subject:
        """The network and its images; the run folder is claimed for them, and started over if asked."""
        subject = self.loaded
        run = self.run
        if self.fresh:
            run.clear()
        elif not run.has_results():
            # A command that failed early must not bind the corrected one.
            run.forget()
        run.claim_shard(self.wanted_shard)
        known = run.manifest.get("model", {})
        described = subject.describe(known)
        run.claim(subject.identity(described), differences(run.manifest, described))
        notes = list(subject.notes)
        if known.get("code") != described["model"]["code"] and known:
            notes.append(
                f"The text of the model's file ({self.config.model}) changed since this run began; its weights and the "
                "operators of a forward pass are the same, so the run goes on."
            )
            described["model"]["code"] = known["code"]  # of the run: the note stays
        for split, entry in run.manifest.get("data", {}).items():
            described["data"][split]["skipped"] = entry.get("skipped", [])  # the stages found these, not the loading
        run.manifest.update(described, device=str(subject.device), seed=self.config.seed, subject_notes=notes)
        own_code = {**self.own_code("methods"), **self.own_code("rankings")}
        if own_code:
            run.manifest["own_code"] = {**run.manifest.get("own_code", {}), **own_code}
        run.store(self.config)
        run.save()
        self.say_notes(notes)
        return subject

    def own_code(self, setting: str) -> dict[str, str]:
        """Return digests of the user's own methods or rankings; of what is not at hand, those that the run noted."""
        from .own_code import code_digests

        noted: dict[str, str] = self.run.manifest.get("own_code", {})
        return code_digests(self.config, setting, noted)

    @property
    def shard(self) -> tuple[int, int] | None:
        """Which of how many shards this run holds alone; None for a run of all images."""
        found = self.run.manifest.get("shard")
        if found is None:
            return None
        return (found[0], found[1])

    def open_subject(self) -> None:
        """Load the subject and claim the folder for it, unless that is done."""
        _ = self.subject

    @property
    def ranks(self) -> Ranks:
        """The processes at work on this run, of which this is one."""
        return self.run.ranks

    @property
    def group(self) -> Any:
        """Their process group, for functions that take one; None for a process alone."""
        return self.run.ranks.group

    def say(self, text: str) -> None:
        """Print a line of rich markup."""
        self.console.print(printable(text), highlight=False, soft_wrap=True)

    def say_notes(self, notes: Sequence[str], margin: str = "") -> None:
        """Print notes, whatever they hold, as such."""
        for note in notes:
            self.say(f"{margin}[yellow]note:[/] {escape(printable(note))}")

    def perform(
        self,
        stage: str,
        key: str,
        work: Work,
        *,
        files: Sequence[str] = (),
        check: Callable[[], dict[str, str]] = dict,
        split: bool = False,
    ) -> bool:
        """Run a stage unless it is done with these very inputs; return whether it ran.

        ``key`` is the digest of everything the stage depends on. ``files`` is what it leaves, relative to the run
        folder: it counts as done while they are there and as they were written. ``check`` looks for more damage: files,
        each with what is wrong. Damaged files are deleted and the stage is done again. After Ctrl-C or SIGTERM the
        manifest says so, and the message of :class:`Interrupted` how to go on.

        Of several processes rank 0 decides and records. Each does the work of a stage that is ``split``; of another one
        rank 0 does it while the others wait.
        """
        if stop_asked():
            raise Interrupted(f"interrupted before stage {stage!r}. Go on with: {self.resume}")
        try:
            damage = self._damage(stage, key, check)
        except KeyboardInterrupt as error:
            raise Interrupted(f"interrupted before stage {stage!r}. Go on with: {self.resume}") from error
        if damage is None:
            self.say(f"[bold]{stage}[/]: up to date, skipped")
            return False
        self.say_notes([f"{name} {what}: {stage} is done again" for name, what in damage.items()])
        self.run.discard(damage)
        self.say(f"[bold]{stage}[/] ...")
        interrupted = f"interrupted in stage {stage!r}; run folder {str(self.run.path)!r} is whole"
        entry = self.record(stage, key, work, interrupted, files=files, split=split)
        self.say_notes(entry["notes"], margin="  ")
        self.say(f"[bold]{stage}[/]: done in {entry['seconds']:.1f} s")
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Work without the other processes, which wait for what comes of it."""
        ranks = self.run.ranks
        self.run.ranks = ALONE
        try:
            yield
        finally:
            self.run.ranks = ranks

    def _damage(self, stage: str, key: str, check: Callable[[], dict[str, str]]) -> dict[str, str] | None:
        """Return the damaged files for which a complete stage is done again; None where there is nothing to do."""
        self.ranks.agree("what is audited", self.run.manifest["identity"])
        settings = {name: value for name, value in asdict(self.config).items() if name not in _OF_A_MACHINE}
        self.ranks.agree("how", settings)
        self.ranks.agree(f"what the stage {stage!r} depends on", key)
        damage: dict[str, str] | None = {}
        if self.ranks.first and self.run.is_complete(stage, key):
            damage = self.run.damage(stage) or check() or None
        damage = self.ranks.share(damage)
        if damage is None:
            self.run.follow()
        return damage

    def record(
        self,
        stage: str,
        key: str,
        work: Work,
        interrupted: str,
        *,
        files: Sequence[str] = (),
        split: bool = False,
        **facts: Any,
    ) -> dict[str, Any]:
        """Do the work of a stage and note in the manifest how it went; return the manifest's entry.

        As :meth:`perform`, with ``interrupted``: what to say first after Ctrl-C, and ``facts`` known beforehand. Under
        ``written`` the work may return patterns of the files it wrote, by default ``files``: their checksums are kept.
        """
        facts = {"started": now(), **facts}
        clock = time.monotonic()
        self.run.mark(stage, "running", key, **facts)
        notes = Notes()
        finished = False
        how: dict[str, Any] = {}
        try:
            with notes.listening(), readable_memory_errors():
                done: dict[str, Any] = {}
                if split:
                    done = work(notes)
                elif self.ranks.first:
                    with self._alone():
                        done = work(notes)
            written = done.pop("written", files)
            seconds = {"seconds": round(time.monotonic() - clock, 3)}
            entry = facts | seconds | done | {"files": list(files), "notes": notes.texts}
            self.run.mark(stage, "complete", key, written=written, **entry)
            finished = True
            self.run.follow()
        except KeyboardInterrupt as error:
            raise Interrupted(f"{interrupted}. Go on with: {self.resume}") from error
        except Exception:
            how = {"failed": True}
            raise
        finally:
            # Whatever ends a stage early, the manifest must not say that it is running. A full disk has been told.
            if not finished:
                with suppress(RunFolderError):
                    self.run.mark(stage, "interrupted", key, **facts, **how)
        return self.run.stage(stage)


@contextmanager
def readable_memory_errors() -> Iterator[None]:
    """Turn an accelerator's out-of-memory error into advice."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InterpNetError(
            "the accelerator ran out of memory; use a smaller --batch-size, or --device cpu"
        ) from error
