"""Print the oldest versions that pyproject.toml allows, as constraints for pip.

    python tests/helpers/minimum.py pyproject.toml > constraints.txt

Every lower bound of the dependencies and of the extras that users install becomes an exact version; the tools of
development (the extra `dev`) stay free.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def constraints(project: dict) -> list[str]:
    """Return `name==version` for each requirement with a lower bound."""
    extras = project["optional-dependencies"]
    requirements = list(project["dependencies"])
    for name, needed in extras.items():
        if name != "dev":
            requirements += needed
    lines = []
    for requirement in requirements:
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", requirement)
        if match is None:
            raise SystemExit(f"{requirement!r} in pyproject.toml has no plain lower bound")
        lines.append(f"{match[1]}=={match[2]}")
    return lines


if __name__ == "__main__":
    settings = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print("\n".join(constraints(settings["project"])))
