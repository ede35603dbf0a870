"""Addresses: what an operator writes as HOST:PORT.

IPv6 stands in brackets, `[::1]:6379`. A host name is kept as it is; it is resolved when somebody
listens or connects, since it may mean another machine tomorrow.
"""

from __future__ import annotations

import errno
import ipaddress
import re
from dataclasses import dataclass

from kvnode.errors import ConfigurationError, FatalError, ResourceBusy


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or connect: an IPv4 or IPv6 address or a host name, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can reach it. A name other than localhost may be anything."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_wildcard(self) -> bool:
        """True for 0.0.0.0 and [::]: good to listen on, useless to tell others."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    @property
    def reachable(self) -> Address:
        """Where a program on this machine connects to who listens here: loopback for a wildcard."""
        if not self.is_wildcard:
            return self
        return Address("::1" if ":" in self.host else "127.0.0.1", self.port)


def parse_address(text: str, *, port_min: int = 1) -> Address:
    """Read "host:port" or "[::1]:port"; `port_min` 0 allows "any free port"."""
    host, colon, port_text = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, such as [::1]:6379")
    if not colon or not host or re.search(r"[\s,=\[\]/]", host):
        raise ValueError(f"{text!r} is not HOST:PORT")
    if not re.fullmatch("[0-9]{1,5}", port_text) or not port_min <= int(port_text) <= 65535:
        raise ValueError(f"{text!r}: the port must be a number from {port_min} to 65535")
    return Address(host, int(port_text))


def parse_listen(text: str) -> Address:
    """Read an address to listen on; port 0 is any free port."""
    return parse_address(text, port_min=0)


def listen_failed(flag: str, address: Address, error: OSError) -> FatalError:
    """Name the reason why `address`, given by `flag`, cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return ResourceBusy(f"{flag}: {address} is in use by another process")
    return ConfigurationError(f"{flag}: cannot listen on {address}: {error.strerror or error}")
