"""What was checked, for the programs that build and test: JUnit XML, and annotations of GitHub Actions."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from interpnet.support.io import write_text
from interpnet.support.text import printable

from ..run.console import writing
from .check import Check

_SUITE = "interpnet check"


def write_junit(path: Path, run: Path, found: Sequence[Check], mistake: str | None = None) -> None:
    """Write a test suite with a case for each check, atomically: a failure beyond its limit, skipped where not known.

    ``mistake`` is why nothing could be checked: the suite then has one case with an error. ``InterpNetError`` where the
    file cannot be written.
    """
    suites = ET.Element("testsuites")
    states = [one.passed for one in found]
    facts = {
        "name": _SUITE,
        "package": "interpnet",
        "id": "0",
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "hostname": printable(platform.node()) or "localhost",
        "tests": str(len(found) + (mistake is not None)),
        "failures": str(states.count(False)),
        "errors": str(int(mistake is not None)),
        "skipped": str(states.count(None)),
        "time": "0",
    }
    suite = ET.SubElement(suites, "testsuite", facts)
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", {"name": "run", "value": printable(run)})
    for one in found:
        case = _case(suite, run, one.name)
        sentence = printable(one.sentence)
        if one.passed is False:
            failure = ET.SubElement(case, "failure", {"message": sentence, "type": "limit"})
            failure.text = f"{one.name}: {sentence}"
        elif one.passed is None:
            ET.SubElement(case, "skipped", {"message": sentence})
        else:
            ET.SubElement(case, "system-out").text = sentence
    if mistake is not None:
        error = ET.SubElement(_case(suite, run, "the check"), "error", {"type": "mistake"})
        error.text = printable(mistake)
        error.set("message", error.text)
    for name in ("system-out", "system-err"):
        ET.SubElement(suite, name)
    ET.indent(suites)
    text = ET.tostring(suites, encoding="unicode")
    with writing("--junit", path):
        write_text(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n')


def _case(suite: ET.Element, run: Path, name: str) -> ET.Element:
    facts = {"classname": f"interpnet.{printable(run.name or run)}", "name": name, "time": "0"}
    return ET.SubElement(suite, "testcase", facts)


def github_lines(run: Path, found: Sequence[Check]) -> Iterator[str]:
    """Yield a line for each finding, and for what could not be looked at, as GitHub Actions shows them."""
    for one in found:
        level = {False: "error", None: "notice"}.get(one.passed)
        if level is not None:
            yield annotation(level, f"{_SUITE}: {one.name}", f"{run}: {one.sentence}")


def annotation(level: str, title: str, message: str) -> str:
    r"""Return a workflow command that annotates, whatever its texts hold.

    Examples
    --------
    >>> annotation("error", "a, b: 9 %", "first\\nsecond")
    '::error title=a%2C b%3A 9 %25::first%0Asecond'
    """
    return f"::{level} title={_escaped(title, ':,')}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    for letter in "%\r\n" + more:
        text = text.replace(letter, f"%{ord(letter):02X}")
    return printable(text)
