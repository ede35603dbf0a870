"""What the options add up to: what follows from others, and what does not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvnode import limits
from kvnode.address import Address, parse_address
from kvnode.config.options import BY_NAME, DEFAULT_PEER_LISTEN
from kvnode.config.sources import wrong
from kvnode.errors import ConfigurationError
from kvnode.identity import default_cluster_id


def complete(values: dict[str, Any], origins: dict[str, str], warnings: list[str]) -> bytes | None:
    """Fill in what follows from other options, and judge the whole; returns the password.

    All three are changed in place: values by option, where each comes from, sentences for the log.

    Raises:
        UsageError: a flag does not go with the rest (exit 64).
        ConfigurationError: a variable or the file does not, or the password cannot be read (78).
    """
    _check_join(values, origins)
    _derive(values, origins)
    _check_cluster(values, origins)
    _check_timing(values, origins)
    _check_ports(values, origins)
    password = None
    if values["requirepass_file"] is not None:
        password = _read_password(values["requirepass_file"], origins, warnings)
    _check_exposure(values, password, warnings)
    _floor_interval(values, origins, warnings)
    return password


def _check_join(values: dict[str, Any], origins: dict[str, str]) -> None:
    """Who joins a cluster does not make one."""
    if values["join"] is None:
        if values["replaces"] is not None:
            raise wrong(origins["replaces"], "only who joins can replace a member: give --join")
        return
    if values["cluster"] is not None:
        raise wrong(
            origins["join"],
            f"{origins['cluster']} makes a new cluster, and --join enters one: give one of them",
        )


def _derive(values: dict[str, Any], origins: dict[str, str]) -> None:
    """Fill in what follows from other options."""
    node, cluster = values["node"], values["cluster"]
    own = cluster.get(node) if cluster is not None else None
    if values["peer_listen"] is None:
        values["peer_listen"] = own or parse_address(DEFAULT_PEER_LISTEN)
        if own is not None:
            origins["peer_listen"] = f"{origins['cluster']} (own entry)"
    if values["advertise_peer"] is None:
        values["advertise_peer"] = own or values["peer_listen"]
        origins["advertise_peer"] = origins["cluster" if own is not None else "peer_listen"]
    if values["advertise_client"] is None:
        # A wildcard tells nobody anything: peers reach us by the host of our peer address.
        listen: Address = values["listen"]
        host = values["advertise_peer"].host if listen.is_wildcard else listen.host
        values["advertise_client"] = Address(host, listen.port)
        origins["advertise_client"] = origins["listen"]
    values["join"] = values["join"] or ()
    values["replaces"] = values["replaces"] or ""
    if values["join"]:
        values["cluster"] = {}
    elif cluster is None:
        values["cluster"] = {node: values["advertise_peer"]}
    elif values["cluster_id"] is None:
        values["cluster_id"] = default_cluster_id(cluster)
        origins["cluster_id"] = f"{origins['cluster']} (hash)"


def _check_cluster(values: dict[str, Any], origins: dict[str, str]) -> None:
    if values["join"]:
        if values["advertise_peer"].is_wildcard:
            raise wrong(
                origins["advertise_peer"],
                f"peers cannot connect to {values['advertise_peer']}: give --advertise-peer",
            )
        return
    if values["node"] not in values["cluster"]:
        members = ", ".join(values["cluster"])
        raise wrong(origins["cluster"], f"this node, {values['node']!r}, is not among {members}")
    if len(values["cluster"]) > 1 and values["advertise_peer"].is_wildcard:
        raise wrong(
            origins["advertise_peer"],
            f"peers cannot connect to {values['advertise_peer']}: give --advertise-peer",
        )


def _check_timing(values: dict[str, Any], origins: dict[str, str]) -> None:
    heartbeat_ms, election_ms_min = values["heartbeat"], values["election"][0]
    if election_ms_min <= 2 * heartbeat_ms:
        # One lost heartbeat must not start an election.
        blamed = "election" if origins["election"] != "default" else "heartbeat"
        raise wrong(
            origins[blamed],
            f"the shortest election timeout, {election_ms_min}ms, must be more than twice "
            f"the heartbeat, {heartbeat_ms}ms",
        )


def _check_ports(values: dict[str, Any], origins: dict[str, str]) -> None:
    taken: dict[Address, str] = {}
    for name in ("listen", "peer_listen", "admin"):
        address: Address = values[name]
        if address.port and address in taken:
            raise wrong(
                origins[name], f"{address} is the address of {BY_NAME[taken[address]].flag} too"
            )
        taken[address] = name


def _read_password(path: Path, origins: dict[str, str], warnings: list[str]) -> bytes:
    origin = origins["requirepass_file"]
    try:
        with path.open("rb") as file:
            content = file.read(limits.PASSWORD_FILE_BYTES_MAX + 1)
            mode = path.stat().st_mode
    except OSError as error:
        raise wrong(origin, f"cannot read {path}: {error.strerror}") from error
    if len(content) > limits.PASSWORD_FILE_BYTES_MAX:
        raise wrong(origin, f"{path} is longer than {limits.PASSWORD_FILE_BYTES_MAX} bytes")
    password = content.removesuffix(b"\n").removesuffix(b"\r")
    if not password:
        raise wrong(origin, f"{path} holds no password")
    if mode & 0o077:
        warnings.append(f"{origin}: others than its owner may open {path} (mode {mode & 0o777:o})")
    return password


def _check_exposure(values: dict[str, Any], password: bytes | None, warnings: list[str]) -> None:
    """Refuse to be reachable from elsewhere without a password, unless that is asked for."""
    exposed = [
        f"{BY_NAME[name].flag} {values[name]}"
        for name in ("listen", "peer_listen", "admin")
        if not values[name].is_loopback
    ]
    if not exposed or password is not None:
        return
    if not values["insecure"]:
        raise ConfigurationError(
            f"{' and '.join(exposed)} can be reached from other machines without a password: "
            "give --requirepass-file, or --insecure if that is meant"
        )
    warnings.append(
        f"insecure: whoever reaches {' or '.join(exposed)} can read and change everything"
    )


def _floor_interval(values: dict[str, Any], origins: dict[str, str], warnings: list[str]) -> None:
    """Measuring more often than the floor costs more than it tells."""
    interval_ms = values["memory_shutdown_poll_interval"]
    if interval_ms < limits.WATCHDOG_INTERVAL_MS_MIN:
        floor_ms = limits.WATCHDOG_INTERVAL_MS_MIN
        origin = origins["memory_shutdown_poll_interval"]
        warnings.append(f"{origin}: {interval_ms}ms is below the floor, using {floor_ms}ms")
        values["memory_shutdown_poll_interval"] = floor_ms
