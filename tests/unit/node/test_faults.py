"""Errors of log and disk end the node with the exit code of their kind, wherever they occur."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kvnode.errors import DiskFailed, ExitCode, FatalError
from kvnode.node.faults import as_fatal, is_disk_failure
from kvnode.store import ops
from tests.support.nodes import cluster_of, write
from wal import errors as wal_errors
from wal.fs import PosixFileSystem


def system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (wal_errors.DiskFailed("writing", Path("x"), system_error(errno.EIO)), ExitCode.IO_ERROR),
        (wal_errors.DiskFull("making", Path("x"), system_error(errno.ENOSPC)), ExitCode.DISK_FULL),
        (wal_errors.Corruption("damaged", Path("x")), ExitCode.CORRUPT),
        (wal_errors.Unrepairable("damaged", Path("x")), ExitCode.CORRUPT),
        (wal_errors.IdentityMismatch("another"), ExitCode.WRONG_CONFIGURATION),
        (wal_errors.UnsupportedVersion("newer"), ExitCode.WRONG_CONFIGURATION),
        (system_error(errno.EIO), ExitCode.IO_ERROR),
        (system_error(errno.EROFS), ExitCode.IO_ERROR),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_keeps_its_cause(
    error: Exception, code: ExitCode
) -> None:
    fatal = as_fatal(error)
    assert isinstance(fatal, FatalError)
    assert (fatal.exit_code, fatal.__cause__) == (code, error)


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EPIPE, errno.EMFILE, errno.ENOSPC])
def test_trouble_with_sockets_or_room_is_no_failure_of_a_disk(number: int) -> None:
    error = system_error(number)
    assert not is_disk_failure(error)
    assert as_fatal(error) is error


class DiskFailsUnderSnapshots(PosixFileSystem):
    """Whatever is written to it is lost."""

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        raise system_error(errno.EIO)


async def test_a_disk_that_fails_under_an_incoming_snapshot_ends_the_node(tmp_path: Path) -> None:
    """It was refused and sent again, for ever: nothing is tried again on a disk that fails."""
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        number = next(n for n, node in cluster.nodes.items() if node is not leader)
        await cluster.stop(number)
        for _ in range(3):
            for i in range(60):
                await write(leader, ops.SET, 0, b"k%d" % i, b"x" * 30_000)
            await leader.snapshots.take()
        node = await cluster.start(number)
        node.snapshots._fs = DiskFailsUnderSnapshots()
        with pytest.raises(ExceptionGroup) as caught:
            await cluster.tasks[number]
        assert caught.group_contains(DiskFailed, match="Input/output error")
