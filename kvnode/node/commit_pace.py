"""How large an engine transaction may get, so that its commit does not keep the loop for long.

A commit writes every page that the transaction changed. How many those are, and what each costs,
depends on the data and on the disk: 6,000 random writes dirty nearly 6,000 pages of a million keys,
and a fifth of that of a hundred thousand. So the cap follows what commits took: as large as
possible, since a page that is changed twice in one transaction is written once, but no longer than
`ENGINE_COMMIT_MS`.

What counts is the median of the last few commits of some size. A processor that others use makes
some of them longer, and smaller ones would only cost more of it; of large values (28 ms for 16 MiB,
0.3 ms for one) some are quick because the file has the room already.
"""

from __future__ import annotations

from collections import deque
from statistics import median_low

from kvnode.limits import ENGINE_COMMIT_MS, ENGINE_COMMIT_OPS_MAX, ENGINE_COMMIT_SHARE_ROWS_MIN

COMMITS_KEPT = 8
SHARE_AT_FIRST = 0.25
SHARE_MIN = ENGINE_COMMIT_SHARE_ROWS_MIN / ENGINE_COMMIT_OPS_MAX


class CommitPace:
    """Learns from commits. Sizes are shares of the largest transaction (1: as large as may be)."""

    def __init__(self) -> None:
        self.share_max = SHARE_AT_FIRST
        """How large the next one may get."""
        self._full_s: deque[float] = deque(maxlen=COMMITS_KEPT)
        """What a commit of the largest transaction would take, by each of the last ones."""

    def committed(self, share: float, seconds: float) -> None:
        """A transaction of this size took so long to commit; small ones tell nothing."""
        if share < self.share_max / 2:
            return
        self._full_s.append(seconds / share)
        allowed_s = ENGINE_COMMIT_MS / 1000
        full_s = max(median_low(self._full_s), allowed_s)
        self.share_max = max(allowed_s / full_s, SHARE_MIN)
