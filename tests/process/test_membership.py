"""Members of a cluster of real processes come, go, move and are replaced."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvnode.limits import PROMOTION_LAG_ENTRIES_MAX
from scripts.local_cluster import LocalNode
from tests.support.cluster import REPOSITORY
from tests.support.membership import (
    Answer,
    Load,
    MemberCluster,
    client,
    listeners,
    members_of,
    roles_of,
    voters_of,
    wait_for,
)
from wal.format import parse_segment_name

pytestmark = pytest.mark.cluster

EXIT_SECONDS = 20.0
WRONG_CONFIGURATION = 78
REMOVED = "was removed from the cluster"


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="kvnode-test-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@contextmanager
def cluster_of(
    directory: Path, founders: int, *flags: str, **environment: str
) -> Iterator[MemberCluster]:
    """A cluster that runs; of none, one node that was told of nobody."""
    paths = {"PYTHONPATH": str(REPOSITORY), **environment}
    cluster = MemberCluster(directory, founders, environment=paths, flags=flags)
    try:
        if not founders:
            cluster.pioneer()
        cluster.start()
        cluster.wait_leader()
        yield cluster
    finally:
        cluster.close()


def leaves(node: LocalNode, *words: str) -> None:
    """It ends by itself, with 78, and says why."""
    assert node.wait_exit(EXIT_SECONDS) == WRONG_CONFIGURATION, node.log_tail()
    for word in words:
        assert word in node.log_tail()


def start_and_leave(node: LocalNode, *words: str) -> None:
    node.start()
    leaves(node, *words)


def known_to(node: LocalNode) -> list[tuple[object, ...]]:
    """The membership, as far as it is part of the replicated state."""
    return sorted(
        (m["node_id"], m["name"], m["peer_address"], m["role"] == "learner")
        for m in members_of(node).values()
    )


def flip_a_bit(node: LocalNode) -> None:
    """In the middle of the newest segment, in a record that was acknowledged."""
    segments = (node.data / "wal").iterdir()
    path = max(path for path in segments if parse_segment_name(path.name))
    content = bytearray(path.read_bytes())
    content[len(content.rstrip(b"\0")) // 2] ^= 1
    path.write_bytes(content)


# --- growing and shrinking ------------------------------------------------------------------------


def test_one_node_with_data_becomes_three_and_is_not_started_again(directory: Path) -> None:
    with cluster_of(directory, 0) as cluster:
        (first,) = cluster.nodes
        pid = first.pid
        with client(first) as connection:
            connection.mset({f"k{i}": i for i in range(100)})
        for name in ("n2", "n3"):
            cluster.join(name)
        cluster.wait_voters("n1", "n2", "n3")
        assert (first.pid, first.alive()) == (pid, True)
        for node in cluster.nodes:
            with client(node) as connection:
                assert connection.dbsize() == 100
        first.kill()
        with client(cluster.named("n3")) as connection:
            assert connection.incr("k99") == 100


def test_three_become_five_and_three_again_and_clients_of_who_stays_see_no_error(
    directory: Path,
) -> None:
    with cluster_of(directory, 3) as cluster:
        goes = cluster.wait_leader()
        stay = [node for node in cluster.nodes if node is not goes]
        with Load(*stay) as load:
            for name in ("n4", "n5"):
                cluster.join(name)
            cluster.wait_voters("n1", "n2", "n3", "n4", "n5")
            assert cluster.change("transfer", member=goes.name).verdict == "done"
            assert cluster.change("remove", member=goes.name).verdict == "done"
            leaves(goes, REMOVED)
            assert cluster.change("remove", member="n4").verdict == "done"
            leaves(cluster.named("n4"), REMOVED)
            cluster.wait_voters("n5", *(node.name for node in stay))
        assert load.errors == []
        assert all(load.counts[f"count:{node.name}"] for node in stay)
        # Who was to go led until then, and it was another leader that removed it.
        assert 'change="Remove(' not in goes.log_path.read_text()
        start_and_leave(goes, REMOVED)
        start_and_leave(cluster.named("n4"), REMOVED)


def test_a_learner_for_good_serves_reads_and_passes_writes_on(directory: Path) -> None:
    with cluster_of(directory, 0) as cluster:
        (first,) = cluster.nodes
        learner = cluster.join("n2", "--no-promote")
        with client(first) as near, client(learner) as far:
            for i in range(300):
                near.set("k", i)
                assert far.get("k") == b"%d" % i
                far.set("k", -i)
                assert near.get("k") == b"%d" % -i
            assert members_of(first)["n2"]["role"] == "learner"
            stale = client(learner)
            stale.execute_command("READONLY")
            first.kill()
            assert stale.get("k") == b"-299"
            stale.close()
        first.start()
        first.wait_ready()
        wait_for(lambda: cluster.change("promote", member="n2").verdict == "done", "promoted")
        cluster.wait_voters("n1", "n2")


# --- a machine is lost ----------------------------------------------------------------------------


def test_a_node_whose_log_was_spoilt_comes_back_as_another_member(directory: Path) -> None:
    with cluster_of(directory, 3) as cluster:
        leader = cluster.wait_leader()
        sick = next(node for node in cluster.nodes if node is not leader)
        well = [node for node in cluster.nodes if node is not sick]
        with client(sick) as connection:
            for i in range(100):
                connection.set(f"k{i}", i)
        before = members_of(leader)[sick.name]["node_id"]
        with Load(*well) as load:
            sick.kill()
            flip_a_bit(sick)
            sick.start()
            assert sick.wait_exit(EXIT_SECONDS) == 65
            shutil.rmtree(sick.data)
            start_and_leave(sick, "member replace")
            shutil.rmtree(sick.data)
            cluster.set_flags(sick, *cluster.join_flags())
            start_and_leave(sick, f"--replaces {sick.name}")
            cluster.set_flags(sick, *cluster.join_flags(), "--replaces", sick.name)
            sick.start()
            sick.wait_ready()
            cluster.wait_voters("n1", "n2", "n3")
            wait_for(lambda: len(members_of(sick)) == 3, "three members")
        assert load.errors == []
        assert members_of(leader)[sick.name]["node_id"] != before
        with client(sick) as connection:
            assert connection.get("k99") == b"99"


def test_a_dead_member_is_removed_where_that_is_asked_and_one_that_moved_is_found_again(
    directory: Path,
) -> None:
    with cluster_of(directory, 3, "--remove-dead-after", "10s") as cluster:
        dead = cluster.join("n4")
        cluster.wait_voters("n1", "n2", "n3", "n4")
        dead.kill()
        moves = next(node for node in cluster.nodes if node is not cluster.wait_leader())
        moves.kill()
        ports = cluster.new_ports()
        moved = LocalNode(
            moves.name,
            ports,
            directory,
            (
                *(*moves.arguments, *listeners(ports)),
                *("--advertise-peer", f"127.0.0.1:{ports.peer}"),
            ),
            moves.environment,
        )
        cluster.nodes[cluster.nodes.index(moves)] = moved
        moved.start()
        moved.wait_ready()
        others = [node for node in cluster.nodes if node is not dead]
        address = f"127.0.0.1:{ports.peer}"
        wait_for(
            lambda: all(members_of(n)[moves.name]["peer_address"] == address for n in others),
            "the registry knows where it is",
        )
        cluster.wait_voters("n1", "n2", "n3")
        assert all(node.alive() for node in others)
        start_and_leave(dead, REMOVED)


# --- joining --------------------------------------------------------------------------------------


def test_a_node_killed_again_and_again_while_it_joins_is_one_member_in_the_end(
    directory: Path,
) -> None:
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    rng = random.Random(seed)
    with cluster_of(directory, 0, KVNODE_SNAPSHOT_LOG_BYTES="256kb") as cluster:
        (first,) = cluster.nodes
        with client(first) as connection:
            for _ in range(50):
                connection.mset({rng.randbytes(8): rng.randbytes(200) for _ in range(100)})
            size = connection.dbsize()
        joiner = cluster.newcomer("n2")
        for attempt in range(8):
            joiner.start()
            time.sleep(rng.uniform(0.1, 0.2 + attempt / 10))
            joiner.kill()
        joiner.start()
        joiner.wait_ready()
        cluster.wait_voters("n1", "n2")
        assert roles_of(first) == Counter({("n1", "voter"): 1, ("n2", "voter"): 1})
        with client(joiner) as connection:
            assert connection.dbsize() == size


def test_what_would_do_harm_is_refused_with_a_sentence_and_changes_nothing(
    directory: Path,
) -> None:
    with cluster_of(directory, 3) as cluster, cluster_of(directory / "other", 0) as elsewhere:
        leader = cluster.wait_leader()
        learner = cluster.join("n4", "--no-promote")
        before = known_to(leader)
        taken = f"127.0.0.1:{leader.ports.peer}"
        assert "n2' exists" in refused(cluster.change("add", member="n2"))
        assert taken in refused(cluster.change("add", member="x", peer_address=taken))
        assert "no member 'x'" in refused(cluster.change("remove", member="x"))
        assert "no voter" in refused(cluster.change("transfer", member="n4"))
        same_name = cluster.newcomer("n3")
        same_name.data = directory / "same-name"
        cluster.set_flags(same_name, *cluster.join_flags(leader))
        start_and_leave(same_name, "'n3' exists")
        start_and_leave(cluster.newcomer("x", "--advertise-peer", taken, via=[leader]), taken)

        (stranger,) = elsewhere.nodes
        assert "last voter" in refused(elsewhere.change("remove", member=stranger.name))
        stranger.kill()
        foreign = cluster.newcomer("n1", "--cluster-id", "another", via=[leader])
        foreign.data = stranger.data
        cluster.set_flags(foreign, *cluster.join_flags(leader), "--cluster-id", "another")
        start_and_leave(foreign, "another")

        learner.send(signal.SIGSTOP)
        with client(leader) as connection:
            for i in range(PROMOTION_LAG_ENTRIES_MAX + 50):
                connection.set("k", i)
        assert "n4 is not" in refused(cluster.change("promote", member="n4"))
        learner.send(signal.SIGCONT)

        follower, dead = [n for n in cluster.nodes[:3] if n is not leader]
        dead.kill()
        assert "lose its quorum" in refused(cluster.change("remove", member=follower.name))
        assert known_to(leader) == before
        assert voters_of(leader) == {"n1", "n2", "n3"}


def refused(answer: Answer) -> str:
    assert (answer.code, answer.verdict) == (409, "refused"), answer
    return answer.text
