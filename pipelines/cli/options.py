"""The options of a command, made from the fields of the settings it takes; importing this needs no heavy library.

Every option's default is ``None``, "not given": the value then comes from ``run.toml`` or, in a new run, from the
settings' own defaults, which the help texts name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from functools import wraps
from importlib import import_module
from inspect import Parameter, Signature, cleandoc
from typing import Annotated, Any

import typer

from ..run.config import RunConfig
from ..run.cue import SHORTCUTS
from ..run.settings import FOLDER, PANELS, SECTIONS, About, Given, Settings, about, kind, option, setting
from ..run.several import is_first, takes_part
from .failures import one_line_errors

_DATA = SECTIONS["data"]

Entry = Field[Any]


@dataclass(frozen=True)
class Request(Settings):
    """What a command was asked for that is no setting of a run."""

    run: str = setting("", "An existing run folder.", names="RUN", required=True)
    kind: str = setting(
        "flowers",
        "flowers: a small network of drawn flowers. photos: a network trained on ImageNet and photographs "
        "(pip install interpnet[photos]).",
        names="DEMO",
        metavar="[flowers|photos]",
        choices=("flowers", "photos"),
    )
    out: str | None = setting(None, "The run folder.", panel=FOLDER, shown="runs/MODEL-DATA", metavar="DIR")
    config: str | None = setting(
        None, "Take settings from this run.toml; options given here override it.", panel=FOLDER, metavar="FILE"
    )
    fresh: bool = setting(False, "Start the run folder over instead of going on.", panel=FOLDER, names="--fresh")
    shard: str | None = setting(
        None,
        "Collect the I-th of N shards alone, from 1 to N, on a machine without a network to the others.",
        panel=FOLDER,
        metavar="I/N",
    )
    runs: Sequence[str] = setting((), "The run folders of all shards.", names="RUN...", required=True)
    open_report: bool = setting(False, "Open the report in a browser.", panel=FOLDER, names="--open")
    figures: str | None = setting(
        None,
        "Write the figures into this folder, too: PNG, SVG, and CSV with the numbers.",
        panel=FOLDER,
        metavar="DIR",
    )
    pdf: bool = setting(
        False, "Print the report as report/index.pdf, too, with a browser of this machine.", panel=FOLDER, names="--pdf"
    )
    image: Sequence[str] = setting((), "Explain this image file instead; repeat for more.", metavar="FILE")
    cls: str | None = setting(
        None, "Explain the images for this class.", shown="the predicted one", metavar="NAME", names="--class"
    )
    between: tuple[str, ...] = setting(
        (),
        "Classes that are compared in the photographs, by name or number, comma-separated or repeated.",
        panel=SECTIONS["explain"],
        shown="the two most probable",
        metavar="CLASSES",
    )
    shortcut: str | None = setting(
        None,
        "Plant a cue outside the plant that agrees with the class (an8flower only).",
        panel=_DATA,
        shown="none",
        metavar="|".join(SHORTCUTS),
    )
    strength: float | None = setting(
        None,
        "Share of the training images in which the cue agrees, 0 to 1; in the test it is drawn by chance.",
        panel=_DATA,
        shown="1",
    )
    json: bool = setting(False, "Print JSON in the place of a table.", names="--json")
    other: str = setting("", "Another run folder: what changed in it is told.", names="OTHER", required=True)
    against: str | None = setting(
        None,
        "Compare with this run, too: fails where the accuracy or any class's recall fell beyond chance.",
        panel=SECTIONS["check"],
        metavar="RUN",
    )
    html: str | None = setting(None, "Write a page, one file that opens anywhere.", metavar="FILE.html")
    quiet: bool = setting(False, "Print nothing but errors; the exit code says the rest.", names="--quiet")
    log: str | None = setting(
        None, "Add to this file what is printed, quiet or not, with the time and how it ends.", metavar="FILE"
    )
    junit: str | None = setting(
        None, "Write what was checked as JUnit XML, which GitLab, Jenkins and others show.", metavar="FILE.xml"
    )
    github: bool | None = setting(
        None,
        "Print a finding as an annotation of GitHub Actions.",
        names="--github/--no-github",
        shown="where GITHUB_ACTIONS is set",
    )
    epochs: int | None = setting(None, "Passes over the images.", shown="to see 150,000 images")
    lr: float | None = setting(None, "Highest learning rate.", shown="0.003")
    width: int | None = setting(None, "Channels of the first layer.", shown="16")


def takes(
    module: str, settings: str, request: str, own: type[Settings] | None = None, **changed: Mapping[str, Any]
) -> Callable[[Callable[[], None]], Callable[..., None]]:
    """Return a decorator that makes a function the command of its name, with the help its docstring gives.

    Parameters
    ----------
    module : str
        Beside this one; its function of that name does the work. It is imported only when the command runs.
    settings : str
        The settings of a run it takes: names, and sections in brackets as in ``run.toml``; ``"[solve] seed"``.
    request : str
        Names of :class:`Request`'s fields.
    own : type, optional
        Settings of this command alone; the work receives those that were given as a third argument.
    **changed
        By name, what :class:`About` an option says differently here.
    """
    wanted = settings.split()
    of_run = [entry for entry in fields(RunConfig) if {entry.name, f"[{about(entry).section}]"} & {*wanted}]
    of_run.sort(key=lambda entry: list(SECTIONS).index(about(entry).section))
    of_request = [entry for entry in fields(Request) if entry.name in request.split()]
    of_own: list[Entry] = []
    if own is not None:
        of_own = list(fields(own))
    offered = [(entry, replace(about(entry), **changed.get(entry.name, {}))) for entry in of_run + of_request + of_own]
    offered = sorted((pair for pair in offered if pair[1].help), key=lambda pair: PANELS.index(pair[1].panel))

    def decorate(described: Callable[[], None]) -> Callable[..., None]:
        @wraps(described)
        def command(**words: Any) -> None:
            if not takes_part(described.__name__):
                return
            from ..run.console import printing

            with one_line_errors():
                work = getattr(import_module(f".{module}", __package__), described.__name__)
                asked = Request(**Given.read(of_request, words).values)
                parsed: list[Any] = [Given.read(of_run, words), asked]
                if of_own:
                    parsed.append(Given.read(of_own, words))
                # Of several processes one prints, and keeps the log.
                log = asked.log if is_first() else None
                with printing(described.__name__, quiet=asked.quiet, log=log, json=asked.json):
                    work(*parsed)

        command.__doc__ = flowing(described.__doc__ or "")
        # Typer makes a command's options of its function's signature.
        command.__signature__ = Signature([_parameter(*pair) for pair in offered])  # type: ignore[attr-defined]
        return command

    return decorate


def flowing(text: str) -> str:
    """Return a docstring as help: the terminal breaks the lines of its paragraphs, and examples keep theirs."""
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(part if part.startswith("[green]") else part.replace("\n", " ") for part in paragraphs)


def _parameter(entry: Entry, known: About) -> Parameter:
    """Return a setting as a parameter from which Typer makes an option or an argument."""
    known_kind = kind(entry)
    words: Any = known_kind.word | None
    default: Any = None
    if known.required:
        words = known_kind.word
        default = Parameter.empty
    metavar = known.metavar or "|".join(known.choices) or known_kind.metavar
    if known.names and not known.names.startswith("-"):
        info = typer.Argument(help=known.help, metavar=known.metavar or known.names, show_default=False)
    else:
        info = typer.Option(
            known.names or option(entry.name),
            help=known.help,
            rich_help_panel=known.panel or None,
            show_default=known.shown or _in_words(entry.default),
            metavar=metavar,
        )
    return Parameter(entry.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[words, info])


def _in_words(default: Any) -> str | bool:
    """Return a default as the help shows it; ``False`` shows nothing."""
    if isinstance(default, tuple):
        default = ",".join(default)
    if isinstance(default, float):
        default = f"{default:g}"
    if default is None or default is False or default == "":
        return False
    return str(default)
