"""What a leader has proposed and not committed: a bound on the log that nobody may rely on yet.

While a quorum is away, proposals are refused and not queued without end. The no-op of a new leader
and entries that it inherited are not charged: they cannot be refused.
"""

from __future__ import annotations

from collections import deque


class Uncommitted:
    """Proposals of one leadership that are not committed, bounded by bytes.

    Invariant: `size` is the sum of what was added and not freed. It exceeds the bound only by a
    single proposal that alone is larger; otherwise that one could never be made.
    """

    __slots__ = ("_bytes_max", "_proposals", "size")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._proposals: deque[tuple[int, int]] = deque()
        self.size = 0
        """Bytes that are not committed."""

    def has_room(self, size: int) -> bool:
        """Tell whether a proposal of `size` bytes may be made."""
        return not self._proposals or self.size + size <= self._bytes_max

    def add(self, last_index: int, size: int) -> None:
        """A proposal of `size` bytes, which ends at `last_index`, was appended."""
        self._proposals.append((last_index, size))
        self.size += size

    def free_to(self, index: int) -> None:
        """Everything up to `index` is committed."""
        proposals = self._proposals
        while proposals and proposals[0][0] <= index:
            self.size -= proposals.popleft()[1]
