"""The journal of starts and exits: one JSON object per line.

`{"start": pid}` is written when a process begins, `{"exit": code}` when it leaves. A start without
an exit before the next start is a process that was killed. The oldest exits are folded into one
line of totals, `{"earlier": {code: count}}`. It is a note for people: damaged lines are skipped.
The file itself is `kvnode.directory`'s.

One reader is no person: a start. Where bringing the node back takes more memory than it may have,
each start ends as the one before did, and a supervisor makes a hot loop of it. An exit for memory
that came before the node had started is noted with the watchdog's threshold; `start_pause_seconds`
tells how long the next start should wait.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from kvnode import limits
from kvnode.errors import ExitCode

KILLED = "killed"
"""The exit code, in words, of a process that left no exit behind."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How one process left.

    Attributes:
        code: its exit code in decimal, or "killed".
        start_threshold_bytes: the watchdog's threshold, if the process left for memory before it
            had started; else 0.
    """

    code: str
    reason: str
    time_ms: int
    start_threshold_bytes: int = 0


def failed_starts(exits: Sequence[Exit], threshold_bytes: int, now_ms: int) -> int:
    """Return how many starts in a row, up to now, ended for memory before they were through.

    `exits` are the oldest first. Starts that had less memory than this one do not count, nor do
    any when the last one is long ago.
    """
    if not exits or abs(now_ms - exits[-1].time_ms) > limits.START_PAUSE_MEMORY_MS:
        return 0
    count = 0
    for past in reversed(exits):
        if past.code != str(int(ExitCode.MEMORY)) or past.start_threshold_bytes < threshold_bytes:
            break
        count += 1
    return count


def start_pause_seconds(failed: int) -> int:
    """Return how long a start waits after so many that failed: 1 s, doubled each time to 60 s."""
    if not failed:
        return 0
    # More doublings than the bound has bits do not make it longer.
    return min(limits.START_PAUSE_SECONDS_MAX, 1 << min(failed - 1, 16))


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
                exits.append(_exit_of(entry))
                started_ms = None
            elif "start" in entry:
                started_ms = int(entry["time_ms"])
    if started_ms is not None:
        exits.append(Exit(KILLED, "the process ended without a word", started_ms))
    return folded, exits


def _exit_of(entry: dict[str, object]) -> Exit:
    code, reason, time_ms = entry["exit"], entry["reason"], entry["time_ms"]
    threshold_bytes = entry.get("start_threshold_bytes", 0)
    return Exit(str(code), str(reason), int(str(time_ms)), int(str(threshold_bytes)))


def encode_exit(left: Exit) -> bytes:
    """Write an exit as a line of the journal."""
    line: dict[str, object] = {"exit": left.code, "reason": left.reason, "time_ms": left.time_ms}
    if left.start_threshold_bytes:
        line["start_threshold_bytes"] = left.start_threshold_bytes
    return encode_line(line)


def encode_line(entry: dict[str, object]) -> bytes:
    """Write one line of the journal."""
    return json.dumps(entry).encode() + b"\n"
