"""Counters of the front end: plain integers that INFO and the metrics page read."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvnode.resp.commands.table import COMMANDS

ERROR_CODES_MAX = 128
"""Different error codes counted apart, as many as Redis keeps; the rest count as "OTHER"."""


@dataclass(slots=True)
class Stats:
    """What the front end has done since it started (or since CONFIG RESETSTAT, where noted).

    Attributes:
        connections_total: connections accepted.
        connections_rejected_total: connections refused because there were `clients_max`.
        connections_closed_total: connections we closed to protect the node, by reason.
        protocol_violations_total: streams that could not be understood.
        input_bytes_total: bytes read from clients.
        output_bytes_total: bytes handed to the kernel, or waiting for it.
        calls: commands accepted, by index in the command table (reset by CONFIG RESETSTAT).
        rejected: commands refused before they were run, likewise.
        errors: error replies by their code, the first word (reset by CONFIG RESETSTAT).
    """

    connections_total: int = 0
    connections_rejected_total: int = 0
    connections_closed_total: dict[str, int] = field(default_factory=dict)
    protocol_violations_total: int = 0
    input_bytes_total: int = 0
    output_bytes_total: int = 0
    calls: list[int] = field(default_factory=lambda: [0] * len(COMMANDS))
    rejected: list[int] = field(default_factory=lambda: [0] * len(COMMANDS))
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def commands_total(self) -> int:
        """Commands accepted."""
        return sum(self.calls)

    @property
    def errors_total(self) -> int:
        """Error replies sent."""
        return sum(self.errors.values())

    def calls_by_name(self) -> dict[str, int]:
        """Commands accepted, of those that were used."""
        return {c.name: self.calls[c.index] for c in COMMANDS.values() if self.calls[c.index]}

    def count_error(self, line: bytes) -> None:
        """Count an encoded error reply under its code."""
        code = line[1:33].split(None, 1)[0].decode("ascii", "replace")
        if code not in self.errors and len(self.errors) >= ERROR_CODES_MAX:
            code = "OTHER"
        self.errors[code] = self.errors.get(code, 0) + 1

    def count_closed(self, reason: str) -> None:
        """Count a connection that we closed."""
        self.connections_closed_total[reason] = self.connections_closed_total.get(reason, 0) + 1

    def reset(self) -> None:
        """CONFIG RESETSTAT."""
        self.calls[:] = [0] * len(self.calls)
        self.rejected[:] = [0] * len(self.rejected)
        self.errors.clear()
