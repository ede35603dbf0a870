"""pytest with a mistake planted.

    python -m tests.torture.broken.planted NAME --outcomes FILE [pytest's arguments]

Writes {test: "passed", "failed" or "error"} to the file, as JSON; a test that failed before or
behind its own code counts as an error. Exit code 0: the tests ran, whatever came out; 2: they did
not, or the mistake never came into play.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from tests.torture.broken.plant import Plant
from tests.torture.broken.variants import VARIANTS


class Outcomes:
    """A pytest plugin that remembers how each test ended."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called for setup, call and teardown of each test."""
        if report.failed:
            self.of[report.nodeid] = "failed" if report.when == "call" else "error"
        elif report.when == "call":
            self.of.setdefault(report.nodeid, "passed")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture.broken.planted", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("name", choices=sorted(VARIANTS))
    parser.add_argument("--outcomes", type=Path, required=True)
    arguments, rest = parser.parse_known_args()
    plant = Plant(VARIANTS[arguments.name].edits)
    plant.install()
    outcomes = Outcomes()
    ended = pytest.main(["-p", "no:cacheprovider", *rest], plugins=[outcomes])
    arguments.outcomes.write_text(json.dumps(outcomes.of))
    if plant.pending:
        print(f"never imported: {sorted(plant.pending)}", file=sys.stderr)
        return 2
    return 0 if ended in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else 2


if __name__ == "__main__":
    sys.exit(main())
