"""A redis-server of version 7.0 for one test, on a Unix socket, as the judge of replies."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hiredis
import pytest

from tests.unit.resp.memory_client import encode

requires_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)


class RealRedis:
    """A connection that answers in raw bytes."""

    def __init__(self, path: Path, protocol: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self.call_raw("HELLO", protocol)

    def call_raw(self, *arguments: str | bytes) -> bytes:
        """The bytes of one reply."""
        self._socket.sendall(encode(*arguments))
        reader = hiredis.Reader(notEnoughData=Ellipsis)
        answer = b""
        while reader.gets() is Ellipsis:
            chunk = self._socket.recv(1 << 20)
            assert chunk, f"closed after {answer!r}"
            reader.feed(chunk)
            answer += chunk
        return answer

    def call(self, *arguments: str | bytes) -> object:
        """One reply, decoded."""
        reader = hiredis.Reader()
        reader.feed(self.call_raw(*arguments))
        return reader.gets()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def real_redis(folder: Path, *options: str, protocol: str = "2") -> Iterator[RealRedis]:
    """Start a server with these options, and stop it in the end."""
    path = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if b"Redis version=" in line and b"Redis version=7.0." not in line:
                    pytest.skip("another version of Redis has other texts")
                if b"ready to accept" in line.lower():
                    break
            connection = RealRedis(path, protocol)
            try:
                yield connection
            finally:
                connection.close()
        finally:
            process.terminate()
            process.stdout.close()
