"""A node under test: `kvnode serve` on a disk and with a clock that can be made to misbehave.

    python -m tests.chaos.node [--broken NAME] serve --node n1 …

Its disk forgets what was not synced when it is killed, unless CHAOS_DISK is "plain"; what else is
wrong with it, and with its clock, says the panel (`tests.chaos.panel`). With `--broken` one rule of
the node is taken out on purpose (see `tests.chaos.broken_builds`). A check that does not notice is
not worth much.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from kvnode import cli, server, starting
from kvnode.config.serve import ServeConfig
from tests.chaos import points
from tests.chaos.broken_builds import BROKEN
from tests.chaos.forgetful import SEED_VARIABLE
from tests.chaos.panel import Panel
from tests.chaos.troubled import Troubled, TroubledForgetful, TroubledNeverSyncing, install_clock
from wal.fs import FileSystem
from wal.options import Options

SEGMENT_BYTES = 256 * 1024
DISK_VARIABLE = "CHAOS_DISK"
PLAIN = "plain"


def disk_of(panel: Panel, broken: str) -> FileSystem:
    """What the node writes to."""
    if os.environ.get(DISK_VARIABLE) == PLAIN:
        disk = Troubled()
    else:
        seed = f"{os.environ.get(SEED_VARIABLE, '0')}/{os.getpid()}"
        kind = TroubledNeverSyncing if broken == "no-fdatasync" else TroubledForgetful
        disk = kind(seed)
    disk.panel = panel
    return disk


def main(arguments: list[str]) -> None:
    """Take our own flag off the command line, bend the node, and run its command."""
    broken = ""
    if arguments[:1] == ["--broken"]:
        broken, arguments = arguments[1], arguments[2:]
        BROKEN[broken].plant()
    panel = Panel.of_environment()
    install_clock(panel)
    points.install(panel)
    run = server.run

    def run_on_bad_disk(config: ServeConfig, _file_system: FileSystem | None = None) -> int:
        return run(config, disk_of(panel, broken))

    # Small segments, so that a short run cuts its log often.
    vars(starting)["Options"] = partial(Options, segment_bytes=SEGMENT_BYTES)
    server.run = run_on_bad_disk  # type: ignore[assignment]  # only the names differ
    sys.argv[1:] = arguments
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
