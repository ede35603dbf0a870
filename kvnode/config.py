"""Configuration of `kvnode serve`: read from four places, checked once, then frozen.

Every option has one name and three spellings: the flag `--peer-listen`, the variable
`KVNODE_PEER_LISTEN`, and the key `peer_listen` of the TOML file that `--config` names. The first
of flag, environment, file and default that gives a value wins, and the configuration remembers
which one it was (`origins`), because "where does this value come from" is what an operator asks.

All three spellings carry text, so one parser per option judges them all. A wrong value is one
sentence that begins with its origin. A wrong *flag* is a usage error (exit 64); a wrong variable,
file or combination is a wrong configuration (exit 78): a supervisor must not restart into it.

The unit is part of a field's name. The password never appears in a `repr` or in `rows`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kvnode import limits
from kvnode.address import Address, parse_address, parse_listen
from kvnode.errors import ConfigurationError, ExitCode
from kvnode.identity import default_cluster_id

Auto = Literal["auto"]
WalRepair = Literal["auto", "strict"]
LogFormat = Literal["logfmt", "json"]

DEFAULT_NODE = "node-1"
DEFAULT_PEER_LISTEN = "127.0.0.1:7379"


class UsageError(ConfigurationError):
    """A flag on the command line is wrong."""

    exit_code = ExitCode.USAGE


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
            "memory_shutdown_threshold_mb": _format_threshold(self.memory_threshold_bytes),
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


# --- parsers of single values -------------------------------------------------------------------
# Each takes the text of one value and returns it typed, or raises ValueError with the end of the
# sentence "ORIGIN: ...".


def parse_name(text: str) -> str:
    """Read the name of a node or of a cluster."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text):
        raise ValueError(
            f"{text!r} is not a name: 1 to 63 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return text


def parse_cluster(text: str) -> dict[str, Address]:
    """Read "NAME=HOST:PORT,..."; names and addresses must differ from each other."""
    cluster: dict[str, Address] = {}
    for entry in text.split(","):
        name, equals, address_text = entry.strip().partition("=")
        if not equals:
            raise ValueError(f"{entry.strip()!r} is not NAME=HOST:PORT")
        address = parse_address(address_text)
        if name in cluster:
            raise ValueError(f"two members are called {name!r}")
        if address in cluster.values():
            raise ValueError(f"two members have the address {address}")
        cluster[parse_name(name)] = address
    if len(cluster) > limits.CLUSTER_MEMBERS_MAX:
        raise ValueError(f"{len(cluster)} members; at most {limits.CLUSTER_MEMBERS_MAX} are served")
    return cluster


def parse_join(text: str) -> tuple[Address, ...]:
    """Read "HOST:PORT,..."."""
    return tuple(parse_address(part.strip()) for part in text.split(","))


def format_cluster(cluster: Mapping[str, Address]) -> str:
    """Write members the way `parse_cluster` reads them."""
    return ",".join(f"{name}={address}" for name, address in cluster.items())


def parse_duration_ms(text: str) -> int:
    """Read a duration such as "100ms", "1.5s" or "2m" into milliseconds, 1 ms to 1 hour."""
    match = re.fullmatch(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?(ms|s|m)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 100ms or 1s")
    whole, fraction, unit = match.groups(default="")
    scale = {"ms": 1, "s": 1_000, "m": 60_000}[unit]
    # Integers only: 1.1s is 1100 ms, and not 1100.0000000000002.
    divisor: int = 10 ** len(fraction)
    milliseconds, rest = divmod(int(whole + fraction) * scale, divisor)
    if rest or not 1 <= milliseconds <= 3_600_000:
        raise ValueError(f"{text!r} is not a whole number of milliseconds from 1ms to 60m")
    return milliseconds


def parse_remove_dead_after(text: str) -> int:
    """Read after how long of silence a member is removed, in milliseconds; 0 is never."""
    if text == "0":
        return 0
    milliseconds = parse_duration_ms(text)
    if milliseconds < limits.REMOVE_DEAD_AFTER_MS_MIN:
        least = limits.REMOVE_DEAD_AFTER_MS_MIN // 1000
        raise ValueError(f"{text!r} is less than {least}s: a restart must not cost a member")
    return milliseconds


def parse_election(text: str) -> tuple[int, int]:
    """Read the range that election timeouts are drawn from, such as "500ms-1000ms"."""
    low_text, dash, high_text = text.partition("-")
    if not dash:
        raise ValueError(f"{text!r} is not a range such as 500ms-1000ms")
    low, high = parse_duration_ms(low_text), parse_duration_ms(high_text)
    if low >= high:
        raise ValueError(f"{text!r}: the range must grow; equal timeouts split every vote")
    return low, high


def parse_boolean(text: str) -> bool:
    """Read a switch."""
    word = text.lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def parse_threshold(text: str) -> int | Auto:
    """Read the watchdog's threshold, in MiB, into bytes; 0 is off, "auto" is a share of RAM."""
    if text == "auto":
        return "auto"
    # Nine digits are a petabyte: beyond it the text is a slip, not a machine.
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is neither a whole number of MiB (0 is off) nor auto")
    return int(text) * limits.MIB


def _format_threshold(threshold: int | Auto) -> str:
    return threshold if threshold == "auto" else str(threshold // limits.MIB)


def parse_max_clients(text: str) -> int:
    """Read a number of connections."""
    if not re.fullmatch("[0-9]{1,7}", text) or int(text) == 0:
        raise ValueError(f"{text!r} is not a number of connections from 1 to 9999999")
    return int(text)


def parse_max_connections_per_peer(text: str) -> int:
    """Read a number of connections; 0 is no limit."""
    if not re.fullmatch("[0-9]{1,7}", text):
        raise ValueError(
            f"{text!r} is not a number of connections from 1 to 9999999, or 0 for no limit"
        )
    return int(text)


_SIZE = re.compile(r"([0-9]{1,15})(b|kb|mb|gb)?", re.IGNORECASE)
_SIZE_UNITS = {"b": 1, "kb": limits.KIB, "mb": limits.MIB, "gb": 1024 * limits.MIB}


def parse_bytes(text: str) -> int:
    """Read a size as Redis writes it: 1048576, 1024kb, 1mb; powers of 1024."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 64mb")
    return int(match[1]) * _SIZE_UNITS[(match[2] or "b").lower()]


def parse_snapshot_log_bytes(text: str) -> int:
    """Read how much may be logged between two snapshots."""
    size = parse_bytes(text)
    if size < limits.SNAPSHOT_LOG_BYTES_MIN:
        raise ValueError(f"{text!r} is less than {limits.SNAPSHOT_LOG_BYTES_MIN // limits.KIB}kb")
    return size


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return parse


# --- the options --------------------------------------------------------------------------------


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
    Option("wal_repair", _one_of("auto", "strict"), "auto", "MODE", "Torn tails: auto or strict."),
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
        _one_of("debug", "info", "warning", "error"),
        "info",
        "LEVEL",
        "debug, info, warning or error.",
    ),
    Option("log_format", _one_of("logfmt", "json"), "logfmt", "FORMAT", "logfmt or json."),
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

CONFIG_VARIABLE = "KVNODE_CONFIG"
_BY_NAME = {name: option for option in OPTIONS for name in option.names}


# --- from four places to one configuration ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """The text of one option and the place that gave it."""

    text: str
    origin: str


def load(flags: Mapping[str, str], environment: Mapping[str, str]) -> ServeConfig:
    """Gather, parse and check the configuration.

    `flags` maps option names (and "config") to text. An empty variable counts as unset, since
    `${X:-}` in a compose file gives exactly that.

    Raises:
        UsageError: a flag is wrong (exit 64).
        ConfigurationError: a variable, the file, or what they add up to is wrong (exit 78).
    """
    warnings: list[str] = []
    given = _gather(flags, environment, warnings)
    values = {option.name: _parse(option, given.get(option.name)) for option in OPTIONS}
    origins = {name: given[name].origin if name in given else "default" for name in values}
    _check_join(values, origins)
    _derive(values, origins)
    _check_cluster(values, origins)
    _check_timing(values, origins)
    _check_ports(values, origins)
    password = None
    if values["requirepass_file"] is not None:
        password = _read_password(values["requirepass_file"], origins, warnings)
    _check_exposure(values, password, warnings)
    interval_ms = values["memory_shutdown_poll_interval"]
    if interval_ms < limits.WATCHDOG_INTERVAL_MS_MIN:
        floor_ms = limits.WATCHDOG_INTERVAL_MS_MIN
        origin = origins["memory_shutdown_poll_interval"]
        warnings.append(f"{origin}: {interval_ms}ms is below the floor, using {floor_ms}ms")
        interval_ms = floor_ms
    election_ms_min, election_ms_max = values.pop("election")
    return ServeConfig(
        remove_dead_after_ms=values.pop("remove_dead_after"),
        heartbeat_ms=values.pop("heartbeat"),
        election_ms_min=election_ms_min,
        election_ms_max=election_ms_max,
        memory_threshold_bytes=values.pop("memory_shutdown_threshold_mb"),
        memory_interval_ms=interval_ms,
        password=password,
        origins=origins,
        warnings=tuple(warnings),
        **{name: values[name] for name in values if name != "memory_shutdown_poll_interval"},
    )


def held_address(flags: Mapping[str, str], environment: Mapping[str, str]) -> Address | None:
    """Where to stay reachable although the configuration is wrong; None: do not stay.

    `KVNODE_HOLD_ON_FATAL` asks for it. This looks only at the two options that it needs, so it
    works when any other is wrong.
    """
    try:
        given = _gather(flags, environment, [])
        if not _parse(_BY_NAME["hold_on_fatal"], given.get("hold_on_fatal")):
            return None
        address = _parse(_BY_NAME["admin"], given.get("admin"))
    except ConfigurationError:
        return None
    return address if isinstance(address, Address) else None


def _gather(
    flags: Mapping[str, str], environment: Mapping[str, str], warnings: list[str]
) -> dict[str, _Given]:
    """Collect the texts, weakest place first, so that a stronger one overwrites."""
    given: dict[str, _Given] = {}
    path, origin = flags.get("config"), "--config"
    if path is None:
        path, origin = environment.get(CONFIG_VARIABLE) or None, CONFIG_VARIABLE
    if path is not None:
        given.update(_read_file(path, origin))
    for option in OPTIONS:
        for variable in option.variables:
            if environment.get(variable):
                given[option.name] = _Given(environment[variable], variable)
        if option.name in flags:
            given[option.name] = _Given(flags[option.name], option.flag)
    known = {variable for option in OPTIONS for variable in option.variables} | {CONFIG_VARIABLE}
    warnings.extend(
        f"{name}: unknown variable, ignored"
        for name in sorted(environment)
        # Kubernetes announces a service called kvnode by KVNODE_PORT and its kin: a warning only.
        if name.startswith("KVNODE_") and name not in known
    )
    return given


def _wrong(origin: str, problem: object) -> ConfigurationError:
    kind = UsageError if origin.startswith("--") else ConfigurationError
    return kind(f"{origin}: {problem}")


def _parse(option: Option, given: _Given | None) -> Any:
    if given is None:
        return None if option.default is None else option.parse(option.default)
    if not given.text or "\0" in given.text:
        raise _wrong(given.origin, "the value is empty or holds a NUL")
    try:
        return option.parse(given.text)
    except ValueError as error:
        raise _wrong(given.origin, error) from error


def _read_file(path: str, origin: str) -> dict[str, _Given]:
    import tomllib

    try:
        # A configuration is short; whatever is longer is another file.
        with open(path, "rb") as file:
            content = file.read(limits.CONFIG_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _wrong(origin, f"cannot read {path}: {error.strerror}") from error
    if len(content) > limits.CONFIG_FILE_BYTES_MAX:
        raise _wrong(origin, f"{path} is longer than {limits.CONFIG_FILE_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(content.decode())
    except ValueError as error:
        problem = " ".join(str(error).split())
        raise ConfigurationError(f"{path}: not valid TOML: {problem}") from error
    given: dict[str, _Given] = {}
    for key, value in document.items():
        place = f"{path}: {key}"
        if key not in _BY_NAME:
            raise ConfigurationError(f"{place}: unknown key")
        given[_BY_NAME[key].name] = _Given(_text_of(key, value, place), place)
    return given


def _text_of(key: str, value: object, place: str) -> str:
    """Turn a TOML value into the text that the same option has elsewhere."""
    if key == "cluster" and isinstance(value, dict):
        return ",".join(f"{name}={address}" for name, address in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return str(value)
    raise ConfigurationError(f"{place}: expected text, a number or a boolean")


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


def _check_join(values: dict[str, Any], origins: dict[str, str]) -> None:
    """Who joins a cluster does not make one."""
    if values["join"] is None:
        if values["replaces"] is not None:
            raise _wrong(origins["replaces"], "only who joins can replace a member: give --join")
        return
    if values["cluster"] is not None:
        raise _wrong(
            origins["join"],
            f"{origins['cluster']} makes a new cluster, and --join enters one: give one of them",
        )


def _check_cluster(values: dict[str, Any], origins: dict[str, str]) -> None:
    if values["join"]:
        if values["advertise_peer"].is_wildcard:
            raise _wrong(
                origins["advertise_peer"],
                f"peers cannot connect to {values['advertise_peer']}: give --advertise-peer",
            )
        return
    if values["node"] not in values["cluster"]:
        members = ", ".join(values["cluster"])
        raise _wrong(origins["cluster"], f"this node, {values['node']!r}, is not among {members}")
    if len(values["cluster"]) > 1 and values["advertise_peer"].is_wildcard:
        raise _wrong(
            origins["advertise_peer"],
            f"peers cannot connect to {values['advertise_peer']}: give --advertise-peer",
        )


def _check_timing(values: dict[str, Any], origins: dict[str, str]) -> None:
    heartbeat_ms, election_ms_min = values["heartbeat"], values["election"][0]
    if election_ms_min <= 2 * heartbeat_ms:
        # One lost heartbeat must not start an election.
        blamed = "election" if origins["election"] != "default" else "heartbeat"
        raise _wrong(
            origins[blamed],
            f"the shortest election timeout, {election_ms_min}ms, must be more than twice "
            f"the heartbeat, {heartbeat_ms}ms",
        )


def _check_ports(values: dict[str, Any], origins: dict[str, str]) -> None:
    taken: dict[Address, str] = {}
    for name in ("listen", "peer_listen", "admin"):
        address: Address = values[name]
        if address.port and address in taken:
            raise _wrong(
                origins[name], f"{address} is the address of {_BY_NAME[taken[address]].flag} too"
            )
        taken[address] = name


def _read_password(path: Path, origins: dict[str, str], warnings: list[str]) -> bytes:
    origin = origins["requirepass_file"]
    try:
        with path.open("rb") as file:
            content = file.read(limits.PASSWORD_FILE_BYTES_MAX + 1)
            mode = path.stat().st_mode
    except OSError as error:
        raise _wrong(origin, f"cannot read {path}: {error.strerror}") from error
    if len(content) > limits.PASSWORD_FILE_BYTES_MAX:
        raise _wrong(origin, f"{path} is longer than {limits.PASSWORD_FILE_BYTES_MAX} bytes")
    password = content.removesuffix(b"\n").removesuffix(b"\r")
    if not password:
        raise _wrong(origin, f"{path} holds no password")
    if mode & 0o077:
        warnings.append(f"{origin}: others than its owner may open {path} (mode {mode & 0o777:o})")
    return password


def _check_exposure(values: dict[str, Any], password: bytes | None, warnings: list[str]) -> None:
    """Refuse to be reachable from elsewhere without a password, unless that is asked for."""
    exposed = [
        f"{_BY_NAME[name].flag} {values[name]}"
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
