"""What `kvnode serve` was told: gathered, checked, then frozen.

The unit is part of a field's name. The password never appears in a `repr` or in `rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kvnode.address import Address
from kvnode.config.checks import complete
from kvnode.config.options import BY_NAME, OPTIONS
from kvnode.config.sources import gather, parse_given
from kvnode.config.values import Auto, format_cluster, format_threshold
from kvnode.errors import ConfigurationError

WalRepair = Literal["auto", "strict"]
LogFormat = Literal["logfmt", "json"]


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """All that `kvnode serve` was told, checked.

    `cluster` keeps the order in which the members were written; it is empty with `join`.
    `cluster_id` is None for a single node that was given neither `--cluster` nor `--cluster-id`: it
    draws one at its first start.
    `memory_threshold_bytes` is 0 when the watchdog is off. `warnings` are sentences for the log.
    """

    node: str
    cluster: Mapping[str, Address]
    cluster_id: str | None
    join: tuple[Address, ...]
    replaces: str
    promote: bool
    remove_dead_after_ms: int
    listen: Address
    peer_listen: Address
    admin: Address
    advertise_client: Address
    advertise_peer: Address
    data: Path
    heartbeat_ms: int
    election_ms_min: int
    election_ms_max: int
    requirepass_file: Path | None
    password: bytes | None = field(repr=False)
    insecure: bool
    wal_repair: WalRepair
    lease_reads: bool
    memory_threshold_bytes: int | Auto
    memory_interval_ms: int
    hold_on_fatal: bool
    log_level: str
    log_format: LogFormat
    max_clients: int
    max_connections_per_peer: int
    snapshot_log_bytes: int
    max_data_bytes: int
    origins: Mapping[str, str]
    warnings: tuple[str, ...]

    def rows(self) -> list[tuple[str, str, str]]:
        """All options as (name, effective value, origin), in the order of `OPTIONS`."""
        values = {
            "cluster": format_cluster(self.cluster),
            "cluster_id": self.cluster_id or "",
            "join": ",".join(map(str, self.join)),
            "promote": str(self.promote).lower(),
            "remove_dead_after": f"{self.remove_dead_after_ms}ms"
            if self.remove_dead_after_ms
            else "0",
            "heartbeat": f"{self.heartbeat_ms}ms",
            "election": f"{self.election_ms_min}ms-{self.election_ms_max}ms",
            "requirepass_file": str(self.requirepass_file or ""),
            "insecure": str(self.insecure).lower(),
            "lease_reads": str(self.lease_reads).lower(),
            "hold_on_fatal": str(self.hold_on_fatal).lower(),
            "memory_shutdown_threshold_mb": format_threshold(self.memory_threshold_bytes),
            "memory_shutdown_poll_interval": f"{self.memory_interval_ms}ms",
        }
        return [
            (
                option.name,
                values[option.name] if option.name in values else str(getattr(self, option.name)),
                self.origins[option.name],
            )
            for option in OPTIONS
        ]


def load(flags: Mapping[str, str], environment: Mapping[str, str]) -> ServeConfig:
    """Gather, parse and check the configuration.

    `flags` maps option names (and "config") to text.

    Raises:
        UsageError: a flag is wrong (exit 64).
        ConfigurationError: a variable, the file, or what they add up to is wrong (exit 78).
    """
    warnings: list[str] = []
    given = gather(flags, environment, warnings)
    values = {option.name: parse_given(option, given.get(option.name)) for option in OPTIONS}
    origins = {name: given[name].origin if name in given else "default" for name in values}
    password = complete(values, origins, warnings)
    election_ms_min, election_ms_max = values.pop("election")
    return ServeConfig(
        remove_dead_after_ms=values.pop("remove_dead_after"),
        heartbeat_ms=values.pop("heartbeat"),
        election_ms_min=election_ms_min,
        election_ms_max=election_ms_max,
        memory_threshold_bytes=values.pop("memory_shutdown_threshold_mb"),
        memory_interval_ms=values.pop("memory_shutdown_poll_interval"),
        password=password,
        origins=origins,
        warnings=tuple(warnings),
        **values,
    )


def held_address(flags: Mapping[str, str], environment: Mapping[str, str]) -> Address | None:
    """Where to stay reachable although the configuration is wrong; None: do not stay.

    `KVNODE_HOLD_ON_FATAL` asks for it. This looks only at the two options that it needs, so it
    works when any other is wrong.
    """
    try:
        given = gather(flags, environment, [])
        if not parse_given(BY_NAME["hold_on_fatal"], given.get("hold_on_fatal")):
            return None
        address = parse_given(BY_NAME["admin"], given.get("admin"))
    except ConfigurationError:
        return None
    return address if isinstance(address, Address) else None
