"""Names of the 1000 ImageNet outputs for a folder that holds one image of every even class, in order.

    python -m experiments.audits.names samples > names.txt

The odd classes are not in that folder; they are called held-out-N.
"""

from __future__ import annotations

import sys
from pathlib import Path


def names(folder: Path, n_classes: int = 1000) -> list[str]:
    """Return the model's class names; folder number i is output 2i."""
    folders = sorted(p.name for p in folder.iterdir() if p.is_dir())
    names = [f"held-out-{i // 2 + 1}" for i in range(n_classes)]
    names[::2] = folders[: len(names[::2])]
    return names


if __name__ == "__main__":
    print("\n".join(names(Path(sys.argv[1]))))
