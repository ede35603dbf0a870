"""Write COMMANDS.md from the command table; a test holds the two together.

python -m scripts.commands_md            # writes the file
python -m scripts.commands_md --check    # exits with 1 if it is not as it should be
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from kvnode.resp.commands.command import LOCAL, READ, Command
from kvnode.resp.commands.refused import REFUSED
from kvnode.resp.commands.table import COMMANDS

PATH = Path(__file__).resolve().parents[1] / "COMMANDS.md"

INTRODUCTION = """\
# Commands

Generated from the command table by `python -m scripts.commands_md`. Names, arities, error texts and
replies are those of Redis 7.0, in RESP2 and RESP3, compared with a real one in the tests.

*Where* tells how a command is done: a **write** goes through the log and is answered when a
majority has it on disk; a **read** is linearizable on every node, by a read-index round (or stale,
behind READONLY); **here** means that the node answers by itself. *Since* is the version of Redis.
"""

GROUPS = {
    "string": "Strings",
    "generic": "Keys",
    "transactions": "Transactions",
    "connection": "Connection",
    "server": "Server",
    "cluster": "Reads that may be stale",
}

DIFFERENCES = """\
## What differs from Redis

- **Time** in `commandstats`, `LATENCY` and `SLOWLOG` is what the client lived, from the beginning
  of the command to its result: for a write that includes the log, for a read its round. So that a
  slow disk does not make every write an entry, `SLOWLOG` leaves writes out.
- **WAIT** counts voters besides this node that have on disk all that this connection was answered.
  An answered write is on a majority already. The leader counts exactly; other nodes tell the
  majority's share.
- **SAVE, BGSAVE, LASTSAVE** are about this node's snapshots. SAVE holds up its own connection only.
- **SHUTDOWN** is a graceful stop, as by SIGTERM. Nothing needs saving: its options change nothing.
- **DEBUG SLEEP** holds up its own connection only: a node that slept would lose its leadership.
- **CLIENT PAUSE** holds commands of this node's clients; CLIENT UNPAUSE is never held.
- **READONLY** makes reads of its connection stale: they see what this node has applied, its own
  connection's writes among it. WATCH and EXEC are never stale.
- **MEMORY USAGE** estimates from the size of the value.
- **CONFIG SET** lasts until the node stops. It changes `client-output-buffer-limit`,
  `latency-monitor-threshold`, `maxclients`, `slowlog-log-slower-than`, `slowlog-max-len` and
  `timeout`; any other may be set to what it is.
- `-BUSY …` means not done, `-UNKNOWN …` may have been done; neither closes the connection.
"""


def text() -> str:
    """The whole document."""
    return "\n".join(_parts())


def _parts() -> Iterator[str]:
    yield INTRODUCTION
    rows = COMMANDS.values()
    for group in dict.fromkeys([*GROUPS, *(row.group for row in rows)]):
        yield f"## {GROUPS.get(group, group.capitalize())}\n"
        yield from _table(row for row in rows if row.group == group)
    yield DIFFERENCES
    yield "## What is refused, and why\n"
    yield "| Command | Its answer |\n|---|---|"
    yield from (f"| `{_shown(name)}` | {answer} |" for name, answer in sorted(REFUSED.items()))
    yield ""


def _table(rows: Iterable[Command]) -> Iterator[str]:
    yield "| Command | Arity | Where | Since | |\n|---|---|---|---|---|"
    for row in rows:
        for each in row.subcommands.values() or (row,):
            yield (
                f"| `{_shown(each.name)}` | {each.arity} | {_where(each)} | {each.since} "
                f"| {each.summary} |"
            )
    yield ""


def _shown(name: str) -> str:
    return name.upper().replace("|", " ")


def _where(row: Command) -> str:
    if row.kind == LOCAL:
        return {"exec": "write", "watch": "read"}.get(row.name, "here")
    return "read" if row.kind == READ else "write"


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PATH.read_text() == text() else f"{PATH.name} is old: make it anew")
    if len(sys.argv) > 1:
        sys.exit("usage: python -m scripts.commands_md [--check]")
    PATH.write_text(text())


if __name__ == "__main__":
    main()
