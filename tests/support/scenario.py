"""Scenario files: commands, `---`, and what they print. Readable first, executable second.

```
# One sentence that says what this teaches. More may follow.

first command
second command
---
what they print, line by line

third command
---
```

A blank line ends the output of a block. Lines with `#` are comments and stay where they are. What
is printed is compared as text; `pytest tests/scenarios --rewrite-scenarios` writes down what is
printed now. Read the difference before committing it: a scenario is worth what its reader
understood.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SEPARATOR = "---"

Runner = Callable[[str], list[str]]
"""Takes one command line, returns the lines that it prints."""


class ScenarioFailed(Exception):
    """The file is not a scenario, or prints something else than it says."""


@dataclass(slots=True)
class Block:
    """Comments and commands in their order, and what they print; or comments alone."""

    lines: list[str] = field(default_factory=list)
    expected: list[str] | None = None

    def commands(self) -> Iterator[str]:
        return (line for line in self.lines if not line.startswith("#"))

    def render(self) -> str:
        lines = self.lines
        if self.expected is not None:
            lines = [*lines, SEPARATOR, *self.expected]
        return "\n".join(lines) + "\n"


def parse(text: str) -> list[Block]:
    """Split a scenario into blocks.

    Raises:
        ScenarioFailed: it does not begin with a sentence, or commands lack a `---`.
    """
    first = text.split("\n", 1)[0]
    if not (first.startswith("# ") and first[2].isupper()):
        raise ScenarioFailed("a scenario begins with a comment, a sentence that teaches")
    blocks = []
    for paragraph in text.strip("\n").split("\n\n"):
        lines = paragraph.strip("\n").split("\n")
        if SEPARATOR in lines:
            place = lines.index(SEPARATOR)
            block = Block(lines[:place], lines[place + 1 :])
        else:
            block = Block(lines)
            if any(block.commands()):
                raise ScenarioFailed(f"no {SEPARATOR} after {lines[-1]!r}")
        blocks.append(block)
    return blocks


def run(text: str, runner: Runner) -> str:
    """Run a scenario; return its text with what was really printed."""
    blocks = parse(text)
    for block in blocks:
        if block.expected is not None:
            printed = [line for command in block.commands() for line in runner(command)]
            block.expected = printed
    return "\n".join(block.render() for block in blocks)


def check(path: Path, runner: Runner, *, rewrite: bool) -> None:
    """Run the scenario at `path`, or rewrite it.

    Raises:
        ScenarioFailed: it prints something else; the text is the difference.
    """
    text = path.read_text(encoding="utf-8")
    actual = run(text, runner)
    if actual == text:
        return
    if rewrite:
        path.write_text(actual, encoding="utf-8")
        return
    difference = difflib.unified_diff(
        text.splitlines(), actual.splitlines(), "expected", "actual", n=5, lineterm=""
    )
    raise ScenarioFailed("\n".join(difference))
