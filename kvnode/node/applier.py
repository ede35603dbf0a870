"""Apply: committed entries into the store, in order, in slices that never delay a heartbeat."""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from collections.abc import Callable
from time import perf_counter

from kvnode.limits import (
    APPLY_BYTES_MAX,
    APPLY_SLICE_MS,
    ENGINE_COMMIT_IDLE_MS,
    ENGINE_RETRY_SECONDS,
    GARBAGE_ROWS_PER_TICK_MAX,
    STATE_HASHES_KEPT_MAX,
)
from kvnode.node.commit_pace import CommitPace
from kvnode.obs.histogram import SecondsHistogram
from kvnode.store.batch import Kind
from kvnode.store.engine import EngineFull
from kvnode.store.state_machine import Applied, StateMachine
from raft.raft import Raft
from raft.types import Entry


class Applier:
    """Feeds committed entries to the state machine.

    The engine's transaction stays open over several entries and is committed at an entry's end
    only, so that what is on disk is always the state at one applied index.

    An engine that is full (no room on its disk or in its map) takes the machine back to its last
    commit. Apply then pauses and tries again from there: nothing is skipped, nothing diverges, and
    results that were delivered once are not delivered again, since their batches are no longer
    waited for. It has room again only when the entry at which it ran full is committed: that the
    entries before it can be applied once more proves nothing.

    Args:
        raft: where committed entries come from; told how far they are applied.
        machine: the store.
        on_applied: called for every entry, right after it was applied.
        on_configured: called with its index for an entry that changes the membership, before Raft
            learns that it was applied; once, also when a full engine has it applied again.
        on_full: called with True when the engine turns out to be full, with False when it goes on.
        commits: counts how long the engine's commits take.
    """

    def __init__(
        self,
        raft: Raft,
        machine: StateMachine,
        loop: AbstractEventLoop,
        *,
        on_applied: Callable[[Applied], None],
        on_configured: Callable[[int, Applied], None],
        on_full: Callable[[bool], None],
        commits: SecondsHistogram | None = None,
    ) -> None:
        self._raft = raft
        self._machine = machine
        self._loop = loop
        self._on_applied = on_applied
        self._on_configured = on_configured
        self._on_full = on_full
        self._commits = commits
        self._pace = CommitPace()
        machine.commit_share_max = self._pace.share_max
        self._entries: deque[Entry] = deque()
        self._commit_timer: TimerHandle | None = None
        self._hashes: deque[tuple[int, str]] = deque(maxlen=STATE_HASHES_KEPT_MAX)
        self._handed_out = machine.applied
        self._paused_until = 0.0
        self._ran_full_at = 0
        self.is_full = False
        """Apply stands still until the engine has room again."""
        self.is_hasty = False
        """Memory is scarce: no slice leaves anything uncommitted."""
        self.slices_cut = 0
        """Times that apply yielded to the loop with entries left."""

    def run(self) -> bool:
        """Apply for one slice of time.

        Returns:
            True when committed entries are left for the next slice.
        """
        loop = self._loop
        if self._is_paused:
            return False
        deadline = loop.time() + APPLY_SLICE_MS / 1000
        try:
            while self._entries or self._fetch():
                self._apply(self._entries[0])
                self._entries.popleft()
                if loop.time() >= deadline and (self._entries or self._fetch()):
                    self.slices_cut += 1
                    if self.is_hasty:
                        self._commit()
                    return True
        except EngineFull:
            self._pause()
            return False
        if self.is_full or self.is_hasty:
            self.commit()
        elif self._machine.uncommitted_ops:
            self._commit_soon()
        return False

    def _apply(self, entry: Entry) -> None:
        machine = self._machine
        applied = machine.apply(entry.index, entry.data)
        if machine.commit_due:
            self._commit()
        self._hashes.append((entry.index, machine.state_hash()))
        if entry.index > self._raft.applied:
            if applied.kind == Kind.CONFIGURE:
                self._on_configured(entry.index, applied)
            self._raft.applied_to(entry.index)
        self._on_applied(applied)

    def _fetch(self) -> bool:
        raft, next_index = self._raft, self._machine.applied + 1
        if next_index <= self._handed_out:
            # The machine fell back: what Raft handed out once is read from the log again.
            entries, _ = raft.log.entries(next_index, self._handed_out + 1, APPLY_BYTES_MAX)
        else:
            entries = raft.committed_entries(APPLY_BYTES_MAX)
            if entries:
                self._handed_out = entries[-1].index
        self._entries.extend(entries)
        return bool(entries)

    def restart(self) -> None:
        """The machine is another one now, further on: forget what was fetched for the old one."""
        if self._commit_timer is not None:
            self._commit_timer.cancel()
            self._commit_timer = None
        self._entries.clear()
        self._hashes.clear()
        self._handed_out = self._machine.applied

    # --- a full engine ----------------------------------------------------------------------------

    @property
    def _is_paused(self) -> bool:
        return self.is_full and self._loop.time() < self._paused_until

    def _pause(self) -> None:
        """The machine is at its last commit: begin there again, later."""
        tried = self._entries[0].index if self._entries else 0
        self._ran_full_at = max(self._ran_full_at, self._raft.applied, tried)
        self._entries.clear()
        self._paused_until = self._loop.time() + ENGINE_RETRY_SECONDS
        if not self.is_full:
            self.is_full = True
            self._on_full(True)

    def _resume(self) -> None:
        self.is_full = False
        self._on_full(False)

    # --- committing the engine --------------------------------------------------------------------

    def collect_garbage(self) -> None:
        """Delete some rows that a flush left behind; call when there is nothing better to do."""
        if self._entries or self._is_paused:
            return
        try:
            if self._machine.collect_garbage(GARBAGE_ROWS_PER_TICK_MAX):
                self._commit_soon()
        except EngineFull:
            self._pause()

    def _commit_soon(self) -> None:
        if self._commit_timer is None:
            self._commit_timer = self._loop.call_later(ENGINE_COMMIT_IDLE_MS / 1000, self.commit)

    def commit(self) -> None:
        """End the engine's transaction, so that others see what was applied."""
        try:
            self._commit()
        except EngineFull:
            self._pause()

    def _commit(self) -> None:
        if self._commit_timer is not None:
            self._commit_timer.cancel()
            self._commit_timer = None
        self._commit_in_time()
        if self.is_full and self._machine.applied >= self._ran_full_at:
            self._resume()

    def _commit_in_time(self) -> None:
        machine, pace, loop = self._machine, self._pace, self._loop
        share, began, began_s = machine.uncommitted_share, loop.time(), perf_counter()
        machine.commit()
        pace.committed(share, loop.time() - began)
        machine.commit_share_max = pace.share_max
        if self._commits is not None:
            self._commits.observe(perf_counter() - began_s)

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
