"""Apply: committed entries into the store, in order, in slices that never delay a heartbeat."""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from collections.abc import Callable

from kvnode.limits import (
    APPLY_BYTES_MAX,
    APPLY_SLICE_MS,
    ENGINE_COMMIT_IDLE_MS,
    GARBAGE_ROWS_PER_SWEEP_MAX,
    STATE_HASHES_KEPT_MAX,
)
from kvnode.store.state_machine import Applied, StateMachine
from raft.raft import Raft
from raft.types import Entry


class Applier:
    """Feeds committed entries to the state machine.

    The engine's transaction stays open over several entries and is committed at an entry's end
    only, so that what is on disk is always the state at one applied index.

    Args:
        raft: where committed entries come from; told how far they are applied.
        machine: the store.
        on_applied: called for every batch or registration, right after it was applied.
    """

    def __init__(
        self,
        raft: Raft,
        machine: StateMachine,
        loop: AbstractEventLoop,
        on_applied: Callable[[Applied], None],
    ) -> None:
        self._raft = raft
        self._machine = machine
        self._loop = loop
        self._on_applied = on_applied
        self._entries: deque[Entry] = deque()
        self._commit_timer: TimerHandle | None = None
        self._hashes: deque[tuple[int, str]] = deque(maxlen=STATE_HASHES_KEPT_MAX)
        self.slices_cut = 0
        """Times that apply yielded to the loop with entries left."""

    def run(self) -> bool:
        """Apply for one slice of time.

        Returns:
            True when committed entries are left for the next slice.
        """
        loop, machine, entries = self._loop, self._machine, self._entries
        deadline = loop.time() + APPLY_SLICE_MS / 1000
        while entries or self._fetch():
            entry = entries.popleft()
            applied = machine.apply(entry.index, entry.data)
            self._hashes.append((entry.index, machine.state_hash()))
            self._raft.applied_to(entry.index)
            self._on_applied(applied)
            if machine.commit_due:
                self._commit()
            if loop.time() >= deadline and (entries or self._fetch()):
                self.slices_cut += 1
                return True
        if machine.uncommitted_ops:
            self._commit_soon()
        return False

    def collect_garbage(self) -> None:
        """Delete some rows that a flush left behind; call when there is nothing better to do."""
        if not self._entries and self._machine.collect_garbage(GARBAGE_ROWS_PER_SWEEP_MAX):
            self._commit_soon()

    def _commit_soon(self) -> None:
        if self._commit_timer is None:
            self._commit_timer = self._loop.call_later(ENGINE_COMMIT_IDLE_MS / 1000, self._commit)

    def _fetch(self) -> bool:
        self._entries.extend(self._raft.committed_entries(APPLY_BYTES_MAX))
        return bool(self._entries)

    def _commit(self) -> None:
        if self._commit_timer is not None:
            self._commit_timer.cancel()
            self._commit_timer = None
        self._machine.commit()

    def hash_at(self, index: int | None) -> tuple[int, str] | None:
        """The state hash at an applied index (None: the newest); None when it is not kept."""
        if index is None or index == self._machine.applied:
            return self._machine.applied, self._machine.state_hash()
        return next((kept for kept in self._hashes if kept[0] == index), None)

    def close(self, *, clean: bool) -> None:
        """Close the store; `clean` makes it durable first. Nothing is applied after this."""
        if self._commit_timer is not None:
            self._commit_timer.cancel()
        self._machine.close(clean=clean)
