"""The table of all options of `kvnode serve`: the one place where an option is added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvnode import limits
from kvnode.address import parse_address, parse_listen
from kvnode.config.values import (
    one_of,
    parse_boolean,
    parse_bytes,
    parse_cluster,
    parse_duration_ms,
    parse_election,
    parse_join,
    parse_max_clients,
    parse_max_connections_per_peer,
    parse_name,
    parse_remove_dead_after,
    parse_snapshot_log_bytes,
    parse_threshold,
)

DEFAULT_NODE = "node-1"
DEFAULT_PEER_LISTEN = "127.0.0.1:7379"


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name, the parser of its text, its default text, and its line of help.

    `alias` is a name that it had before and still answers to, in all three spellings.
    """

    name: str
    parse: Callable[[str], Any]
    default: str | None
    metavar: str
    help: str
    alias: str = ""

    @property
    def flag(self) -> str:
        """The spelling on the command line."""
        return self.flags[-1]

    @property
    def flags(self) -> list[str]:
        """All spellings on the command line."""
        return ["--" + name.replace("_", "-") for name in self.names]

    @property
    def names(self) -> list[str]:
        """All names, the present one last."""
        return [self.alias, self.name] if self.alias else [self.name]

    @property
    def variable(self) -> str:
        """The spelling in the environment."""
        return self.variables[-1]

    @property
    def variables(self) -> list[str]:
        """All spellings in the environment."""
        return ["KVNODE_" + name.upper() for name in self.names]

    @property
    def is_switch(self) -> bool:
        """True for a flag that takes no value."""
        return self.parse is parse_boolean


OPTIONS: tuple[Option, ...] = (
    Option("node", parse_name, DEFAULT_NODE, "NAME", "Name of this node."),
    Option("cluster", parse_cluster, None, "NAME=HOST:PORT,…", "Initial members, this one too."),
    Option("cluster_id", parse_name, None, "ID", "Id of the cluster [default: hash of --cluster]."),
    Option(
        "join",
        parse_join,
        None,
        "HOST:PORT,…",
        "Become a member of the cluster whose peer addresses these are.",
    ),
    Option("replaces", parse_name, None, "NAME", "With --join: take the place of this member."),
    Option(
        "promote",
        parse_boolean,
        "true",
        "",
        "With --join: become a voter when caught up, else stay a read-only learner.",
    ),
    Option(
        "remove_dead_after",
        parse_remove_dead_after,
        "0",
        "DURATION",
        "As leader: remove members not heard for so long; 0 for never.",
    ),
    Option("listen", parse_listen, "127.0.0.1:6379", "HOST:PORT", "Where clients connect."),
    Option(
        "peer_listen",
        parse_listen,
        None,
        "HOST:PORT",
        f"Where peers connect [default: own entry in --cluster, else {DEFAULT_PEER_LISTEN}].",
    ),
    Option("admin", parse_listen, "127.0.0.1:8379", "HOST:PORT", "Where operators connect (HTTP)."),
    Option("advertise_client", parse_address, None, "HOST:PORT", "Client address told to others."),
    Option("advertise_peer", parse_address, None, "HOST:PORT", "Peer address told to others."),
    Option("data", Path, "./kvnode-data", "DIR", "Data directory."),
    Option("heartbeat", parse_duration_ms, "100ms", "DURATION", "Leader's heartbeat interval."),
    Option("election", parse_election, "500ms-1000ms", "MIN-MAX", "Range of election timeouts."),
    Option("requirepass_file", Path, None, "FILE", "File that holds the clients' password."),
    Option("insecure", parse_boolean, "false", "", "Listen beyond loopback without a password."),
    Option("wal_repair", one_of("auto", "strict"), "auto", "MODE", "Torn tails: auto or strict."),
    Option(
        "lease_reads",
        parse_boolean,
        "false",
        "",
        "Answer reads on a lease, which trusts clocks; on all members alike.",
    ),
    Option(
        "snapshot_log_bytes",
        parse_snapshot_log_bytes,
        f"{limits.SNAPSHOT_LOG_BYTES // limits.MIB}mb",
        "SIZE",
        "Take a snapshot, and cut the log, after this much was logged.",
    ),
    Option(
        "max_data_bytes",
        parse_bytes,
        "0",
        "SIZE",
        "Refuse writes that add data above this size, as Redis' maxmemory; 0 for no limit.",
    ),
    Option(
        "memory_shutdown_threshold_mb",
        parse_threshold,
        "0",
        "MIB",
        "Leave with exit 2 at this much memory: MiB, auto, or 0 for never.",
    ),
    Option(
        "memory_shutdown_poll_interval",
        parse_duration_ms,
        f"{limits.WATCHDOG_INTERVAL_MS}ms",
        "DURATION",
        "How often memory is measured.",
    ),
    Option(
        "hold_on_fatal",
        parse_boolean,
        "false",
        "",
        "On exit 65, 74 or 78 stay alive, unready, with only the admin port open.",
    ),
    Option(
        "log_level",
        one_of("debug", "info", "warning", "error"),
        "info",
        "LEVEL",
        "debug, info, warning or error.",
    ),
    Option("log_format", one_of("logfmt", "json"), "logfmt", "FORMAT", "logfmt or json."),
    Option(
        "max_clients",
        parse_max_clients,
        str(limits.CLIENTS_MAX),
        "N",
        "Client connections at once.",
        alias="clients_max",
    ),
    Option(
        "max_connections_per_peer",
        parse_max_connections_per_peer,
        str(limits.CONNECTIONS_PER_PEER_MAX),
        "N",
        "Client connections of one address; 0 for no limit.",
    ),
)

BY_NAME = {name: option for option in OPTIONS for name in option.names}
"""Each option by its name, and by the one that it had before."""
