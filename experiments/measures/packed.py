"""M2's results file: a row for each network and method, with a cell for each measure; the lines are made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from experiments.common.runner import Results
from experiments.common.tables import Line
from interpnet.support.io import write_text

_SHARED = ("network", "method", "device", "commit")


def unpacked(file: Path) -> list[Line]:
    """Return the lines of a file: one for each network, method and measure."""
    lines = []
    for row in json.loads(file.read_text()):
        shared = {name: row[name] for name in _SHARED}
        lines += [{**shared, "measure": measure, **cell} for measure, cell in row["cells"].items()]
    return lines


def packed(lines: Iterable[Line]) -> str:
    """Return what a file holds: what the measures of a method share once, and no count of constant maps that is 0."""
    rows: dict[tuple[str, ...], dict[str, Line]] = {}
    for line in lines:
        left_out = {*_SHARED, "measure"} | ({"constant"} if not line.get("constant") else set())
        cell = {name: value for name, value in line.items() if name not in left_out}
        rows.setdefault(tuple(line[name] for name in _SHARED), {})[line["measure"]] = cell
    found = [{**dict(zip(_SHARED, shared, strict=True)), "cells": cells} for shared, cells in rows.items()]
    texts = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in found]
    return "[\n" + ",\n".join(texts) + "\n]\n"


class Packed(Results):
    """The results in such a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines = unpacked(file) if file.exists() else []

    def write(self) -> None:
        """Write the file, a row for each network and method."""
        write_text(self.file, packed(self.lines))
