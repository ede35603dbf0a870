"""The grammar of single values: text in, a typed value out.

Each parser takes the text of one value and returns it typed, or raises ValueError with the end of
the sentence "ORIGIN: ...".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from kvnode import limits
from kvnode.address import Address, parse_address

Auto = Literal["auto"]


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


def format_threshold(threshold: int | Auto) -> str:
    """Write a threshold the way `parse_threshold` reads it."""
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


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser that takes these words and no other."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return parse
