"""Many sequences: what was played, how often each command succeeded, and what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.differential.commands import COMMANDS, without_row
from tests.differential.compare import (
    Difference,
    Transcript,
    accepted_by,
    answers,
    differences,
    name_of,
)
from tests.differential.generator import Generator
from tests.differential.machine import Machine, Void
from tests.differential.resp import QUEUED, Connection
from tests.differential.sequence import Send, Sequence
from tests.differential.shrink import shrink

NOTHING_FOUND, DIFFERENT, NOTHING_PROVEN = 0, 1, 3
"""Exit codes, as those of the chaos runs."""

FINDINGS_MAX: Final = 20
"""Differences of different kinds that are shrunk and printed; more are only counted."""
VOID_SHARE_MAX: Final = 0.01
SUCCESS_SHARE_MIN: Final = 0.3
CONFIRMATIONS: Final = 3
"""How often a sequence with a difference is played again before it counts as unsteady."""

ALWAYS_REFUSED: Final = {
    "object|freq": "needs an eviction policy that counts uses, which neither server has",
}
"""Commands of which no share has to succeed."""


FRUITLESS: Final = (None, (), b"", b"0", b"-1", b"-2")


@dataclass(slots=True)
class Tally:
    """How often each command was answered, how often with something else than an error, and how
    often with something that tells of data: neither null nor empty, zero or negative.
    """

    answered: Counter[str] = field(default_factory=Counter)
    fruitful: Counter[str] = field(default_factory=Counter)
    succeeded: Counter[str] = field(default_factory=Counter)

    def count(self, transcript: Transcript) -> None:
        """Count the answers of one sequence; what was queued counts when EXEC ran it."""
        for arguments, reply in answers(transcript.exchanges):
            if reply != QUEUED:
                name = name_of(arguments)
                self.answered[name] += 1
                self.succeeded[name] += not reply.is_error
                self.fruitful[name] += not reply.is_error and reply.value not in FRUITLESS

    def share(self, name: str) -> float:
        """The share of answers that were no error."""
        return self.succeeded[name] / max(self.answered[name], 1)

    def short_of(self, names: list[str], demand: int) -> list[str]:
        """Commands that were answered less than `demand` times, or mostly with errors."""
        return [
            name
            for name in names
            if self.answered[name] < demand
            or (name not in ALWAYS_REFUSED and self.share(name) < SUCCESS_SHARE_MIN)
        ]


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference, and the shortest sequence that shows it."""

    number: int
    difference: Difference
    sequence: Sequence
    steady: bool


@dataclass(slots=True)
class Campaign:
    """A run over many sequences, and what came out.

    Attributes:
        generator: where the sequences come from.
        tally: replies of redis-server, by command.
        played: sequences that were compared.
        voids: why sequences were not compared.
        findings: the first difference of each kind.
        seen: how often each kind of difference occurred.
        accepted: how often each accepted difference occurred, by its reason.
        crash: what a node wrote that ended by itself.
    """

    generator: Generator
    tally: Tally = field(default_factory=Tally)
    played: int = 0
    voids: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seen: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    crash: str = ""

    def play(self, machine: Machine, number: int, say: Callable[[str], None] = print) -> None:
        """Play one sequence, and look into a difference of a new kind.

        Raises:
            OSError: a server is gone.
            NotResp: a server sent bytes that are no reply.
        """
        sequence = self.generator.sequence(number)
        try:
            transcripts = machine.play(sequence)
        except Void as reason:
            self.voids.append(f"sequence {number}: {reason}")
            return
        self.played += 1
        self.tally.count(transcripts[0])
        difference = self._first_unaccepted(sequence, differences(*transcripts))
        if difference is None:
            return
        self.seen[difference.signature] += 1
        if self.seen[difference.signature] == 1 and len(self.findings) < FINDINGS_MAX:
            say(f"sequence {number}: {difference.name} differs; shrinking")
            self.findings.append(_look_into(machine, number, sequence, difference))

    def _first_unaccepted(self, sequence: Sequence, found: list[Difference]) -> Difference | None:
        """The first one that counts: what comes behind it is often only its consequence."""
        sent = [step.name for step in sequence.steps if isinstance(step, Send)]
        for difference in found:
            accepted = accepted_by(difference, sent)
            if accepted is None:
                return difference
            self.accepted[accepted.why] += 1
            if accepted.lasting:
                break
        return None

    def verdict(self, demand: int = 0) -> int:
        """The exit code; with a demand, commands that were tried too seldom make the run void."""
        if self.seen or self.crash:
            return DIFFERENT
        if not self.played or len(self.voids) > VOID_SHARE_MAX * self.played:
            return NOTHING_PROVEN
        if demand and self.tally.short_of(self.generator.names, demand):
            return NOTHING_PROVEN
        return NOTHING_FOUND


def _look_into(
    machine: Machine, number: int, sequence: Sequence, difference: Difference
) -> Finding:
    def same_again(candidate: Sequence) -> Difference | None:
        try:
            found = differences(*machine.play(candidate))
        except Void:
            return None
        return next((each for each in found if each.signature == difference.signature), None)

    if not any(same_again(sequence) for _ in range(CONFIRMATIONS)):
        return Finding(number, difference, sequence, steady=False)
    shortest = shrink(sequence, lambda candidate: same_again(candidate) is not None)
    return Finding(number, same_again(shortest) or difference, shortest, steady=True)


def known_commands(connection: Connection) -> set[str]:
    """Every command and subcommand that a server knows, by COMMAND LIST and COMMAND INFO."""
    (listed,) = connection.call([b"COMMAND", b"LIST"])
    names = {element.text.decode() for element in listed.elements}
    asked = sorted(name for name in names if "|" not in name)
    (rows,) = connection.call([b"COMMAND", b"INFO", *(name.encode() for name in asked)])
    for row in rows.elements:
        if len(row.elements) > 9:
            names |= {sub.elements[0].text.decode() for sub in row.elements[9].elements}
    return names


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which commands a run can compare.

    Attributes:
        compared: those with a row that both servers know.
        missing: those with a row that kvnode does not know.
        unlisted: those that kvnode knows without a row or a reason for having none.
    """

    compared: list[str]
    missing: list[str]
    unlisted: list[str]


def coverage(redis: Connection, kvnode: Connection) -> Coverage:
    """Ask both servers what they know."""
    theirs, ours = known_commands(redis), known_commands(kvnode)
    containers = {name.partition("|")[0] for name in ours if "|" in name}
    return Coverage(
        [name for name in COMMANDS if name in ours & theirs],
        [name for name in COMMANDS if name not in ours],
        sorted(without_row(ours) - containers),
    )
