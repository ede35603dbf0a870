"""How far the voters have the log on their disks: what WAIT asks.

Only the leader knows it, from the acknowledgements of its appends. Any other node asks it, with one
question for all who wait here, and takes the answer only from the leader of its own term: that one
has everything that is applied here at the same indexes, so a match that covers an applied index
covers that very entry. An earlier leader may have counted entries that were replaced since.

Messages may be lost and leaders may go: while somebody waits the question is asked again, ever more
rarely. Whoever waits watches his own time.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterable
from itertools import takewhile

from kvnode.limits import COVERAGE_ANSWER_MS_MAX, WAIT_POLL_MS_MAX, WAIT_POLL_MS_MIN
from kvnode.node.frames import MalformedFrame
from kvnode.node.wire import CoverageAnswer, CoverageQuery
from raft.raft import Raft
from raft.types import NONE, Role

Done = Callable[[int], None]


class _Wait:
    """Somebody who waits for the log up to `index`."""

    __slots__ = ("done", "index")

    def __init__(self, index: int, done: Done) -> None:
        self.index = index
        self.done = done


class Coverage:
    """Knows, asks, answers and tells.

    Args:
        raft: the term, the leader, and on the leader the matches.
        loop: for the next look.
        send: a message to a peer; it may be lost.
        wake: asks for a pass of the node, so that messages leave.
    """

    def __init__(
        self,
        raft: Raft,
        loop: AbstractEventLoop,
        send: Callable[[int, CoverageQuery | CoverageAnswer], None],
        wake: Callable[[], None],
    ) -> None:
        self._raft = raft
        self._loop = loop
        self._send = send
        self._wake = wake
        self._waits: dict[int, dict[_Wait, None]] = {}
        """By the number of voters that they wait for; in order of arrival, so of index as well."""
        self._heard: tuple[int, dict[int, int]] = (0, {})
        """Term of the newest answer, and the index up to which each voter had the log."""
        self._pause_ms = WAIT_POLL_MS_MIN
        self._is_asking = False
        self._timer: TimerHandle | None = None

    # --- who waits here ---------------------------------------------------------------------------

    def covering(self, index: int) -> int:
        """How many voters besides this node are known to have the log up to `index`, applied here.

        At least what commit implies: a majority has it, so a majority less this node.
        """
        known = sum([match >= index for match in self._others()])
        if self._raft.role is Role.LEADER or index > self._raft.commit:
            return known
        return max(known, len(self._raft.conf_state.voters) // 2)

    def when_covered(self, index: int, count: int, done: Done) -> Callable[[], None]:
        """Call `done`, in a later pass of the loop, when `count` voters or more cover `index`.

        Returns:
            What ends the wait before; to end one that is over does nothing.
        """
        wait, count = _Wait(index, done), min(count, len(self._raft.conf_state.voters))
        self._waits.setdefault(count, {})[wait] = None
        self._pause_ms = WAIT_POLL_MS_MIN
        if not self._is_asking:
            self._look_in(0)
        return lambda: self._forget(count, wait)

    def _forget(self, count: int, wait: _Wait) -> None:
        waits = self._waits.get(count, {})
        if wait in waits:
            del waits[wait]
            self._rest()

    def _rest(self) -> None:
        """Look no more if nobody waits."""
        self._waits = {count: waits for count, waits in self._waits.items() if waits}
        if not self._waits:
            self._is_asking = False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _others(self) -> list[int]:
        """The index up to which each other voter has the log, highest first, as far as known."""
        term, matches = self._heard
        if self._raft.role is Role.LEADER:
            matches = self._own_matches()
        elif term != self._raft.term:
            return []
        return sorted((matches[v] for v in matches if v != self._raft.node_id), reverse=True)

    def _own_matches(self) -> dict[int, int]:
        progress = self._raft.progress()
        return {voter: progress[voter].match for voter in self._raft.conf_state.voters}

    # --- looking ----------------------------------------------------------------------------------

    def _look_in(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(milliseconds / 1000, self._look)

    def _look(self) -> None:
        """Ask the leader; who leads, or knows of no leader, sees what there is."""
        leader = self._raft.leader
        self._is_asking = leader not in (NONE, self._raft.node_id)
        if self._is_asking:
            self._send(leader, CoverageQuery())
            self._wake()
            self._look_in(COVERAGE_ANSWER_MS_MAX)
        else:
            self._tell()

    def _tell(self) -> None:
        """End the waits that are covered, and look again for the sake of the others."""
        matches = self._others()
        for count, waits in list(self._waits.items()):
            reached = matches[count - 1] if count <= len(matches) else -1
            for wait in _covered(waits, reached):
                if wait in waits:  # the end of one may be the end of another
                    del waits[wait]
                    wait.done(self.covering(wait.index))
        self._look_in(self._pause_ms)
        self._pause_ms = min(2 * self._pause_ms, WAIT_POLL_MS_MAX)
        self._rest()

    # --- peers ------------------------------------------------------------------------------------

    def asked(self, sender: int) -> None:
        """A peer asks. Only a leader answers; who asked somebody else will ask again."""
        if self._raft.role is Role.LEADER:
            matches = self._own_matches()
            answer = CoverageAnswer(self._raft.term, list(matches), list(matches.values()))
            self._send(sender, answer)

    def answered(self, answer: CoverageAnswer) -> None:
        """A leader told; it counts if it is this term's, which has only one.

        Raises:
            MalformedFrame: it is no match per voter.
        """
        if len(answer.voters) != len(answer.matches):
            raise MalformedFrame("an answer must hold as many matches as voters")
        if answer.term != self._raft.term:
            return
        self._heard = answer.term, dict(zip(answer.voters, answer.matches, strict=True))
        if self._is_asking:
            self._is_asking = False
            self._tell()


def _covered(waits: Iterable[_Wait], reached: int) -> list[_Wait]:
    """The first of them, as far as the log that enough voters have reaches."""
    return list(takewhile(lambda wait: wait.index <= reached, waits))
