"""Start one node from an installed `kvnode` command, SET, GET, and stop it.

    python scripts/wheel_check.py PATH-OF-KVNODE

Uses the standard library only, so that a clean environment stays clean.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 25.0
HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; good enough for one start."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports: list[int] = [made.getsockname()[1] for made in sockets]
    for made in sockets:
        made.close()
    return ports


def ask(port: int, line: bytes) -> bytes:
    """Send one inline command and return the first lines of its reply."""
    with socket.create_connection((HOST, port), 5) as connection:
        connection.settimeout(15)
        connection.sendall(line)
        return connection.recv(256)


def main() -> int:
    """0 if the node started, kept a value and stopped when asked."""
    client, peer, admin = free_ports(3)
    with tempfile.TemporaryDirectory() as data:
        node = subprocess.Popen(
            [
                *(sys.argv[1], "serve", "--data", f"{data}/node"),
                *("--listen", f"{HOST}:{client}", "--peer-listen", f"{HOST}:{peer}"),
                *("--admin", f"{HOST}:{admin}"),
            ],
            cwd=data,
        )
        try:
            deadline = time.monotonic() + START_SECONDS_MAX
            while True:
                try:
                    answer = ask(client, b"SET wheel round\r\n")
                    break
                except OSError:
                    if node.poll() is not None or time.monotonic() > deadline:
                        print("the node did not start")
                        return 1
                    time.sleep(0.05)
            value = ask(client, b"GET wheel\r\n")
            node.send_signal(signal.SIGTERM)
            code = node.wait(STOP_SECONDS_MAX)
        finally:
            node.kill()
            node.wait()
    print(f"SET {answer!r}, GET {value!r}, exit code {code}")
    return 0 if (answer, value, code) == (b"+OK\r\n", b"$5\r\nround\r\n", 0) else 1


if __name__ == "__main__":
    sys.exit(main())
