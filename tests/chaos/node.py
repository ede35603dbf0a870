"""A node under test: `kvnode serve` on a disk that forgets what was not synced.

    python -m tests.chaos.node [--broken NAME] serve --node n1 …

With `--broken` one rule of the node is taken out on purpose (see `tests.chaos.broken_builds`). A
check that does not notice is not worth much.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from kvnode import cli, server, starting
from kvnode.config.serve import ServeConfig
from tests.chaos.broken_builds import BROKEN
from tests.chaos.forgetful import SEED_VARIABLE, ForgetfulFileSystem, NeverSyncingFileSystem
from wal.fs import FileSystem
from wal.options import Options

SEGMENT_BYTES = 256 * 1024


def main(arguments: list[str]) -> None:
    """Take our own flag off the command line, bend the node, and run its command."""
    broken = ""
    if arguments[:1] == ["--broken"]:
        broken, arguments = arguments[1], arguments[2:]
        BROKEN[broken]()
    seed = f"{os.environ.get(SEED_VARIABLE, '0')}/{os.getpid()}"
    file_system = NeverSyncingFileSystem if broken == "no-fdatasync" else ForgetfulFileSystem
    run = server.run

    def run_forgetfully(config: ServeConfig, _file_system: FileSystem | None = None) -> int:
        return run(config, file_system(seed))

    # Small segments, so that a short run cuts its log often.
    vars(starting)["Options"] = partial(Options, segment_bytes=SEGMENT_BYTES)
    server.run = run_forgetfully  # type: ignore[assignment]  # only the names differ
    sys.argv[1:] = arguments
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
