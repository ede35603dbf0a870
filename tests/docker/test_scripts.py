"""The shell scripts of the image: the health check, and a base image without a registry."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvnode.admin import HeldSource, respond
from kvnode.errors import LogCorrupt
from tests.support.docker import REPOSITORY

READY = REPOSITORY / "docker" / "ready.sh"
BASE_IMAGE_SH = REPOSITORY / "scripts" / "base-image.sh"
CI = REPOSITORY / ".ci" / "run"


def run(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(script), *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("script", [READY, BASE_IMAGE_SH, CI], ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck")
    result = subprocess.run(
        ["shellcheck", str(script)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "")


# --- the health check -----------------------------------------------------------------------------


@contextmanager
def admin_port(answer: bytes | None) -> Iterator[str]:
    """Answers one request with these bytes and closes; None: says nothing and stays."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                assert b"GET /readyz?verbose " in connection.recv(1000)
                if answer is None:
                    done.wait(30)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


def test_a_ready_node_is_healthy() -> None:
    with admin_port(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n") as address:
        result = run(READY, KVNODE_ADMIN=address)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_wildcard_is_asked_on_loopback() -> None:
    with admin_port(b"HTTP/1.1 200 OK\r\n\r\n") as address:
        wildcard = address.replace("127.0.0.1", "0.0.0.0")
        assert run(READY, KVNODE_ADMIN=wildcard).returncode == 0


def test_what_fails_is_told() -> None:
    answer = respond(HeldSource(LogCorrupt("record 7 is damaged")), "GET", "/readyz?verbose")
    assert answer.status == 503
    with admin_port(b"HTTP/1.1 503 Service Unavailable\r\n\r\n" + answer.body) as address:
        result = run(READY, KVNODE_ADMIN=address)
    assert result.returncode == 1
    assert result.stdout == "[-]fatal failed: record 7 is damaged\n"


def test_nobody_there_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    result = run(READY, KVNODE_ADMIN=address)
    assert result.returncode == 1
    assert "refused" in result.stderr


def test_a_node_that_says_nothing_is_not_waited_for() -> None:
    with admin_port(None) as address:
        result = run(READY, KVNODE_ADMIN=address)
    assert (result.returncode, result.stdout) == (
        1,
        f"the admin port {address} does not answer\n",
    )


# --- the base image -------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory in front of PATH, for stand-ins of programs; each notes that it was called."""
    directory = tmp_path / "bin"
    directory.mkdir()
    return directory


def stand_in(programs: Path, name: str, body: str) -> None:
    program = programs / name
    program.write_text(f'#!/bin/sh\necho "{name} $*" >>"{programs}/calls"\n{body}\n')
    program.chmod(0o755)


def calls(programs: Path) -> list[str]:
    log = programs / "calls"
    return log.read_text().splitlines() if log.exists() else []


def base_image(programs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{programs}:{os.environ['PATH']}"
    return run(
        BASE_IMAGE_SH, *arguments, PATH=path, KVNODE_ENGINE_DIR=str(programs.parent / "engine")
    )


def test_where_all_is_there_nothing_is_made(programs: Path) -> None:
    stand_in(programs, "docker", "exit 0")
    for name in ("dockerd", "debootstrap", "apt-get"):
        stand_in(programs, name, "exit 1")
    assert base_image(programs).returncode == 0
    assert calls(programs) == ["docker info", "docker image inspect python:3.11-slim-bookworm"]


def test_a_base_image_that_cannot_be_made_is_one_sentence_and_1(programs: Path) -> None:
    stand_in(programs, "docker", '[ "$1" = info ]')
    stand_in(programs, "debootstrap", "exit 1")
    result = base_image(programs)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("base-image: debootstrap: ")


def test_only_root_installs_what_is_missing(programs: Path) -> None:
    stand_in(programs, "docker", '[ "$1" = info ]')
    stand_in(programs, "id", "echo 1000")
    stand_in(programs, "apt-get", "exit 1")
    # Nothing else is on the path, so that debootstrap is missing wherever this runs.
    for name in ("bash", "mkdir", "rm", "cat"):
        (programs / name).symlink_to(shutil.which(name) or name)
    result = subprocess.run(
        [shutil.which("bash") or "bash", str(BASE_IMAGE_SH)],
        env={"PATH": str(programs), "KVNODE_ENGINE_DIR": str(programs.parent / "engine")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "only root can have apt-get install debootstrap" in result.stderr
    assert not [call for call in calls(programs) if call.startswith("apt-get")]


def test_a_wrong_option_is_a_usage_error(programs: Path) -> None:
    assert base_image(programs, "--bogus").returncode == 64
    assert "--stop" in base_image(programs, "--help").stdout
