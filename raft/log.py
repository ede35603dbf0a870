"""The replicated log as one node sees it.

```
  1 ........... compacted | first ........................................ last
      in a snapshot       |----- on disk only -----|---------- cache -----|
                                applied <= commit             stable   handed
```
Five cursors move over it, each with one meaning:

* `compacted`: forgotten up to here, for a snapshot has what it did (paper, section 7). Only the
  term at this index is still known, so that the entry behind it can be checked. Never goes back.

* `commit`: known to be stored on a quorum. Never goes back. Use: what may be applied.
* `stable`: durable on *this* disk. Goes back only when a suffix is replaced. Use: what this node
  may claim to have (append responses, a leader's own match).
* `handed` (private): given to the driver in some `Persist`. Use: what the next `Persist` takes.
* `applied`: the state machine has it. Never goes back. Use: what memory may forget.

Invariants:

* indexes are contiguous; terms never decrease along the log;
* `compacted <= applied <= commit <= last`; `applied <= stable <= handed <= last`;
* nothing at or below `commit` is ever replaced;
* every entry above `stable` is in the cache.

Terms are kept apart from the entries, as runs (a term, and the index where it begins): there is one
run per leader, not per entry, so the term of *any* index is known without reading the disk. The
first run begins at `compacted`.

Changes of membership that are not applied yet are kept in mind by their index (`changes`). A leader
proposes one only after it has applied the one before, which is therefore committed: whatever log
holds a change proves that all earlier ones are committed. The commit index follows that proof, and
needs it: what the disk remembers of it is but a hint, so a restart could otherwise fall back behind
several changes, to a membership that shares no quorum with today's.

The hint must be good enough in one respect: a change is handed out to be applied only when the disk
says that it is committed (`noted`). Who goes by a membership goes by it after a restart too, and
need not ask those who have left since.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence

from raft.types import ENTRY_OVERHEAD_BYTES, Entry, EntryKind, Storage, memory_size

CONF_CHANGE = int(EntryKind.CONF_CHANGE)

CACHE_TRIM_SHARE = 64
"""One trim frees this fraction of the cache, so that its cost is spread over many entries."""

UNKNOWN_TERM = 0
"""Stands for the term of an entry that was forgotten. Also the term at index 0, before all."""


class RaftLog:
    """See the module's docstring. Built with `restore`, or empty and fed by `restore_entry`."""

    __slots__ = (
        "_cache",
        "_cache_bytes",
        "_cache_bytes_max",
        "_cache_first",
        "_handed",
        "_is_only_marked",
        "_notes",
        "_pending",
        "_run_starts",
        "_run_terms",
        "_storage",
        "_taken",
        "applied",
        "changes",
        "commit",
        "compacted",
        "last_index",
        "last_term",
        "noted",
        "stable",
    )

    def __init__(
        self,
        storage: Storage,
        *,
        cache_bytes_max: int = 64 * 1024 * 1024,
        snapshot_index: int = 0,
        snapshot_term: int = 0,
    ) -> None:
        self._storage = storage
        self._cache_bytes_max = cache_bytes_max
        self._restart(snapshot_index, snapshot_term)

    def _restart(self, index: int, term: int) -> None:
        """Become the empty log that continues (index, term)."""
        self._cache: list[Entry] = []
        self._cache_first = index + 1
        self._cache_bytes = 0
        self._run_starts = [index]
        self._run_terms = [term]
        self.last_index = index
        self.last_term = term
        self.compacted = index
        self.applied = index
        self.commit = index
        self.stable = index
        self._handed = index
        self._taken = index
        self._is_only_marked = False
        # Indexes of the changes of membership above `applied`, oldest first.
        self.changes: deque[int] = deque()
        # Commit index that the hard state on this disk has; and (number of the Persist, commit
        # index) for those on their way, oldest first.
        self.noted = index
        self._notes: deque[tuple[int, int]] = deque()
        # (number of the Persist, last index of it that was not replaced since), oldest first.
        self._pending: deque[tuple[int, int]] = deque()

    # Invariant while the log comes back: `_is_only_marked` says that all we know is the mark of an
    # own snapshot. A snapshot takes a while, so entries behind its index may stand before its mark
    # and be released with their segment: the next entry need not be index + 1.

    # --- coming back from disk ------------------------------------------------------------------

    @classmethod
    def restore(
        cls,
        storage: Storage,
        entries: Iterable[Entry] = (),
        *,
        cache_bytes_max: int = 64 * 1024 * 1024,
        snapshot_index: int = 0,
        snapshot_term: int = 0,
    ) -> RaftLog:
        """Build the log from a snapshot's position and the entries that the disk replays."""
        log = cls(
            storage,
            cache_bytes_max=cache_bytes_max,
            snapshot_index=snapshot_index,
            snapshot_term=snapshot_term,
        )
        for entry in entries:
            log.restore_entry(entry)
        return log

    def restore_entry(self, entry: Entry) -> None:
        """Take one durable entry in the order of writing; it may replace a suffix.

        The first may have any index: what was before it was released from the disk.
        Only before the log is handed to a `Raft`.

        Raises:
            ValueError: the entry leaves a gap, or its term goes back.
        """
        index = entry[1]
        if index == self.last_index + 1 and entry[0] == self.last_term and not self._is_only_marked:
            # Nearly every entry of a start comes this way, and pays for no case but its own.
            self._cache.append(entry)
            self._cache_bytes += ENTRY_OVERHEAD_BYTES + len(entry[3])
            self.last_index = self.stable = self._handed = index
            if entry[2] == CONF_CHANGE:
                self.changes.append(index)
            if self._cache_bytes > self._cache_bytes_max:
                self._trim_cache(index)
            return
        if index == self.last_index + 1:
            self._is_only_marked = False
        if index <= self.compacted and self._run_terms[0] != UNKNOWN_TERM:
            return
        if index <= self.compacted or self.last_index == 0 or self._is_only_marked:
            self._restart(index - 1, UNKNOWN_TERM)
        if not index <= self.last_index + 1:
            raise ValueError(f"entry {index} leaves a gap after {self.last_index}")
        if index <= self.last_index:
            self._truncate(index)
        if entry.term < self.last_term:
            raise ValueError(f"term {entry.term} at {index} is below {self.last_term}")
        self._append([entry])
        self.stable = self._handed = self.last_index
        self._trim_cache(self.stable)

    def restore_snapshot(self, index: int, term: int, *, discard: bool) -> None:
        """Take the durable mark of a snapshot, between the entries in the order of writing.

        `discard`: it came from a leader and replaced the log. Else the node took it itself, and
        the entries around it stay, as far as they were not released.

        Raises:
            ValueError: the log has not what the node's own snapshot was taken of.
        """
        if discard or self.last_index == 0 or self._is_only_marked:
            self._restart(index, term)
            self._is_only_marked = not discard
        elif index == self.compacted and self._run_terms[0] == UNKNOWN_TERM:
            self._run_terms[0] = term
        elif index >= self.compacted and self.term(index) != term:
            raise ValueError(
                f"a snapshot at {index} of term {term} does not fit a log of "
                f"{self.first_index} to {self.last_index} with term {self.term(index)} there"
            )

    def start(self, commit: int, applied: int, cache_bytes_max: int) -> None:
        """Set the cursors and the bound of a restored log.

        Raises:
            ValueError: they contradict the log, which then lacks something that was acknowledged.
        """
        # The state machine applies committed entries only, so it may know more than the hint.
        commit = max(commit, applied)
        if not self.compacted <= applied <= commit <= self.last_index:
            raise ValueError(
                f"applied {applied} and commit {commit} do not fit a log of "
                f"{self.first_index} to {self.last_index}"
            )
        if self.compacted > 0 and self._run_terms[0] == UNKNOWN_TERM:
            # Released with its entry. The next one's is known, so it takes the place, unless it
            # is still to be applied: then a snapshot should have stood there.
            if applied == self.compacted:
                raise ValueError(f"no snapshot tells the term of {applied}, where the log begins")
            self._forget(self.compacted + 1)
        self.commit = commit
        self.applied = self._taken = applied
        self.noted = commit
        self._forget_changes(applied)
        self._commit_earlier_changes()
        self._cache_bytes_max = cache_bytes_max

    # --- asking ---------------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        """Index of the first entry that the log still holds (or would hold)."""
        return self.compacted + 1

    def term(self, index: int) -> int | None:
        """Return the term of the entry at `index`, None if the log does not reach there."""
        if index == self.last_index:
            return self.last_term
        if not self.compacted <= index < self.last_index:
            return None
        return self._run_terms[bisect_right(self._run_starts, index) - 1]

    @property
    def commit_term(self) -> int:
        """Term of the newest entry that is known to be committed."""
        term = self.term(self.commit)
        assert term is not None, f"no term at commit {self.commit}"
        return term

    def term_runs(self) -> list[tuple[int, int]]:
        """Return (first index, term) of each run of equal terms, oldest first.

        The first begins at `compacted`. With them another process can tell the term of the index
        at which it took a snapshot.
        """
        return list(zip(self._run_starts, self._run_terms, strict=True))

    def has_committed_change(self) -> bool:
        """Tell whether a change of membership is committed and not applied yet."""
        return bool(self.changes) and self.changes[0] <= self.commit

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Tell whether a log ending there is at least as up to date as ours (paper, 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """Return our last (index, term) at or before `index` whose term is at most `term`.

        Two logs that conflict can only meet there or earlier, so a whole term is skipped per round
        trip (end of paper section 5.3; the refinement by term is etcd's). An index below
        `compacted` means that they can only meet where nothing is known any more.
        """
        index = min(index, self.last_index)
        position = bisect_right(self._run_starts, index) - 1
        while position >= 0 and self._run_terms[position] > term:
            index = self._run_starts[position] - 1
            position -= 1
        return index, self._run_terms[position] if position >= 0 else UNKNOWN_TERM

    def entries(self, low: int, high: int, bytes_max: int) -> tuple[list[Entry], int]:
        """Return entries from `low`, before `high`, and their size in bytes.

        At least one, then as many as fit in `bytes_max`. `low` must be in the log and `high` at
        most one beyond it.
        """
        assert self.compacted < low < high <= self.last_index + 1, (
            f"entries {low} to {high - 1} asked of {self.first_index} to {self.last_index}"
        )
        if low < self._cache_first:
            chunk = self._storage.entries(low, min(high, self._cache_first), bytes_max)
            assert chunk, f"storage has no entry {low}"
            assert chunk[0].index == low, f"storage returned {chunk[0].index} for {low}"
        else:
            start = low - self._cache_first
            # No more than could ever fit: a slice of a long cache is not free.
            stop = min(high - self._cache_first, start + bytes_max // ENTRY_OVERHEAD_BYTES + 1)
            chunk = self._cache[start:stop]
        return cut(chunk, bytes_max)

    # --- growing --------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Add a leader's own new entries."""
        assert entries[0].index == self.last_index + 1, (
            f"entry {entries[0].index} appended after {self.last_index}"
        )
        self._append(entries)

    def maybe_append(
        self, previous_index: int, previous_term: int, entries: Sequence[Entry]
    ) -> int | None:
        """Add what a leader sent; return the index up to which our log now equals its log.

        None: the entry before them does not match (paper, section 5.3). Entries that are here
        already are left alone, so a delayed or repeated message never shortens the log; only a
        conflicting suffix is replaced.
        """
        if self.term(previous_index) != previous_term:
            return None
        last_new = previous_index + len(entries)
        if previous_index == self.last_index:
            if entries:
                self._append(entries)
                if self.changes:
                    self._commit_earlier_changes()
            return last_new
        for position, entry in enumerate(entries):
            if self.term(entry.index) != entry.term:
                if entry.index <= self.last_index:
                    self._truncate(entry.index)
                self._append(entries[position:])
                break
        self._commit_earlier_changes()
        return last_new

    def commit_to(self, index: int) -> bool:
        """Move the commit index forward; tell whether it moved."""
        if index <= self.commit:
            return False
        assert index <= self.last_index, f"commit {index} is beyond the end, {self.last_index}"
        self.commit = index
        return True

    # --- becoming durable -----------------------------------------------------------------------

    def has_unhanded(self) -> bool:
        """Tell whether the next `Persist` carries entries."""
        return self._handed < self.last_index

    def hand_out(self, number: int) -> list[Entry]:
        """Return the entries that belong into the `Persist` with this number."""
        entries = self._cache[self._handed + 1 - self._cache_first :]
        self._handed = self.last_index
        self._pending.append((number, self.last_index))
        return entries

    def has_change_to_note(self) -> bool:
        """Tell whether the next `Persist` should say that a change is committed."""
        known = self._notes[-1][1] if self._notes else self.noted
        high = min(self.commit, self.stable)
        return any(known < change <= high for change in self.changes)

    def note(self, number: int, commit: int) -> None:
        """The `Persist` with this number has a hard state with this commit index."""
        self._notes.append((number, commit))

    def synced(self, number: int) -> None:
        """Everything handed out up to `number` is durable."""
        pending = self._pending
        while pending and pending[0][0] <= number:
            index = pending.popleft()[1]
            if index > self.stable:
                self.stable = index
        notes = self._notes
        while notes and notes[0][0] <= number:
            self.noted = notes.popleft()[1]
        # While apply stands still, memory keeps a second share and no more.
        if self._cache_bytes > 2 * self._cache_bytes_max:
            self._trim_cache(self.stable)

    @property
    def cache_bytes(self) -> int:
        """Memory that entries take: those not durable, not applied, or kept for followers."""
        return self._cache_bytes

    # --- being applied --------------------------------------------------------------------------

    def take_committed(self, bytes_max: int) -> list[Entry]:
        """Return the next entries to apply: committed, durable here, and not handed out before.

        A change of membership only when it is durable, too, that it is committed.
        """
        high = min(self.commit, self.stable)
        if self.changes:
            high = min([high, *(change - 1 for change in self.changes if change > self.noted)])
        if self._taken >= high:
            return []
        entries, _ = self.entries(self._taken + 1, high + 1, bytes_max)
        self._taken = entries[-1].index
        return entries

    def applied_to(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        assert self.applied <= index <= self._taken, (
            f"applied {index} is not between {self.applied} and what was handed out, {self._taken}"
        )
        self.applied = index
        if self.changes:
            self._forget_changes(index)
        if self._cache_bytes > self._cache_bytes_max:
            self._trim_cache(min(index, self.stable))

    # --- being compacted ------------------------------------------------------------------------

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`: a snapshot of the state machine has what they did.

        What memory holds of them leaves it as ever, when others need the room.
        """
        assert index <= self.applied, f"{index} is compacted, but only {self.applied} is applied"
        if index > self.compacted:
            self._forget(index)

    def install(self, index: int, term: int) -> None:
        """The state machine was replaced by a snapshot, durable here, that ends at (index, term).

        A log that has this entry has all that led to it (log matching) and keeps what follows;
        any other is replaced (paper, figure 13).
        """
        assert index > self.commit, f"snapshot {index} is not beyond commit {self.commit}"
        if self.term(index) != term:
            # Syncs of what was handed out prove nothing any more.
            self._restart(index, term)
            return
        self.commit = self.applied = self._taken = index
        self._forget_changes(index)
        self.noted = max(self.noted, index)
        # Whether the disk has the entries themselves does not matter: nobody reads them again.
        self.stable = max(self.stable, index)
        self._handed = max(self._handed, index)
        self._forget(index)

    # --- inside ---------------------------------------------------------------------------------

    def _forget(self, index: int) -> None:
        """Let the log begin behind `index`, whose term stays known."""
        position = bisect_right(self._run_starts, index) - 1
        del self._run_starts[:position]
        del self._run_terms[:position]
        self._run_starts[0] = index
        self.compacted = index

    def _forget_changes(self, index: int) -> None:
        """The changes up to `index` are applied."""
        while self.changes and self.changes[0] <= index:
            self.changes.popleft()

    def _commit_earlier_changes(self) -> None:
        """The newest change in the log proves that the one before it is committed."""
        if len(self.changes) > 1:
            self.commit_to(self.changes[-2])

    def _append(self, entries: Sequence[Entry]) -> None:
        size = 0
        term = self.last_term
        for entry in entries:
            size += ENTRY_OVERHEAD_BYTES + len(entry[3])
            if entry[0] != term:
                assert entry[0] > term, f"term {entry[0]} at {entry[1]} follows term {term}"
                term = entry[0]
                self._run_starts.append(entry[1])
                self._run_terms.append(term)
            if entry[2] == CONF_CHANGE:
                self.changes.append(entry[1])
        self._cache.extend(entries)
        self._cache_bytes += size
        self.last_index = entries[-1][1]
        self.last_term = term

    def _truncate(self, index: int) -> None:
        """Remove the entries from `index` on: a new leader has others in their place."""
        assert index > self.commit, f"entry {index} would replace a committed one ({self.commit})"
        keep = max(index - self._cache_first, 0)
        self._cache_bytes -= memory_size(self._cache[keep:])
        del self._cache[keep:]
        self._cache_first = min(self._cache_first, index)
        while self._run_starts[-1] >= index:
            del self._run_starts[-1]
            del self._run_terms[-1]
        while self.changes and self.changes[-1] >= index:
            self.changes.pop()
        self.last_index = index - 1
        self.last_term = self._run_terms[-1]
        # What was handed out and is on its way to the disk no longer proves anything from here on.
        self.stable = min(self.stable, index - 1)
        self._handed = min(self._handed, index - 1)
        self._pending = deque((number, min(last, index - 1)) for number, last in self._pending)

    def _trim_cache(self, limit: int) -> None:
        """Forget the oldest cached entries up to `limit` once the cache is over its bound."""
        if self._cache_bytes <= self._cache_bytes_max:
            return
        target = self._cache_bytes_max - self._cache_bytes_max // CACHE_TRIM_SHARE
        size = self._cache_bytes
        count = 0
        evictable = limit + 1 - self._cache_first
        while size > target and count < evictable:
            size -= ENTRY_OVERHEAD_BYTES + len(self._cache[count].data)
            count += 1
        if count > 0:
            del self._cache[:count]
            self._cache_first += count
            self._cache_bytes = size


def cut(entries: list[Entry], bytes_max: int) -> tuple[list[Entry], int]:
    """Return the longest prefix that fits in `bytes_max`, at least one entry, and its size."""
    size = memory_size(entries)
    while size > bytes_max and len(entries) > 1:
        size -= ENTRY_OVERHEAD_BYTES + len(entries.pop()[3])
    return entries, size
