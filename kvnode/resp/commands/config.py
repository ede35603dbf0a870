"""CONFIG: a node's settings in Redis' names.

A few of them can be changed while the node runs (`kvnode.resp.settings`). The others are facts. To
set one to the value that it has is accepted, because tools do so to be sure (`appendonly yes`).
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import (
    CLIENT_KEEPALIVE_SECONDS,
    CLIENTS_MAX,
    INLINE_BYTES_MAX,
    KIB,
    MIB,
    SLOW_LOG_RECORDS_MAX,
    VALUE_BYTES_MAX,
)
from kvnode.resp.commands.grammar import INT64_MAX, INT64_MIN, SYNTAX_ERROR, integer, text_of
from kvnode.resp.commands.refused import MAXMEMORY_POLICY
from kvnode.resp.encoder import OK_BYTES, bulk, mapping
from kvnode.resp.settings import OutputLimit, Settings

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection
    from kvnode.resp.listener import RespServer

CONFIG_PATTERNS_MAX: Final = 64
"""Patterns of one CONFIG GET; each is compiled."""

PATTERN_BYTES_MAX: Final = 128
INT32_MAX: Final = (1 << 31) - 1
AT_START: Final = "kvnode takes it from flags, environment or file, and only at start"
NOT_AN_INTEGER: Final = "argument couldn't be parsed into an integer"


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter that CONFIG SET may change: a number, a field of `Settings`."""

    field: str
    low: int
    high: int


SETTINGS: Final[dict[str, Setting]] = {
    "latency-monitor-threshold": Setting("latency_ms", 0, INT64_MAX // 1_000_000),
    "max-connections-per-peer": Setting("connections_per_peer_max", 0, 10 * CLIENTS_MAX),
    "maxclients": Setting("clients_max", 1, 10 * CLIENTS_MAX),
    "slowlog-log-slower-than": Setting("slow_log_us", INT64_MIN, INT64_MAX // 1000),
    "slowlog-max-len": Setting("slow_log_records", 0, SLOW_LOG_RECORDS_MAX),
    "timeout": Setting("idle_seconds_max", 0, INT32_MAX),
}
"""In Redis' names and units; what Redis does not have, in ours."""

OUTPUT_LIMIT: Final = "client-output-buffer-limit"
OUTPUT_CLASSES: Final = {
    "normal": "normal_output",
    "slave": "replica_output",
    "pubsub": "pubsub_output",
}
"""Classes of clients as CONFIG GET spells them, and their fields of `Settings`."""
BYTES: Final = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": KIB,
    "m": 1000**2,
    "mb": MIB,
    "g": 1000**3,
    "gb": 1024 * MIB,
}
"""Redis' units of memory."""
_AMOUNT: Final = re.compile(r"(\d{1,19})([a-z]*)", re.ASCII)
_SECONDS: Final = re.compile(r"\d{1,18}", re.ASCII)


def parameters(server: RespServer) -> dict[str, str]:
    """All that CONFIG GET shows."""
    config = server.config
    facts = {
        "appendfsync": "always",
        "appendonly": "yes",
        "bind": server.host,
        OUTPUT_LIMIT: show_output_limits(server.settings),
        "cluster-enabled": "no",
        "databases": str(config.databases),
        "dir": ".",
        "io-threads": "1",
        "latency-tracking": "yes",
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "notify-keyspace-events": "",
        "port": str(server.port),
        "proto-inline-max-len": str(INLINE_BYTES_MAX),
        "proto-max-bulk-len": str(VALUE_BYTES_MAX),
        "requirepass": "",  # never shown, not even to those who know it
        "save": "",
        "tcp-keepalive": str(CLIENT_KEEPALIVE_SECONDS),
    }
    for name, setting in SETTINGS.items():
        facts[name] = str(getattr(server.settings, setting.field))
    return dict(sorted(facts.items()))


def config_get(connection: Connection, arguments: list[bytes]) -> bytes:
    patterns = arguments[2 : 2 + CONFIG_PATTERNS_MAX]
    known = parameters(connection.server)
    chosen: dict[str, bytes] = {}
    for pattern in patterns:
        name = text_of(pattern).lower()
        if name in known:
            # As it was spelled, and but once, however it is spelled.
            chosen.setdefault(name, pattern)
        elif len(name) <= PATTERN_BYTES_MAX and any(sign in name for sign in "*?["):
            matches = re.compile(translate(name)).match
            for key in filter(matches, known):
                chosen.setdefault(key, key.encode())
    pairs = [(bulk(spelled), bulk(known[name].encode())) for name, spelled in chosen.items()]
    return mapping(pairs, connection.protocol)


def config_set(connection: Connection, arguments: list[bytes]) -> bytes:
    """All parameters or none: everything is judged before anything is changed."""
    if len(arguments) % 2:
        raise CommandError(SYNTAX_ERROR)
    server = connection.server
    known = parameters(server)
    changed = copy.copy(server.settings)
    seen: set[str] = set()
    for given in arguments[2::2]:
        if text_of(given).lower() not in known:
            raise CommandError(
                f"ERR Unknown option or number of arguments for CONFIG SET - '{text_of(given)}'"
            )
    for given, value in zip(arguments[2::2], arguments[3::2], strict=True):
        name = text_of(given).lower()
        if name in seen:
            raise _failed(name, "duplicate parameter")
        seen.add(name)
        if name in SETTINGS:
            setattr(changed, SETTINGS[name].field, _parse_number(name, value))
        elif name == OUTPUT_LIMIT:
            _parse_output_limits(changed, text_of(value))
        elif text_of(value).lower() != known[name]:
            raise _failed(name, MAXMEMORY_POLICY if name == "maxmemory-policy" else AT_START)
    server.change_settings(changed)
    return OK_BYTES


def _parse_number(name: str, value: bytes) -> int:
    setting = SETTINGS[name]
    try:
        number = integer(value)
    except CommandError as bad:
        raise _failed(name, NOT_AN_INTEGER) from bad
    if not setting.low <= number <= setting.high:
        raise _failed(name, f"argument must be between {setting.low} and {setting.high} inclusive")
    return number


def show_output_limits(settings: Settings) -> str:
    """The limits of all classes in Redis' order."""
    parts: list[str] = []
    for name, field in OUTPUT_CLASSES.items():
        limit: OutputLimit = getattr(settings, field)
        parts.append(f"{name} {limit.hard_bytes} {limit.soft_bytes} {limit.soft_seconds}")
    return " ".join(parts)


def _parse_output_limits(settings: Settings, text: str) -> None:
    """Any number of `class hard soft seconds`; the classes that are not named keep theirs."""
    words = text.split(" ") if text else []
    if len(words) % 4:
        raise _failed(OUTPUT_LIMIT, "Wrong number of arguments in buffer limit configuration.")
    for at in range(0, len(words), 4):
        name = words[at].lower()
        field = OUTPUT_CLASSES.get("slave" if name == "replica" else name)
        if field is None:
            why = "Invalid client class specified in buffer limit configuration."
            raise _failed(OUTPUT_LIMIT, why)
        hard, soft = _parse_bytes(words[at + 1]), _parse_bytes(words[at + 2])
        if hard is None or soft is None or not _SECONDS.fullmatch(words[at + 3]):
            why = "Error in hard, soft or soft_seconds setting in buffer limit configuration."
            raise _failed(OUTPUT_LIMIT, why)
        setattr(settings, field, OutputLimit(hard, soft, int(words[at + 3])))


def _parse_bytes(text: str) -> int | None:
    amount = _AMOUNT.fullmatch(text.lower())
    if amount is None or amount[2] not in BYTES:
        return None
    size = int(amount[1]) * BYTES[amount[2]]
    return size if size <= INT64_MAX else None


def _failed(name: str, why: str) -> CommandError:
    return CommandError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


def config_resetstat(connection: Connection, _arguments: list[bytes]) -> bytes:
    server = connection.server
    server.stats.reset()
    server.stats.expired_before = server.service.expired_keys()
    return OK_BYTES


def config_rewrite(_connection: Connection, _arguments: list[bytes]) -> bytes:
    raise CommandError("ERR The server is running without a config file")
