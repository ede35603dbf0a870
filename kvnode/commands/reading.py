"""What commands on a data directory without its node have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

PROGRESS_BYTES_MIN = 64 * 1024 * 1024
"""Reading less than this takes no time that a progress bar could shorten."""


@contextmanager
def log_errors() -> Iterator[None]:
    """Turn errors of the log into those that have an exit code."""
    from kvnode.node.faults import as_fatal
    from wal.errors import WalError

    try:
        yield
    except WalError as error:
        raise as_fatal(error) from error


@contextmanager
def progress_bar(size: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal while `size` bytes are read, if there are many."""
    if size < PROGRESS_BYTES_MIN or not sys.stderr.isatty():
        yield lambda _count: None
        return
    with click.progressbar(length=size, label="reading", file=sys.stderr) as bar:
        waiting = 0

        def count(read: int) -> None:
            nonlocal waiting
            waiting += read
            if waiting >= size // 200:
                bar.update(waiting)
                waiting = 0

        yield count
