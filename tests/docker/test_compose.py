"""`docker/compose.yaml` does what it says: three nodes that find each other, behind a password.

Compose itself need not be installed: `flags_of` says in `docker run`'s words what a service of the
file asks for, and refuses a key that it does not know, so that nothing in the file goes untried.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from kvnode.config.options import OPTIONS
from kvnode.config.values import parse_cluster
from kvnode.limits import STOP_SECONDS_MAX
from tests.support.docker import (
    PASSWORD,
    REPOSITORY,
    Container,
    Containers,
    DockerFailed,
    docker,
    until,
)

PATH = REPOSITORY / "docker" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")

Service = dict[str, Any]


def load(**variables: str) -> dict[str, Any]:
    """The file as compose reads it: variables filled in, merge keys merged."""
    text = VARIABLE.sub(lambda found: variables.get(found[1], found[2]), PATH.read_text())
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def seconds(text: str) -> int:
    """A duration of whole seconds."""
    found = re.fullmatch(r"(\d+)s", text)
    assert found, text
    return int(found[1])


def flags_of(service: Service, secrets: dict[str, Any], volume: str, network: str) -> list[str]:
    """A service as flags of `docker run`; its ports at numbers that are free."""
    ports = [port.split(":") for port in service["ports"]]
    mounts = [mount.split(":") for mount in service["volumes"]]
    assert all(host == "127.0.0.1" for host, _, _ in ports), "nothing beyond this machine"
    return [
        *(["--init"] if service["init"] else []),
        *("--restart", service["restart"]),
        *(["--read-only"] if service["read_only"] else []),
        *(word for name in service["cap_drop"] for word in ("--cap-drop", name)),
        *(word for option in service["security_opt"] for word in ("--security-opt", option)),
        *("--memory", service["mem_limit"], "--memory-swap", service["memswap_limit"]),
        *("--stop-timeout", str(seconds(service["stop_grace_period"]))),
        *(
            word
            for name in service["secrets"]
            for word in ("--volume", f"{secrets[name]['file']}:/run/secrets/{name}:ro")
        ),
        *("--network", network),
        *(word for name, v in service["environment"].items() for word in ("--env", f"{name}={v}")),
        *(word for _, _, port in ports for word in ("--publish", f"127.0.0.1::{port}")),
        *(word for _, path in mounts for word in ("--volume", f"{volume}:{path}")),
    ]


KEYS = {
    *("image", "init", "restart", "read_only", "cap_drop", "security_opt", "mem_limit"),
    *("memswap_limit", "stop_grace_period", "secrets", "networks", "environment"),
    *("ports", "volumes"),
}
"""What `flags_of` knows."""


# --- what it says ---------------------------------------------------------------------------------


def test_the_file_uses_nothing_that_these_tests_do_not_try() -> None:
    services = load()["services"]
    assert len(services) == 3
    assert [set(service) - KEYS for service in services.values()] == [set()] * 3


def test_a_stop_is_given_as_long_as_it_may_take() -> None:
    for service in load()["services"].values():
        assert seconds(service["stop_grace_period"]) > STOP_SECONDS_MAX


def test_every_node_is_a_member_by_its_own_name_with_data_of_its_own() -> None:
    services = load()["services"]
    for name, service in services.items():
        environment = service["environment"]
        assert environment["KVNODE_NODE"] == name
        members = parse_cluster(environment["KVNODE_CLUSTER"])
        assert {member: str(address) for member, address in members.items()} == {
            member: f"{member}:7379" for member in services
        }
        assert service["volumes"] == [f"{name}:/data"]


def test_every_variable_is_one_that_a_node_reads() -> None:
    known = {option.variable for option in OPTIONS}
    for service in load()["services"].values():
        assert set(service["environment"]) <= known


def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    try:
        docker("compose", "version")
    except (DockerFailed, FileNotFoundError) as error:
        pytest.skip(f"no docker compose: {error}")
    (tmp_path / "password").write_text(PASSWORD)
    os.environ.setdefault("KVNODE_PASSWORD_FILE", str(tmp_path / "password"))
    docker("compose", "--file", str(PATH), "config", "--quiet")


# --- what it does ---------------------------------------------------------------------------------


def start(containers: Containers) -> dict[str, Container]:
    """Start what the file says, each service by its name in a network."""
    password = containers.directory / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o644)
    document = load(KVNODE_PASSWORD_FILE=str(password), KVNODE_MEMORY="512m")
    network = containers.network()
    nodes = {}
    for name, service in document["services"].items():
        volume = containers.volume(name)
        flags = flags_of(service, document["secrets"], volume, network)
        nodes[name] = containers.run(name, *flags, "--network-alias", name)
    return nodes


@pytest.mark.docker
def test_the_three_nodes_form_a_cluster_and_outlive_any_of_them(containers: Containers) -> None:
    nodes = start(containers)
    for node in nodes.values():
        node.wait_ready()
    leaders = {node.status()["leader"] for node in nodes.values()}
    assert len(leaders) == 1, "all agree"
    leader = leaders.pop()
    assert leader in nodes
    followers = [node for name, node in nodes.items() if name != leader]
    with nodes[leader].client() as client:
        client.set("k", "v")
    drained = nodes[leader].exec("kvnode", "drain", "--wait", "--timeout", "5s")
    assert drained.returncode == 0, drained.stderr
    assert not nodes[leader].is_ready()
    assert nodes[leader].status()["role"] == "follower"
    assert nodes[leader].stop() == 0
    for node in followers:
        until(node.is_ready, "the others go on")
        with node.client() as client:
            assert client.get("k") == b"v"
            assert client.incr("n")
    nodes[leader].start()
    nodes[leader].wait_ready()
    with nodes[leader].client() as client:
        assert client.get("n") == b"2"
    with nodes[leader].client(password="wrong") as stranger, pytest.raises(redis.RedisError):
        stranger.get("k")
