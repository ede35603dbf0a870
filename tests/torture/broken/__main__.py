"""Prove that the tests of the log can fail: every broken variant must be caught.

    python -m tests.torture.broken [--variant NAME …]

Each variant's tests run in a process of their own with the mistake planted (`plant`). It is caught
if all tests that are listed for it fail, and a test of a log that does nothing special passes: a
log that does not work at all proves nothing. Exit code 0: all were caught. 1: one got away.
3: a mistake could not be planted, or its tests did not run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.torture.broken.plant import REPOSITORY
from tests.torture.broken.variants import HEALTHY, VARIANTS

SECONDS_MAX = 300.0
"""One variant's tests; some run into pytest's own timeout of a minute or two."""

TABLE_BEGINS = "<!-- the table is checked by test_broken.py -->\n"


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one variant.

    Attributes:
        missed: listed tests that passed all the same.
        void: why the run proves nothing, "" if it proves something.
    """

    name: str
    missed: tuple[str, ...] = ()
    void: str = ""

    @property
    def caught(self) -> bool:
        """All its tests failed, and for its sake."""
        return not self.missed and not self.void

    def __str__(self) -> str:
        if self.void:
            return f"{self.name}: VOID: {self.void}"
        if self.missed:
            return f"{self.name}: NOT caught by {', '.join(self.missed)}"
        return f"{self.name}: caught by {len(VARIANTS[self.name].tests)}"


def judge(name: str, tests: Iterable[str], outcomes: Mapping[str, str]) -> Finding:
    """Hold the outcomes against what must be. Of a test with parameters one case must fail."""

    def cases(test: str) -> list[str]:
        return [
            found for ran, found in outcomes.items() if ran == test or ran.startswith(f"{test}[")
        ]

    if cases(HEALTHY) != ["passed"]:
        return Finding(name, void=f"{HEALTHY} does not pass")
    idle = [test for test in tests if not cases(test) or "error" in cases(test)]
    if idle:
        return Finding(name, void=f"did not run: {', '.join(idle)}")
    return Finding(name, tuple(test for test in tests if "failed" not in cases(test)))


def run(name: str) -> Finding:
    """Run a variant's tests with its mistake planted."""
    tests = VARIANTS[name].tests
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "outcomes")
        command = [sys.executable, "-m", "tests.torture.broken.planted", name]
        command += ["--outcomes", str(file), "-q", "--tb=line", HEALTHY, *tests]
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            # Failing examples of a broken build must not be tried again by a good one.
            "HYPOTHESIS_STORAGE_DIRECTORY": directory,
        }
        try:
            ended = subprocess.run(
                command,
                cwd=REPOSITORY,
                env=environment,
                capture_output=True,
                text=True,
                timeout=SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Finding(name, void=f"took more than {SECONDS_MAX:.0f} s")
        if ended.returncode:
            said = (ended.stderr or ended.stdout).strip().splitlines()
            return Finding(name, void=said[-1] if said else f"exit code {ended.returncode}")
        return judge(name, tests, json.loads(file.read_text()))


def table() -> str:
    """Which test catches which mistake, as Markdown."""
    lines = ["| Variant | Mistake | Where | Caught by |", "|---|---|---|---|"]
    for name, variant in VARIANTS.items():
        places = dict.fromkeys(f"`{edit.module}.{edit.function}`" for edit in variant.edits)
        tests = [f"`{test.rpartition('/')[2]}`" for test in variant.tests]
        lines.append(
            f"| {name} | {variant.mistake} | {'<br>'.join(places)} | {'<br>'.join(tests)} |"
        )
    return "\n".join(lines) + "\n"


def write_table() -> None:
    """Put the table into the README beside this file."""
    readme = Path(__file__).with_name("README.md")
    before, _, _ = readme.read_text().partition(TABLE_BEGINS)
    readme.write_text(before + TABLE_BEGINS + "\n" + table())


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.broken", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--variant", choices=sorted(VARIANTS), action="append")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="only write the table of the README")
    arguments = parser.parse_args()
    if arguments.write:
        write_table()
        return 0
    findings = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for finding in pool.map(run, arguments.variant or VARIANTS):
            print(finding, flush=True)
            findings.append(finding)
    caught = sum(finding.caught for finding in findings)
    print(f"{caught} of {len(findings)} broken variants were caught")
    if any(finding.void for finding in findings):
        return 3
    return 0 if caught == len(findings) else 1


if __name__ == "__main__":
    sys.exit(main())
