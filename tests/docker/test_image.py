"""The image as it is shipped: what is in it, how it runs, how it ends.

Each test starts containers as `docker/DESIGN.md` says they should be run: not as root, with a root
file system that cannot be written, and without any capability.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
import redis

from tests.support.docker import (
    BASE_IMAGE,
    HARDENED,
    PASSWORD,
    Container,
    Containers,
    Hog,
    docker,
    until,
)

pytestmark = pytest.mark.docker

MB = 1_000_000
ABOVE_BASE_MB_MAX = 120
KEYS = 100_000
MEMORY_MIB = 256
LIMITED = ("--memory", f"{MEMORY_MIB}m", "--memory-swap", f"{MEMORY_MIB}m")
HOG_MIB = 8
"""What the hog's interpreter takes."""
OFTEN = ("--health-interval", "1s", "--health-start-period", "1ms")

SPOIL = """
import pathlib
segment = max(pathlib.Path("/data/wal").glob("*.wal"))
content = bytearray(segment.read_bytes())
content[600] ^= 1
segment.write_bytes(content)
"""
"""Flips a bit of a record that was acknowledged."""


def size_of(tag: str) -> int:
    return int(docker("image", "inspect", "--format", "{{.Size}}", tag))


def inside(tag: str, *command: str) -> str:
    """What a command prints in a container of its own."""
    return docker("run", "--rm", "--entrypoint", command[0], tag, *command[1:])


def held(container: Container, code: int) -> Callable[[], bool]:
    """Whether a node stays only to tell why it cannot run."""
    return lambda: container.status().get("fatal", {}).get("exit_code") == code


# --- what is in it --------------------------------------------------------------------------------


def test_the_image_adds_little_to_its_base(kvnode_image: str) -> None:
    above = (size_of(kvnode_image) - size_of(BASE_IMAGE)) / MB
    print(f"{above:.1f} MB above {BASE_IMAGE}")
    assert above <= ABOVE_BASE_MB_MAX


def test_what_a_node_does_not_need_is_not_added(kvnode_image: str) -> None:
    listing = inside(kvnode_image, "find", "/opt/kvnode").splitlines()
    assert any(path.endswith("/site-packages/kvnode/server.py") for path in listing)
    names = {path.rpartition("/")[2] for path in listing}
    assert names & {"pip", "setuptools", "pytest", "tests", "cc", "gcc"} == set()
    assert [name for name in names if name.endswith((".c", ".h", ".pyx"))] == []
    assert inside(kvnode_image, "ls", "-A", "/data") == ""


def test_every_module_is_compiled_for_a_root_that_cannot_be_written(kvnode_image: str) -> None:
    """What is not would be compiled anew at each start, for half a second or more."""
    program = (
        "import sys, importlib, pkgutil, encodings.idna, http.client, json, tomllib, kvnode\n"
        "for module in pkgutil.walk_packages(kvnode.__path__, 'kvnode.'):\n"
        "    importlib.import_module(module.name)\n"
        "import os\n"
        "files = [getattr(module, '__cached__', None) for module in list(sys.modules.values())]\n"
        "print([file for file in files if file and not os.path.exists(file)])\n"
    )
    assert inside(kvnode_image, "python", "-c", program).strip() == "[]"


def test_the_image_says_how_it_wants_to_be_run(kvnode_image: str) -> None:
    config = json.loads(docker("image", "inspect", kvnode_image))[0]["Config"]
    environment = dict(line.split("=", 1) for line in config["Env"])
    assert config["StopSignal"] == "SIGTERM"
    assert config["User"] == "10001:10001"
    assert list(config["Volumes"]) == ["/data"]
    assert environment["KVNODE_HOLD_ON_FATAL"] == "1"
    assert environment["KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB"] == "auto"
    assert environment["MALLOC_ARENA_MAX"] == "2"
    assert environment["KVNODE_ADMIN"].startswith("127.0.0.1:")


# --- how it runs ----------------------------------------------------------------------------------


def test_a_node_serves_without_root_capabilities_or_a_writable_root(containers: Containers) -> None:
    node = containers.node("node", *LIMITED)
    node.wait_ready()
    with node.client() as client:
        assert client.set("k", "v")
        assert client.get("k") == b"v"
    facts = dict(
        line.split(":", 1) for line in node.exec("cat", "/proc/1/status").stdout.splitlines()
    )
    assert facts["Uid"].split() == ["10001"] * 4
    assert [int(facts[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 4
    assert facts["NoNewPrivs"].strip() == "1"
    assert "Read-only file system" in node.exec("touch", "/opt/kvnode/x").stderr
    status = node.status()
    assert status["memory"]["limit_bytes"] == MEMORY_MIB << 20
    assert status["memory"]["threshold_bytes"] == (MEMORY_MIB << 20) * 85 // 100
    assert status["crc_backend"] == "google-crc32c"


def test_clients_need_the_password(containers: Containers) -> None:
    node = containers.node("node")
    node.wait_ready()
    with node.client(password=None) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.get("k")
    with node.client() as client:
        assert client.ping()


def test_a_node_without_a_password_is_held_and_serves_nobody(containers: Containers) -> None:
    node = containers.run("node", *HARDENED, *OFTEN)
    until(held(node, 78), "it is held")
    assert "without a password" in node.status()["fatal"]["reason"]
    until(lambda: node.health() == "unhealthy", "it is unhealthy")
    assert node.is_running()
    assert node.stop() == 78


def test_a_corrupt_log_is_held_untouched_with_the_reason(containers: Containers) -> None:
    volume = containers.volume()
    mount = ("--volume", f"{volume}:/data")
    node = containers.node("node", *mount)
    node.wait_ready()
    with node.client() as client:
        client.set("k", "v")
    node.kill()
    docker("run", "--rm", *mount, "--entrypoint", "python", containers.image, "-c", SPOIL)
    node.start()
    until(held(node, 65), "it is held")
    assert "[-]fatal" in node.exec("kvnode-ready").stdout
    assert node.stop() == 65


def test_health_follows_readiness_and_memory_pressure_ends_with_2(containers: Containers) -> None:
    node = containers.node("node", *LIMITED, *OFTEN)
    until(lambda: node.health() == "healthy", "it is healthy")
    hog = Hog(node)
    try:
        # Not the cgroup's figure: the command that asks for it would count, too.
        memory = node.status()["memory"]
        own_mib = (memory["rss_anon_bytes"] + memory["workers_bytes"] >> 20) + HOG_MIB
        hog.hold(MEMORY_MIB * 75 // 100 - own_mib)
        until(lambda: node.health() == "unhealthy", "it refuses writes, so it is unhealthy")
        assert "[-]memory" in node.exec("kvnode-ready").stdout
        hog.hold(1)
        until(lambda: node.health() == "healthy", "it is healthy again")
        hog.hold(MEMORY_MIB * 88 // 100 - own_mib)
        assert node.wait() == 2
    finally:
        hog.close()
    assert node.inspect()["State"]["OOMKilled"] is False


# --- how it ends, and begins again ----------------------------------------------------------------


def test_a_node_keeps_its_data_in_the_volume_and_is_quick_to_serve_it(
    containers: Containers,
) -> None:
    """A container is thrown away and another one takes over, as in every update."""
    mount = ("--volume", f"{containers.volume()}:/data")
    node = containers.node("old", *mount)
    node.wait_ready()
    with node.client() as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(KEYS):
            pipeline.set(f"key:{number}", number)
            if number % 10_000 == 9_999:
                pipeline.execute()
    identity = node.status()["node_id"]
    assert node.stop() == 0, node.logs()
    node.remove()

    began = time.monotonic()
    node = containers.node("new", *mount)
    node.wait_ready()
    print(f"ready {time.monotonic() - began:.2f} s after docker run, with {KEYS:,} keys")
    assert node.status()["node_id"] == identity
    with node.client() as client:
        assert client.dbsize() == KEYS
        assert client.get("key:77777") == b"77777"


def test_what_was_acknowledged_survives_a_container_that_is_killed(containers: Containers) -> None:
    node = containers.node("node", "--volume", f"{containers.volume()}:/data")
    node.wait_ready()
    with node.client() as client:
        client.set("k", "v")
        node.kill()
    node.start()
    node.wait_ready()
    with node.client() as client:
        assert client.get("k") == b"v"


def test_the_password_is_in_no_place_where_others_look(containers: Containers) -> None:
    node = containers.node("node")
    node.wait_ready()
    assert PASSWORD not in node.logs()
    assert PASSWORD not in json.dumps(node.inspect())
    assert PASSWORD not in json.dumps(node.status())
