"""Disturb audits and calls in hundreds of ways, and judge what comes of it.

    python -m experiments.reliability run [NAMES] [--n N] [--seed S] [--out FOLDER]
    python -m experiments.reliability page

``run`` writes a JSON file per campaign, one line per case, after every case: a second run goes on where the first
stopped. It ends with a table, and with exit status 1 where something bad happened. ``page`` writes the table of the
committed results into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import sys

from experiments.reliability.run import CAMPAIGNS, RESULTS, run
from experiments.reliability.table import page


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run campaigns")
    running.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(CAMPAIGNS)}; all where none is given")
    running.add_argument("--n", type=int, help="cases of each; by default those of the long run")
    running.add_argument("--seed", type=int, default=0)
    running.add_argument("--out", default=str(RESULTS), help="folder of the results, one JSON file per campaign")
    running.add_argument("--minutes", type=float, help="stop each campaign after so long; a second run goes on")
    commands.add_parser("page", help="write docs/reliability.md from the committed results")
    given = parser.parse_args(arguments)
    if given.command == "page":
        page()
        return 0
    unknown = set(given.names) - set(CAMPAIGNS)
    if unknown:
        parser.error(f"no campaign {', '.join(sorted(unknown))}; there are {', '.join(CAMPAIGNS)}")
    return run(given.names or list(CAMPAIGNS), given.n, given.seed, given.out, given.minutes)


if __name__ == "__main__":
    sys.exit(main())
