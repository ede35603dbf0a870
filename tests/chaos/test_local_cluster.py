"""Starting, waiting for and stopping real processes, and the demo that is made of it."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.demo import SAME_SIGNAL_SECONDS, Signals
from scripts.local_cluster import HOST, LocalCluster, NodeFailed, PortReservation

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO_STOP_SECONDS_MAX = 10
DEMO_START_SECONDS_MAX = 60


def test_a_reserved_port_can_be_listened_on_again_and_again() -> None:
    reservation = PortReservation()
    for _ in range(2):
        with socket.create_server((HOST, reservation.port), reuse_port=False) as server:
            socket.create_connection((HOST, reservation.port)).close()
            server.accept()[0].close()
    reservation.release()


def test_a_reserved_port_is_given_to_nobody_else() -> None:
    reservation = PortReservation()
    others = [socket.create_server((HOST, 0)) for _ in range(200)]
    ports = {other.getsockname()[1] for other in others}
    for other in others:
        other.close()
    assert reservation.port not in ports
    reservation.release()


def test_a_node_that_ends_is_reported_at_once_with_its_last_words(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import sys; print('no disk'); sys.exit(74)")
    cluster = LocalCluster(tmp_path, 1, command)
    with pytest.raises(NodeFailed, match=r"exit code 74:\n.*no disk"):
        cluster.start()
    cluster.close()


def test_a_node_that_does_not_stop_is_killed_and_named(tmp_path: Path) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('deaf', flush=True); time.sleep(60)"
    )
    cluster = LocalCluster(tmp_path, 1, (sys.executable, "-c", program))
    cluster.launch()
    node = cluster.nodes[0]
    while "deaf" not in node.log_tail():
        assert node.alive()
    assert cluster.stop(seconds=0.1) == [node]
    assert not node.alive()
    cluster.close()


def test_one_ctrl_c_that_arrives_twice_is_one_wish() -> None:
    signals = Signals()
    signals._handle(signal.SIGINT, None)
    signals._handle(signal.SIGINT, None)
    assert signals.count == 1
    signals._last -= SAME_SIGNAL_SECONDS
    signals._handle(signal.SIGINT, None)
    assert signals.count == 2


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.demo"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def read_until(process: subprocess.Popen[bytes], text: str) -> str:
    """What the process prints, up to and with `text`."""
    assert process.stdout is not None
    seen = b""
    deadline = time.monotonic() + DEMO_START_SECONDS_MAX
    while text not in seen.decode(errors="replace"):
        readable, _, _ = select.select([process.stdout], [], [], deadline - time.monotonic())
        chunk = os.read(process.stdout.fileno(), 65536) if readable else b""
        assert chunk, f"no {text!r} in: {seen.decode()}"
        seen += chunk
    return seen.decode()


def running(pid: int) -> bool:
    """Tell whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.cluster
def test_ctrl_c_stops_the_demo_and_all_its_nodes(demo: subprocess.Popen[bytes]) -> None:
    text = read_until(demo, "second Ctrl-C kills them")
    pids = [int(pid) for pid in re.findall(r"pid (\d+)$", text, re.MULTILINE)]
    ports = [int(port) for port in re.findall(r"redis-cli -p (\d+) +# n", text)]
    assert len(pids) == len(ports) == 3
    assert re.search(r"n[123] leads", text)
    for port in ports:
        with socket.create_connection((HOST, port), 5) as connection:
            connection.sendall(b"INCR visits\r\n")
            assert connection.recv(64).startswith(b":")
    # As a terminal does it: to the whole group.
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(DEMO_STOP_SECONDS_MAX) == 0
    assert not any(running(pid) for pid in pids)


@pytest.mark.cluster
def test_the_demo_brings_a_killed_node_back(demo: subprocess.Popen[bytes]) -> None:
    text = read_until(demo, "second Ctrl-C kills them")
    victim = re.search(r"# (n\d), leader, pid (\d+)", text)
    assert victim is not None
    os.kill(int(victim[2]), signal.SIGKILL)
    assert f"{victim[1]} is back" in read_until(demo, "is back")
    os.killpg(demo.pid, signal.SIGTERM)
    assert demo.wait(DEMO_STOP_SECONDS_MAX) in {0, 1}
