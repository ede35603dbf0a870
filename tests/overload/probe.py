"""Polite clients beside an attack: one asks PING, one writes and remembers what it was told.

They run in threads of their own with plain sockets, so that nothing of the harness delays them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

HOST = "127.0.0.1"
PING_SECONDS = 0.01
CONNECT_SECONDS_MAX = 2.0
VALUE = b"w" * 64


class _Client(threading.Thread):
    """Asks again and again until it is told to stop; connects anew when it must."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._over = threading.Event()

    def stop(self) -> None:
        """Ask no more, and wait for the last answer."""
        self._over.set()
        self.join(CONNECT_SECONDS_MAX + 10)

    def run(self) -> None:
        while not self._over.is_set():
            with (
                contextlib.suppress(OSError),
                self._connect() as node,
                node.makefile("rb") as lines,
            ):
                while not self._over.is_set() and self.ask(node, lines.readline):
                    pass
            self._over.wait(0.05)

    def _connect(self) -> socket.socket:
        node = socket.create_connection((HOST, self._port), CONNECT_SECONDS_MAX)
        node.settimeout(10.0)
        return node

    def ask(self, node: socket.socket, readline: Callable[[], bytes]) -> bool:
        """One question; False if the connection has ended."""
        raise NotImplementedError


class Pinger(_Client):
    """PING a hundred times a second.

    Attributes:
        answers: (seconds since the start, milliseconds) of each answer.
        refused: answers that were errors.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.began = time.monotonic()
        self.answers: list[tuple[float, float]] = []
        self.refused = 0

    def ask(self, node: socket.socket, readline: Callable[[], bytes]) -> bool:
        asked_at = time.monotonic()
        node.sendall(b"*1\r\n$4\r\nPING\r\n")
        line = readline()
        now = time.monotonic()
        if not line:
            return False
        self.answers.append((now - self.began, (now - asked_at) * 1000))
        self.refused += line[:1] == b"-"
        self._over.wait(max(0.0, PING_SECONDS - (now - asked_at)))
        return True

    def slowest_ms(self) -> float:
        """The longest that an answer took."""
        return max((ms for _, ms in self.answers), default=float("inf"))

    def percentile_ms(self, percent: float) -> float:
        """A time that `percent` of a hundred answers did not exceed."""
        taken = sorted(ms for _, ms in self.answers)
        return taken[min(len(taken) - 1, int(len(taken) * percent / 100))] if taken else 0.0


class Writer(_Client):
    """Sets one new key after the other, and remembers those that were acknowledged."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(port)
        self._name = name
        self._number = 0
        self.acknowledged: list[bytes] = []
        self.refused: dict[str, int] = {}

    def ask(self, node: socket.socket, readline: Callable[[], bytes]) -> bool:
        self._number += 1
        key = b"kept:%s:%d" % (self._name.encode(), self._number)
        request = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
        node.sendall(request % (len(key), key, len(VALUE), VALUE))
        line = readline()
        if line.startswith(b"+OK"):
            self.acknowledged.append(key)
        elif line:
            code = line[1:].split()[0].decode()
            self.refused[code] = self.refused.get(code, 0) + 1
            self._over.wait(0.01)
        return bool(line)
