"""What the record tells of the nodes, whatever clients did: errors, exits, progress, agreement.

* Clients see errors only at nodes that a fault excuses, and only while it does.
* A process ends only with a code that a fault done to it allows.
* Soon after all faults are healed a write goes through every node.
* In calm weather all nodes say the same, and equal indexes have equal state hashes.
* No node holds more memory than it may.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

from tests.chaos.checks.judgement import EXAMPLES_MAX, Judgement
from tests.chaos.record import Disturbance, Entry, Exit, Record

PROGRESS_SECONDS_MAX = 15.0
"""From the moment at which nobody disturbs the nodes any more to a write through each of them: an
election, the end of a back-off, a snapshot that is installed."""

RSS_BYTES_MAX = 512 * 1024 * 1024
"""Of a node that was told no limit; at rest it holds a tenth of this."""

LAST_LINES_MAX = 5
"""Of a log, to show."""

EXIT_SEEN_NS = 2_000_000_000
"""So late an exit may be noticed."""


def check_errors(record: Record, judgement: Judgement) -> None:
    """Clients of nodes that no fault excuses saw no error."""
    wrong = [
        incident
        for incident in record.incidents
        if not any(
            one.covers(incident.node, incident.since_ns, incident.until_ns)
            for one in record.disturbances
        )
    ]
    if wrong:
        kinds = Counter(f"{incident.text} at {incident.node}" for incident in wrong)
        examples = "; ".join(f"{text} ({n})" for text, n in kinds.most_common(EXAMPLES_MAX))
        first = min(wrong, key=lambda incident: incident.since_ns)
        judgement.violate(
            f"{len(wrong)} errors at nodes that nothing excuses: {examples}; the first after "
            f"{(first.until_ns - first.since_ns) / 1e9:.3f} s at {first.until_ns / 1e6:.3f}",
            [
                entry
                for entry in record.entries
                if entry.node == first.node
                and entry.ended_ns is not None
                and first.since_ns <= entry.ended_ns
                and entry.invoked_ns <= first.until_ns
            ],
        )


def check_exits(record: Record, judgement: Judgement) -> None:
    """Every process that ended was allowed to."""
    wrong: dict[tuple[str, int], list[Exit]] = {}
    for one in record.exits:
        if not any(_allows(disturbance, one) for disturbance in record.disturbances):
            wrong.setdefault((one.node, one.code), []).append(one)
    for (node, code), ends in wrong.items():
        last_words = "\n".join(ends[0].log.splitlines()[-LAST_LINES_MAX:])
        judgement.violate(f"{node} ended with {code}, {len(ends)} times:\n{last_words}")


def _allows(disturbance: Disturbance, end: Exit) -> bool:
    until = disturbance.until_ns
    return (
        end.node in disturbance.targets
        and end.code in disturbance.exits
        and disturbance.since_ns <= end.at_ns
        and (until is None or end.at_ns <= until + EXIT_SEEN_NS)
    )


def calm_moments(record: Record) -> Iterator[tuple[int, int]]:
    """From when to when nobody disturbed the nodes; the last ends with the work of the clients."""
    end = max((e.invoked_ns for e in record.entries if not e.is_final), default=0)
    healed: int | None = None
    for one in sorted(record.disturbances, key=lambda one: one.since_ns):
        if healed is not None and one.since_ns > healed:
            yield healed, one.since_ns
        if one.healed_ns is None:
            return
        healed = max(healed or 0, one.healed_ns)
    if healed is not None and end > healed:
        yield healed, end


def check_progress(record: Record, judgement: Judgement) -> None:
    """After healing, a write through every node that is there to the end."""
    members = set(record.finals)
    writes: dict[str, list[Entry]] = {node: [] for node in members}
    seen: dict[str, int] = {}
    for entry in record.entries:
        if entry.node in members and not entry.is_final:
            seen.setdefault(entry.node, entry.invoked_ns)
            if entry.is_done and entry.is_change:
                writes[entry.node].append(entry)
    ends = {node: sorted(e.returned_ns for e in part) for node, part in writes.items()}
    for healed, until in calm_moments(record):
        for node in sorted(members):
            if seen.get(node, until) >= healed:
                continue  # it came later
            first = next((end for end in ends[node] if end > healed), until)
            waited_s = (min(first, until) - healed) / 1e9
            if waited_s > PROGRESS_SECONDS_MAX:
                judgement.violate(
                    f"no write went through {node} for {waited_s:.1f} s after all was healed at "
                    f"{healed / 1e6:.3f}"
                )


def check_agreement(record: Record, judgement: Judgement) -> None:
    """All nodes answer the same about every key, and have the same state at the same index."""
    nodes = list(record.finals.items())
    for (first, answers), (node, its) in itertools.product(nodes[:1], nodes[1:]):
        differing = [key for key in {*answers, *its} if its.get(key) != answers.get(key)]
        if differing:
            key = min(differing)
            judgement.violate(
                f"{node} and {first} differ on {len(differing)} keys, for example {key}: "
                f"{its.get(key)!r} and {answers.get(key)!r}"
            )
    by_index: dict[int, dict[str, str]] = {}
    for node, hashes in record.hashes.items():
        for index, found in hashes.items():
            by_index.setdefault(index, {})[node] = found
    for index, found_by in by_index.items():
        if len(set(found_by.values())) > 1:
            judgement.violate(f"state hashes differ at index {index}: {found_by}")


def check_memory(record: Record, judgement: Judgement) -> None:
    """Nobody held more than it may."""
    ordered = sorted(record.samples, key=lambda sample: sample.node)
    for node, samples in itertools.groupby(ordered, key=lambda sample: sample.node):
        worst = max(samples, key=lambda sample: sample.rss_bytes)
        limit = worst.limit_bytes or RSS_BYTES_MAX
        if worst.rss_bytes > limit:
            judgement.violate(
                f"{node} held {worst.rss_bytes >> 20} MiB, its limit is {limit >> 20} MiB"
            )
