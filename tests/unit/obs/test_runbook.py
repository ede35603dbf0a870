"""The runbook has an entry for whatever can wake somebody, and names only what exists."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from kvnode.cli import program
from kvnode.errors import ExitCode
from kvnode.obs.metrics import DECLARATIONS

ROOT = Path(__file__).parents[3]
RUNBOOK = (ROOT / "RUNBOOK.md").read_text()
HEADINGS = re.findall(r"^### (.+)$", RUNBOOK, re.MULTILINE)
SIGNS = re.findall(
    r"^\| ([A-Z][^|]+?) \|",
    (ROOT / "METRICS.md").read_text().partition("What to watch")[2],
    re.MULTILINE,
)


@pytest.mark.parametrize("code", ExitCode)
def test_each_exit_code_has_an_entry_that_says_what_to_do(code: ExitCode) -> None:
    entry = RUNBOOK.partition(f"### Exit {int(code)}\n")[2].partition("\n### ")[0]
    for part in ("**Means**", "**Look at**", "**Do**"):
        assert part in entry, f"exit {int(code)} lacks {part}"


def test_each_sign_that_is_worth_watching_has_an_entry_of_that_name() -> None:
    signs = [sign for sign in SIGNS if sign != "Sign"]
    assert len(signs) > 10
    assert [sign for sign in signs if sign not in HEADINGS] == []


def test_metrics_and_commands_of_the_runbook_exist() -> None:
    names = {declaration.name for declaration in DECLARATIONS}
    told = {name.rstrip("_") for name in re.findall(r"`(kvnode_[a-z0-9_]+)", RUNBOOK)}
    assert {name for name in told if name not in names} == set()
    spans = re.findall(r"(?:`|\$ |exec \w+ )kvnode ([a-z]+)(?: ([a-z]+))?", RUNBOOK)
    assert len(spans) > 10
    for command, child in spans:
        found = program.commands[command]
        if isinstance(found, click.Group) and child:
            assert child in found.commands
