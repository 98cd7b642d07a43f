"""The shape of JUnit XML that its readers agree on (Apache Ant's schema, JUnit.xsd), written down by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

NUMBER = r"\d+"
SECONDS = r"\d+(\.\d+)?"
TEXT = r"(?s).+"
ANY = r"(?s).*"
# What the attributes of each element are; all that it must have, and what it may.
REQUIRED: Mapping[str, Mapping[str, str]] = {
    "testsuites": {},
    "testsuite": {
        "package": TEXT,
        "id": NUMBER,
        "name": TEXT,
        "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
        "hostname": TEXT,
        "tests": NUMBER,
        "failures": NUMBER,
        "errors": NUMBER,
        "time": SECONDS,
    },
    "properties": {},
    "property": {"name": TEXT, "value": ANY},
    "testcase": {"name": TEXT, "classname": TEXT, "time": SECONDS},
    "failure": {"type": TEXT},
    "error": {"type": TEXT},
    "skipped": {},
    "system-out": {},
    "system-err": {},
}
OPTIONAL: Mapping[str, Mapping[str, str]] = {
    "testsuite": {"skipped": NUMBER},
    **{name: {"message": ANY} for name in ("failure", "error", "skipped")},
}
# The elements within each, in order, as a pattern of their names.
WITHIN = {
    "testsuites": r"(testsuite )*",
    "testsuite": r"properties (testcase )*system-out system-err ",
    "properties": r"(property )*",
    "testcase": r"((skipped |error |failure )?|system-out )",
}


def read_junit(path: Path) -> ET.Element:
    """Read a file, check its shape and its counts, and return its suite."""
    root = ET.parse(path).getroot()  # noqa: S314 - of our own making
    assert root.tag == "testsuites"
    for element in root.iter():
        required = REQUIRED[element.tag]
        known = {**required, **OPTIONAL.get(element.tag, {})}
        assert set(required) <= set(element.attrib) <= set(known), element.tag
        for name, value in element.attrib.items():
            assert re.fullmatch(known[name], value), (element.tag, name, value)
        inside = "".join(f"{child.tag} " for child in element)
        assert re.fullmatch(WITHIN.get(element.tag, ""), inside), (element.tag, inside)
    (suite,) = root
    cases = suite.findall("testcase")
    counts = {"tests": len(cases)}
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        counts[name] = sum(case.find(tag) is not None for case in cases)
    assert {name: int(suite.attrib[name]) for name in counts} == counts
    return suite
