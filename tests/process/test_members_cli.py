"""What operators do to the membership, with real nodes: join, move, remove, replace, recover."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from scripts.local_cluster import HOST, LocalNode, PortReservation, Ports, kvnode_command
from tests.support.cluster import NodeCluster
from wal.format import parse_segment_name

pytestmark = pytest.mark.cluster

WAIT_SECONDS = 40.0
KEYS = 50


@pytest.fixture
def three() -> Iterator[NodeCluster]:
    """A cluster of three that runs and holds some keys."""
    cluster = NodeCluster(3)
    try:
        cluster.start()
        with redis.Redis(*cluster.wait_leader().address, retry=None) as connection:
            for i in range(KEYS):
                connection.set(f"k{i}", i)
        yield cluster
    finally:
        cluster.kill()
        cluster.finish(keep=False)


@pytest.fixture
def newcomer(three: NodeCluster) -> Iterator[LocalNode]:
    """A fourth machine, which joins by way of the first node."""
    reservations = [PortReservation() for _ in range(3)]
    client, peer, admin = (one.port for one in reservations)
    flags = {
        "--node": "n4",
        "--join": f"{HOST}:{three.nodes[0].ports.peer}",
        "--listen": f"{HOST}:{client}",
        "--peer-listen": f"{HOST}:{peer}",
        "--admin": f"{HOST}:{admin}",
        "--data": str(three.directory / "n4"),
    }
    arguments = [*kvnode_command(), "serve", *(text for flag in flags.items() for text in flag)]
    ports = Ports(client, peer, admin)
    node = LocalNode("n4", ports, three.directory, arguments, three.nodes[0].environment)
    yield node
    node.kill()
    for one in reservations:
        one.release()


def kvnode(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of kvnode."""
    return subprocess.run(
        [*kvnode_command(), *arguments], capture_output=True, text=True, timeout=90, check=False
    )


def member(cluster: NodeCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `kvnode member`, asking all nodes that run."""
    admins = [f"{HOST}:{node.ports.admin}" for node in cluster.nodes if node.alive()]
    return kvnode("member", *arguments, "--admin", ",".join(admins))


def members(cluster: NodeCluster) -> dict[str, dict[str, Any]]:
    """The members by name, as the leader sees them."""
    listed = member(cluster, "list", "--json")
    return {one["name"]: one for one in json.loads(listed.stdout)["members"]}


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Until it holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.1)


def keys_of(node: LocalNode) -> list[bytes]:
    with redis.Redis(*node.address, retry=None) as connection:
        return [connection.get(f"k{i}") for i in range(KEYS)]


ALL_KEYS = [b"%d" % i for i in range(KEYS)]


def role_of(cluster: NodeCluster, name: str) -> str:
    return str(members(cluster).get(name, {}).get("role", "nobody"))


def test_a_member_comes_leads_and_goes_for_ever(three: NodeCluster, newcomer: LocalNode) -> None:
    newcomer.start()
    wait_for(lambda: role_of(three, "n4") == "follower", "new voter")
    assert keys_of(newcomer) == ALL_KEYS

    refused = member(three, "promote", "n9")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    done = member(three, "transfer", "n4")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: role_of(three, "n4") == "leader", "new leader")
    listed = member(three, "list").stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == ["NAME", "n1", "n2", "n3", "n4"]

    done = member(three, "remove", "n4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "done"
    assert newcomer.wait_exit(WAIT_SECONDS) == 78
    wait_for(lambda: role_of(three, "n4") == "nobody", "removal")
    # Its directory is that of a member that is gone: to come back it needs a new id.
    newcomer.start()
    assert newcomer.wait_exit(WAIT_SECONDS) == 78


def test_a_majority_that_is_gone_decides_nothing_in_time(three: NodeCluster) -> None:
    three.nodes[1].kill()
    three.nodes[2].kill()
    wait_for(lambda: (three.nodes[0].status() or {}).get("leader", "") is None, "end of leadership")
    undecided = member(three, "remove", "n3", "--timeout", "2s")
    assert undecided.returncode == 75
    three.nodes[0].kill()
    gone = kvnode("member", "remove", "n3", "--admin", f"{HOST}:{three.nodes[0].ports.admin}")
    assert gone.returncode == 69


def test_where_clients_need_the_password_changes_need_it_too(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    cluster = NodeCluster(1, environment={"KVNODE_REQUIREPASS_FILE": str(password)})
    try:
        cluster.start()
        assert list(members(cluster)) == ["n1"], "whoever reaches the port may look"
        without = member(cluster, "remove", "n9")
        assert (without.returncode, without.stdout) == (1, "")
        assert "--password-file" in without.stderr
        given = member(cluster, "remove", "n9", "--password-file", str(password))
        assert given.returncode == 1
        assert "n9" in given.stderr
        status = cluster.nodes[0].status()
        assert status is not None
        assert status["load"]["clients"] == 0
    finally:
        cluster.kill()
        cluster.finish(keep=False)


def damage(node: LocalNode) -> None:
    """Flip a bit in the middle of what was acknowledged."""
    segments = (node.data / "wal").iterdir()
    path = max(path for path in segments if parse_segment_name(path.name))
    content = bytearray(path.read_bytes())
    content[len(content.rstrip(b"\0")) // 2] ^= 1
    path.write_bytes(content)


def test_a_member_with_a_corrupt_log_comes_back_as_a_new_one(three: NodeCluster) -> None:
    leader = three.wait_leader()
    victim = next(node for node in three.nodes if node is not leader)
    wait_for(lambda: (members(three)["n1"]["level"] or 0) >= 3, "registry")
    old = members(three)[victim.name]["node_id"]
    healthy = kvnode("member", "replace", "--data", str(victim.data))
    assert healthy.returncode == 75, "it runs"
    victim.kill()
    assert kvnode("member", "replace", "--data", str(victim.data)).returncode == 1, "it is healthy"
    damage(victim)
    victim.start()
    assert victim.wait_exit(WAIT_SECONDS) == 65
    done = kvnode("member", "replace", "--data", str(victim.data))
    assert done.returncode == 0, done.stderr
    victim.start()
    wait_for(lambda: members(three)[victim.name]["node_id"] != old, "new member")
    wait_for(lambda: len(members(three)) == 3, "end of the old member")
    wait_for(lambda: role_of(three, victim.name) == "follower", "vote")
    assert keys_of(victim) == ALL_KEYS
    (quarantine,) = Path(three.directory).glob(f"{victim.name}.quarantine-*")
    assert (quarantine / "wal").exists()


def test_one_member_goes_on_alone_when_the_others_are_lost_for_good(
    three: NodeCluster, newcomer: LocalNode
) -> None:
    survivor, other, _ = three.nodes
    before = survivor.status()
    assert before is not None
    for node in three.nodes:
        node.kill()
    refused = kvnode("recover", "--force-new-cluster", "--data", str(survivor.data))
    assert refused.returncode == 64
    done = kvnode("recover", "--force-new-cluster", "--data", str(survivor.data), "--yes")
    assert done.returncode == 0, done.stderr
    assert "MAY BE LOST" in done.stdout
    survivor.start()
    survivor.wait_ready()
    after = survivor.status()
    assert after is not None
    assert after["cluster_id"] != before["cluster_id"]
    assert [one["name"] for one in after["members"]] == [survivor.name]
    with redis.Redis(*survivor.address, retry=None) as connection:
        connection.set("k0", 0)
    assert keys_of(survivor) == ALL_KEYS
    # An old member finds nobody who talks to it, and disturbs nobody.
    other.start()
    wait_for(lambda: "term" in (other.status() or {}), "old member")
    # The new cluster grows again: whoever joins can follow all that happened.
    newcomer.start()
    wait_for(lambda: len(members(three)) == 2, "newcomer")
    wait_for(lambda: role_of(three, "n4") == "follower", "vote")
    assert keys_of(newcomer) == ALL_KEYS
    status = other.status()
    assert status is not None
    assert (status["leader"], status["cluster_id"]) == (None, before["cluster_id"])
