"""The journal of starts and exits: one JSON object per line.

`{"start": pid}` is written when a process begins, `{"exit": code}` when it leaves. A start without
an exit before the next start is a process that was killed. The oldest exits are folded into one
line of totals, `{"earlier": {code: count}}`. It is a note for people: damaged lines are skipped.
The file itself is `kvnode.directory`'s.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass

KILLED = "killed"
"""The exit code, in words, of a process that left no exit behind."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How one process left: `code` is its exit code in decimal, or "killed"."""

    code: str
    reason: str
    time_ms: int


def decode_exits(content: bytes) -> tuple[dict[str, int], list[Exit]]:
    """Read the journal: totals of forgotten exits, and the others, oldest first.

    A start that is followed by no exit becomes an exit by "killed". Damaged lines are skipped.
    """
    folded: dict[str, int] = {}
    exits: list[Exit] = []
    started_ms: int | None = None
    for line in content.splitlines():
        # One damaged line must not hide the others, and none is worth a refusal to start.
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            entry = json.loads(line)
            if "earlier" in entry:
                folded = {str(code): int(count) for code, count in entry["earlier"].items()}
            elif "exit" in entry:
                exits.append(Exit(str(entry["exit"]), str(entry["reason"]), int(entry["time_ms"])))
                started_ms = None
            elif "start" in entry:
                started_ms = int(entry["time_ms"])
    if started_ms is not None:
        exits.append(Exit(KILLED, "the process ended without a word", started_ms))
    return folded, exits


def encode_exit(left: Exit) -> bytes:
    """Write an exit as a line of the journal."""
    return encode_line({"exit": left.code, "reason": left.reason, "time_ms": left.time_ms})


def encode_line(entry: dict[str, object]) -> bytes:
    """Write one line of the journal."""
    return json.dumps(entry).encode() + b"\n"
