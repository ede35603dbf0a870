"""Real containers of the real image, on whatever Docker Engine answers.

The image is built once per test run, from the checkout, and removed when the run ends; what it
stands on stays in the engine's cache, so that the next build takes seconds. `Containers` starts
containers, makes networks and volumes under names of its own, and removes all of them, and nothing
else, when it is closed.

A `conftest.py` imports the two fixtures `kvnode_image` and `containers`. Without an engine, or
without the base image, the tests that ask for them are skipped, with the reason: a test never
downloads an image. `scripts/base-image.sh` makes both.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

REPOSITORY = Path(__file__).resolve().parents[2]
BASE_IMAGE = "python:3.11-slim-bookworm"
SESSION = f"{os.getpid()}-{secrets.token_hex(3)}"
"""Part of every name, so that test runs beside each other do not meet."""
PIP_SETTINGS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT")
PASSWORD = "correct horse"
PASSWORD_PATH = "/run/secrets/password"
CLIENT_PORT = 6379

ENGINE_SECONDS_MAX = 10.0
BUILD_SECONDS_MAX = 600.0
COMMAND_SECONDS_MAX = 60.0
WAIT_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 30
POLL_SECONDS = 0.05

HARDENED = (
    "--read-only",
    *("--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
)
"""How kvnode is meant to be run: whatever it does not need is taken from it."""

HOG = """
import sys
for line in sys.stdin:
    hoard = None
    hoard = bytearray(b"x") * (int(line) << 20)
    print(len(hoard), flush=True)
"""


class DockerFailed(Exception):
    """Docker refused or failed; the text is its own."""


def docker(*arguments: str, timeout_seconds: float = COMMAND_SECONDS_MAX) -> str:
    """Run `docker` and return what it printed.

    Raises:
        DockerFailed: its exit code was not 0.
    """
    result = subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    if result.returncode:
        raise DockerFailed(f"docker {' '.join(arguments[:4])}: {result.stderr.strip()}")
    return result.stdout


@functools.cache
def engine_problem() -> str:
    """Why there can be no containers here; "" if there can."""
    if shutil.which("docker") is None:
        return "no docker command"
    try:
        docker("version", timeout_seconds=ENGINE_SECONDS_MAX)
        docker("image", "inspect", BASE_IMAGE)
    except subprocess.TimeoutExpired:
        return "the Docker Engine hangs"
    except DockerFailed as error:
        return f"{error} (scripts/base-image.sh makes an engine and {BASE_IMAGE})"
    return ""


def engine() -> None:
    """Skip the test that asks unless an engine answers and has the base image."""
    if problem := engine_problem():
        pytest.skip(problem)


@functools.cache
def image() -> str:
    """Build the image of the checkout, once per test run, and return its tag.

    Raises:
        DockerFailed: it cannot be built.
    """
    tag = f"kvnode-test:{SESSION}"
    command = ["docker", "build", "--quiet", "--network", "host", "--tag", tag]
    for name in PIP_SETTINGS:
        command += ["--build-arg", name]
    result = subprocess.run(
        [*command, "--file", "docker/Dockerfile", "."],
        cwd=REPOSITORY,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS_MAX,
        check=False,
    )
    if result.returncode:
        raise DockerFailed(f"the image cannot be built:\n{result.stdout}{result.stderr}")
    atexit.register(subprocess.run, ["docker", "rmi", tag], capture_output=True, check=False)
    return tag


def until(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS_MAX) -> None:
    """Wait for what no event tells of; `what` is the message when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(POLL_SECONDS)


class Container:
    """One container; it may be stopped, started, and asked."""

    def __init__(self, name: str) -> None:
        self.name = name

    # --- its life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it again."""
        docker("start", self.name)

    def stop(self, seconds: int = STOP_SECONDS_MAX) -> int:
        """Ask it to stop, kill it after so long, and return the exit code (137: killed)."""
        docker(
            "stop", "--time", str(seconds), self.name, timeout_seconds=seconds + COMMAND_SECONDS_MAX
        )
        return self.exit_code()

    def kill(self, signal: str = "KILL") -> None:
        """Send its first process a signal."""
        docker("kill", "--signal", signal, self.name)

    def wait(self, seconds: float = COMMAND_SECONDS_MAX) -> int:
        """Wait until it ends by itself, and return the exit code."""
        return int(docker("wait", self.name, timeout_seconds=seconds))

    def remove(self) -> None:
        """Remove it, however it is, with the volumes that have no name."""
        docker("rm", "--force", "--volumes", self.name)

    # --- what it is -------------------------------------------------------------------------------

    def inspect(self) -> dict[str, Any]:
        """What the engine knows of it."""
        found: list[dict[str, Any]] = json.loads(docker("container", "inspect", self.name))
        return found[0]

    def is_running(self) -> bool:
        """Whether its first process lives."""
        return bool(self.inspect()["State"]["Running"])

    def exit_code(self) -> int:
        """How it ended the last time."""
        return int(self.inspect()["State"]["ExitCode"])

    def health(self) -> str:
        """What the health check says: starting, healthy or unhealthy."""
        return str(self.inspect()["State"]["Health"]["Status"])

    def logs(self) -> str:
        """All that it has written."""
        result = subprocess.run(
            ["docker", "logs", self.name], capture_output=True, text=True, check=False
        )
        return result.stdout + result.stderr

    # --- asking it --------------------------------------------------------------------------------

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return subprocess.run(
            ["docker", "exec", self.name, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )

    def is_ready(self) -> bool:
        """What the health check asks, now."""
        return self.exec("kvnode-ready").returncode == 0

    def wait_ready(self, seconds: float = WAIT_SECONDS_MAX) -> None:
        """Wait until it serves clients."""
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            assert time.monotonic() < deadline, f"{self.name} is not ready:\n{self.logs()}"
            time.sleep(POLL_SECONDS)

    def status(self) -> dict[str, Any]:
        """The document of /status; {} while nobody answers."""
        answer = self.exec("kvnode", "status", "--json").stdout
        nodes: list[dict[str, Any]] = json.loads(answer)["nodes"] if answer else []
        return dict(nodes[0].get("status", {})) if nodes else {}

    def address(self, port: int = CLIENT_PORT) -> tuple[str, int]:
        """Where a published port is on this machine."""
        host, _, number = docker("port", self.name, str(port)).splitlines()[0].rpartition(":")
        return host, int(number)

    def client(self, **options: Any) -> redis.Redis:
        """A redis-py client that does not retry, unless told otherwise."""
        host, port = self.address()
        options = {"retry": None, "socket_timeout": 15, "password": PASSWORD, **options}
        return redis.Redis(host=host, port=port, **options)


class Hog:
    """A process in a container that holds memory at the test's command."""

    def __init__(self, container: Container) -> None:
        self._process = subprocess.Popen(
            ["docker", "exec", "--interactive", container.name, "python", "-c", HOG],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def hold(self, mib: int) -> bool:
        """Hold so much instead of what it held; False if it has ended meanwhile."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{mib}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return self._process.stdout.readline() != ""

    def close(self) -> None:
        """End it; the process inside ends when nobody writes to it any more."""
        self._process.kill()
        self._process.communicate()


class Containers:
    """Containers, networks and volumes of one test; all are removed by `close`."""

    def __init__(self, image_tag: str) -> None:
        self.image = image_tag
        self.directory = Path(tempfile.mkdtemp(prefix="kvnode-docker-"))
        self._prefix = f"kvnode-test-{SESSION}-{secrets.token_hex(2)}"
        self._made: list[tuple[str, ...]] = []
        """The docker commands that undo what was made, oldest first."""

    def name(self, suffix: str) -> str:
        """A name that nobody else uses."""
        return f"{self._prefix}-{suffix}"

    def will_remove(self, name: str) -> Container:
        """A container that somebody else starts; it is removed at the end, too."""
        self._made.append(("rm", "--force", "--volumes", name))
        return Container(name)

    def run(
        self, suffix: str, *flags: str, command: Sequence[str] = (), image_tag: str = ""
    ) -> Container:
        """Start a container in the background.

        Raises:
            DockerFailed: it cannot be started.
        """
        name = self.name(suffix)
        container = self.will_remove(name)
        docker("run", "--detach", "--name", name, *flags, image_tag or self.image, *command)
        return container

    def network(self, suffix: str = "network") -> str:
        """Make a network and return its name."""
        name = self.name(suffix)
        docker("network", "create", name)
        self._made.insert(0, ("network", "rm", name))
        return name

    def volume(self, suffix: str = "data") -> str:
        """Make a volume and return its name."""
        name = self.name(suffix)
        docker("volume", "create", name)
        self._made.insert(0, ("volume", "rm", "--force", name))
        return name

    def password_flags(self) -> tuple[str, ...]:
        """Flags that give a node its password."""
        path = self.directory / "password"
        path.write_text(PASSWORD + "\n")
        path.chmod(0o644)  # the node is somebody else inside
        return (
            *("--volume", f"{path}:{PASSWORD_PATH}:ro"),
            *("--env", f"KVNODE_REQUIREPASS_FILE={PASSWORD_PATH}"),
        )

    def will_remove_image(self, tag: str) -> None:
        """An image that somebody else built; it is removed when its containers are."""
        self._made.insert(0, ("rmi", tag))

    def node(self, suffix: str, *flags: str) -> Container:
        """Start a single node as it should be run, its clients' port published on loopback."""
        publish = ("--publish", f"127.0.0.1::{CLIENT_PORT}")
        return self.run(suffix, *HARDENED, *publish, *self.password_flags(), *flags)

    def close(self) -> None:
        """Remove everything, what was made last first; networks and volumes after containers."""
        for command in reversed(self._made):
            subprocess.run(["docker", *command], capture_output=True, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="session")
def kvnode_image() -> str:
    """The tag of the image, built from the checkout."""
    engine()
    return image()


@pytest.fixture
def containers(kvnode_image: str) -> Iterator[Containers]:
    """Containers that are gone when the test ends."""
    made = Containers(kvnode_image)
    try:
        yield made
    finally:
        made.close()
