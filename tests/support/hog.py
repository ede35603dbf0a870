"""A neighbour in a memory cgroup: it holds as much memory as it is told to.

With it a test takes a node up and down the ladder at will: the node's watchdog counts what cannot
be evicted of the whole cgroup, whoever holds it.
"""

from __future__ import annotations

import subprocess
import sys

from tests.support.cgroup import MemoryCgroup

PROGRAM = """
import sys
for line in sys.stdin:
    hoard = None
    hoard = bytearray(b"x") * (int(line) << 20)
    print(len(hoard), flush=True)
"""


class Hog:
    """A process in `cgroup` that holds memory."""

    def __init__(self, cgroup: MemoryCgroup) -> None:
        self._process = subprocess.Popen(
            cgroup.command((sys.executable, "-c", PROGRAM)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hold(self, mib: int) -> None:
        """Hold so much instead of what it held; returns when it does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{mib}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline(), "the hog was killed"

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
