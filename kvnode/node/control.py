"""What operators' commands ask of the node besides data (`kvnode.service.Control`)."""

from __future__ import annotations

from collections.abc import Callable

from kvnode.node.node import Node
from kvnode.service import LogDiskStatus, Pending, SnapshotStatus


class NodeControl:
    """READONLY, WAIT, SAVE and LASTSAVE, put to the parts of a node that know."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def submit_stale_read(self, pending: Pending) -> None:
        """Run a read on what is applied here, in a later pass of the loop."""
        self._node.submit_stale_read(pending)

    def replicas_covering(self, index: int) -> int:
        """How many voters besides this node are known to have the log up to `index` on disk."""
        return self._node.coverage.covering(index)

    def when_covered(
        self, index: int, count: int, done: Callable[[int], None]
    ) -> Callable[[], None]:
        """Call `done` when they are `count` or more; returns what ends the wait before."""
        return self._node.coverage.when_covered(index, count, done)

    def take_snapshot(self, done: Callable[[str | None], None]) -> bool:
        """Begin a snapshot; False when one is being taken or installed already."""
        snapshots = self._node.snapshots
        if snapshots.is_busy:
            return False
        task = snapshots.take()
        task.add_done_callback(lambda _: done(snapshots.last_failure))
        return True

    def snapshot_status(self) -> SnapshotStatus:
        """Describe the snapshots of this node."""
        snapshots = self._node.snapshots
        newest = snapshots.newest
        return SnapshotStatus(
            saved_at_s=snapshots.saved_at_s,
            in_progress=snapshots.is_busy,
            last_succeeded=snapshots.last_failure is None,
            last_duration_s=snapshots.last_duration_s,
            entries_since=self._node.machine.applied - (newest.index if newest else 0),
        )

    def log_disk_status(self) -> LogDiskStatus:
        """Describe the disk of this node's log."""
        node = self._node
        return LogDiskStatus(
            is_full=node.writer.is_full,
            is_slow=node.condition.disk_health.is_slow,
            slow_syncs=node.condition.disk_health.slow_syncs,
            wait_ms=round(node.condition.sync_wait_s * 1000),
        )
