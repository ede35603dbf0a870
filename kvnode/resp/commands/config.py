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
    SLOW_LOG_RECORDS_MAX,
    VALUE_BYTES_MAX,
)
from kvnode.resp.commands.grammar import INT64_MAX, INT64_MIN, SYNTAX_ERROR, integer, text_of
from kvnode.resp.commands.refused import MAXMEMORY_POLICY
from kvnode.resp.encoder import OK_BYTES, bulk, mapping

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
    "maxclients": Setting("clients_max", 1, 10 * CLIENTS_MAX),
    "slowlog-log-slower-than": Setting("slow_log_us", INT64_MIN, INT64_MAX // 1000),
    "slowlog-max-len": Setting("slow_log_records", 0, SLOW_LOG_RECORDS_MAX),
    "timeout": Setting("idle_seconds_max", 0, INT32_MAX),
}
"""In Redis' names and units."""


def parameters(server: RespServer) -> dict[str, str]:
    """All that CONFIG GET shows."""
    config = server.config
    facts = {
        "appendfsync": "always",
        "appendonly": "yes",
        "bind": server.host,
        "client-output-buffer-limit": f"normal {server.budget.reply_bytes_max} 0 0",
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


def _failed(name: str, why: str) -> CommandError:
    return CommandError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


def config_resetstat(connection: Connection, _arguments: list[bytes]) -> bytes:
    server = connection.server
    server.stats.reset()
    server.stats.expired_before = server.service.expired_keys()
    return OK_BYTES


def config_rewrite(_connection: Connection, _arguments: list[bytes]) -> bytes:
    raise CommandError("ERR The server is running without a config file")
