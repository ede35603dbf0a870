"""Whatever a peer sends, nothing raises: well-formed messages with arbitrary contents."""

from __future__ import annotations

import random

import pytest

from raft import MESSAGES, MalformedMessage, NoLeader, NotLeader, ProposalDropped, decode
from raft.messages import AppendEntries, Message
from tests.support.raft_cluster import Cluster


def arbitrary(rng: random.Random) -> Message | None:
    """Draw fields until they make a message; small numbers, so that they often fit the log."""
    message_type = rng.choice(list(MESSAGES.values()))
    fields: list[object] = [rng.randint(0, 6) for _ in message_type._fields]
    for position, kind in enumerate(message_type.__mro__[1].__annotations__.values()):
        if kind is bool:
            fields[position] = rng.random() < 0.5
    if message_type is AppendEntries:
        first, term = int(str(fields[1])) + 1, int(str(fields[2]))
        count = rng.randint(0, 3)
        fields[4] = [[term + rng.randint(0, 1), first + n, 0, b"x"] for n in range(count)]
    try:
        return decode(message_type.CODE, fields)
    except MalformedMessage:
        return None


@pytest.mark.parametrize("seed", range(60), ids=lambda seed: f"seed-{seed}-")
def test_no_message_of_a_peer_raises(seed: int) -> None:
    rng = random.Random(seed)
    made = Cluster(3, seed=seed)
    raft = made.elect(1)
    for _ in range(400):
        message = arbitrary(rng)
        if message is not None:
            raft.step(rng.choice((2, 3, 4)), message)
        if rng.random() < 0.2:
            raft.tick()
        if rng.random() < 0.1:
            try:
                raft.propose([b"p"])
                raft.read_index(1)
            except (NotLeader, NoLeader, ProposalDropped):
                pass
        if rng.random() < 0.7:
            while (ready := raft.ready()) is not None:
                if ready.persist is not None:
                    raft.synced(ready.persist.number)
            if entries := raft.committed_entries(1000):
                raft.applied_to(entries[-1].index)
        assert raft.applied <= raft.commit <= raft.last_index
    assert raft.term > 1, "something happened"
