"""A node that lost acknowledged entries, on its way back to counting again.

Others may have counted on what this node no longer has: with its acknowledgement an entry may be
committed that only one other node still holds. If it voted now, it could elect a leader without
that entry. So it *recovers* first: it takes entries like any follower, but never campaigns, gives
no vote, and counts in no quorum (the idea is that of Protocol-Aware Recovery, FAST 2018). Term and
vote are intact; a node that lost those must not come back at all.

When does it have everything again? It asks its leader for a read index. The leader answers only
after it has committed in its own term and after voters that are *not* recovering have confirmed
that it still leads, so the answer covers every entry that was committed when the question was
asked, whoever had been counted for it. When the node's durable log is known to equal the leader's
up to there, it is healed.

Invariants:

* an answer counts only if its question was asked after the present recovery began;
* a question's id is never used again, not after a restart either (the start's id is in it);
* `index` is learned once per recovery and holds from then on: what is committed stays so.
"""

from __future__ import annotations

from raft.types import U32_MAX


class Recovery:
    """The questions of a recovering node, and how far it must come.

    Request ids are counted downwards from the end of the range of this start, in which the driver
    counts upwards from the beginning. They never meet: 2**32 questions take years.

    Attributes:
        index: the log must be durable and known to be committed up to here; None until it is known.
    """

    __slots__ = ("_begun_at", "_end", "_newest", "_ticks_since_question", "index")

    def __init__(self, boot_id: int) -> None:
        self._newest = self._end = (boot_id + 1) << 32
        self.begin()

    def begin(self) -> None:
        """Start (again): only what is asked from here on counts."""
        self._begun_at = self._newest
        self._ticks_since_question = 0
        self.index: int | None = None

    def tick(self, ticks_between_questions: int) -> bool:
        """Let one tick pass; True if it is time to ask (again)."""
        if self.index is not None:
            return False
        self._ticks_since_question += 1
        return self._ticks_since_question >= ticks_between_questions

    def next_request_id(self) -> int:
        """Return the id of a new question."""
        assert self._newest & U32_MAX != 1, "the range of request ids is used up"
        self._newest -= 1
        self._ticks_since_question = 0
        return self._newest

    def take_answer(self, request_id: int, index: int) -> bool:
        """Take the answer to a question; False if `request_id` is not one of this start's.

        An answer to an earlier recovery's question is taken and means nothing.
        """
        if not self._newest <= request_id < self._end:
            return False
        if self.index is None and request_id < self._begun_at:
            self.index = index
        return True

    def is_healed(self, durable_commit: int) -> bool:
        """Tell whether a log that is durable and committed up to `durable_commit` is whole."""
        return self.index is not None and durable_commit >= self.index
