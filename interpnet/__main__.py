"""``python -m interpnet`` is the command ``interpnet``, for where its script is not on the path."""

from __future__ import annotations

import sys

from interpnet.pipelines.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
