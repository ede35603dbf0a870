"""What does consensus cost a leader, without disk and network? Prints one JSON object.

    python -m scripts.bench.raft [--entries 3000]

(As a module: run as a file, its own name would hide the package that it measures.)

A real leader is driven as the node drives it: propose, take what is ready, acknowledge the write,
step one answer per follower and append, take what is committed. The answers are cheap to make, so
nearly all that is measured is the leader. Figures are microseconds of CPU time per entry and
follower, the best of several rounds: others on the machine can but add. `passes_of` is how many
entries one pass of the loop proposes, `read_round_us` the whole cost of one round of reads for the
leader. `targets` holds what was measured against what was promised: [measured, at most].
"""

from __future__ import annotations

import argparse
import json
import sys
from time import process_time

from raft import NONE, Config, ConfState, Entry, HardState, Raft, RaftLog, Role
from raft.messages import (
    AppendEntries,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Message,
    RequestVoteResponse,
)

ENTRIES = 3_000
ROUNDS = 9
APPLY_BYTES_MAX = 1 << 20
PAYLOADS_BYTES = (16, 256, 2048, 16_384)
PASSES_OF = (1, 10)
GROUPS = (3, 5)

ENTRY_AND_FOLLOWER_US_MAX = 15.0
"""What was promised of one entry in a pass of its own."""


class Nothing:
    """A durable log that is never read: the leader's cache is enough here."""

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        """Implement `raft.Storage`."""
        raise AssertionError(f"{low} to {high - 1} left the cache, {bytes_max} bytes are wanted")


def leader_of(nodes: int) -> Raft:
    """Return node 1 as the leader of an empty group, its first entry committed."""
    raft = Raft(
        Config(
            node_id=1,
            heartbeat_ticks=1,
            election_ticks_min=10,
            election_ticks_max=20,
            random_ticks=lambda low, _high: low,
            boot_id=1,
            pre_vote=False,
        ),
        hard_state=HardState(0, NONE, 0),
        conf_state=ConfState(tuple(range(1, nodes + 1))),
        log=RaftLog(Nothing()),
        applied=0,
    )
    raft.campaign()
    run_pass(raft)
    for peer in range(2, nodes + 1):
        raft.step(peer, RequestVoteResponse(1, True))
    for _ in range(3):
        run_pass(raft)
    if raft.role is not Role.LEADER or raft.applied != 1:
        raise RuntimeError(f"no leader: {raft.status()}")
    return raft


def run_pass(raft: Raft) -> None:
    """One pass of a loop whose disk and followers answer at once."""
    answers: list[tuple[int, Message]] = []
    while (ready := raft.ready()) is not None:
        for peer, message in ready.messages:
            if type(message) is AppendEntries:
                last = message.previous_index + len(message.entries)
                answers.append((peer, AppendResponse(message.term, last, False, 0, 0, False)))
            elif type(message) is Heartbeat:
                answers.append((peer, HeartbeatResponse(message.term, message.round, False)))
        if ready.persist is not None:
            raft.synced(ready.persist.number)
        for peer, answer in answers:
            raft.step(peer, answer)
        answers.clear()
    while entries := raft.committed_entries(APPLY_BYTES_MAX):
        raft.applied_to(entries[-1].index)


def entry_us(nodes: int, payload_bytes: int, per_pass: int, entries: int) -> float:
    """Microseconds per entry and follower."""
    raft = leader_of(nodes)
    data = [bytes([number]) * payload_bytes for number in range(1, per_pass + 1)]
    passes = entries // per_pass
    started = process_time()
    for _ in range(passes):
        raft.propose(data)
        run_pass(raft)
    seconds = process_time() - started
    if raft.applied != 1 + passes * per_pass:
        raise RuntimeError(f"not all was committed: {raft.status()}")
    return seconds * 1e6 / (passes * per_pass) / (nodes - 1)


def read_round_us(nodes: int, rounds: int) -> float:
    """Microseconds per round of reads, with one read in each."""
    raft = leader_of(nodes)
    started = process_time()
    for request_id in range(rounds):
        raft.read_index(request_id)
        run_pass(raft)
    return (process_time() - started) * 1e6 / rounds


def measure(entries: int = ENTRIES, rounds: int = ROUNDS) -> dict[str, object]:
    """Measure everything; the best of `rounds`."""
    cells = []
    worst = 0.0
    for nodes in GROUPS:
        for payload_bytes in PAYLOADS_BYTES:
            for per_pass in PASSES_OF:
                best = min(entry_us(nodes, payload_bytes, per_pass, entries) for _ in range(rounds))
                worst = max(worst, best)
                cells.append(
                    {
                        "nodes": nodes,
                        "payload_bytes": payload_bytes,
                        "passes_of": per_pass,
                        "entry_and_follower_us": round(best, 2),
                    }
                )
    reads = {n: round(min(read_round_us(n, entries) for _ in range(rounds)), 2) for n in GROUPS}
    return {
        "cells": cells,
        "read_round_us": reads,
        "targets": {"entry_and_follower_us": [round(worst, 2), ENTRY_AND_FOLLOWER_US_MAX]},
    }


def main() -> int:
    """Print the figures; 1 if one is above what was promised."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.raft", description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES, help="per round and cell")
    figures = measure(parser.parse_args().entries)
    print(json.dumps(figures, indent=2))
    measured, promised = figures["targets"]["entry_and_follower_us"]  # type: ignore[index]
    return 0 if measured <= promised else 1


if __name__ == "__main__":
    sys.exit(main())
