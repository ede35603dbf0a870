"""Two builds of kvnode side by side, as in every update of a cluster.

The older one is taken out of the git history: the last that knew nothing of members in the log. The
newer one is today's, with the next feature level and one more operation written behind its modules.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import redis

from kvnode.store import ops
from scripts.local_cluster import HOST, LocalNode
from tests.support.cluster import REPOSITORY
from tests.support.membership import Load, MemberCluster, ask, client, listeners, wait_for

pytestmark = pytest.mark.cluster

OLD_COMMIT = "5703c33"
"""Feature level 2, peer protocol 2."""
LATER_COMMIT = "a41fdb6"
"""Feature level 4, peer protocol 3."""
EXIT_SECONDS = 20.0
WRONG_CONFIGURATION = 78
PACKAGES = ("kvnode", "raft", "wal")

NEXT_LEVEL = ops.LEVEL + 1
NEXT = {
    "kvnode/store/ops.py": f"""
LEVEL = {NEXT_LEVEL}
NEXT = 21
SINCE[NEXT] = {NEXT_LEVEL}
""",
    "kvnode/store/redis/table.py": """
WRITES[ops.NEXT] = strings.append
""",
    "kvnode/resp/commands/strings.py": """
_parse_append = parse_append


def parse_append(db, arguments):
    op = _parse_append(db, arguments)
    return [ops.NEXT, *op[1:]] if op[-1].startswith(b"next") else op
""",
}
"""The next build: what is appended with "next" in front travels under a code of its own level."""

COMMAND = (sys.executable, "-c", "from kvnode.cli import main; main()")


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="kvnode-test-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def old_build(directory: Path, commit: str = OLD_COMMIT) -> Path:
    """The sources of the commit; skips where there is no history, as in a shallow clone."""
    git = ("git", "-C", str(REPOSITORY))
    found = subprocess.run([*git, "archive", commit, *PACKAGES], capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"no commit {commit} here: {found.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(found.stdout)) as archive:
        archive.extractall(directory / "old", filter="data")
    return directory / "old"


def next_build(directory: Path) -> Path:
    """A copy of today's sources that knows one op and one level more."""
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, directory / "next" / package)
    for name, text in NEXT.items():
        with (directory / "next" / name).open("a") as module:
            module.write(text)
    return directory / "next"


def use(build: Path, node: LocalNode) -> None:
    """From its next start on, a node and its workers run this build and no other."""
    node.environment |= {"PYTHONPATH": str(build), "PYTHONSAFEPATH": "1"}


def cluster_of_three(directory: Path, build: Path) -> MemberCluster:
    cluster = MemberCluster(directory, 3, COMMAND)
    for node in cluster.nodes:
        use(build, node)
    cluster.start()
    cluster.wait_leader()
    return cluster


def restart(node: LocalNode, build: Path) -> None:
    """Stop a node as a supervisor does, and start it as this build."""
    node.send(signal.SIGTERM)
    assert node.wait_exit(EXIT_SECONDS) == 0, node.log_tail()
    use(build, node)
    node.start()
    node.wait_ready()


def level_of(node: LocalNode) -> int | None:
    """The cluster's feature level, by this node; None of a build that has no word for it."""
    level: int | None = (node.status() or {}).get("level")
    return level


def wait_level(cluster: MemberCluster, level: int) -> None:
    wait_for(lambda: all(level_of(n) == level for n in cluster.nodes), f"feature level {level}")


def start_and_leave(node: LocalNode, build: Path, *words: str) -> None:
    use(build, node)
    node.start()
    assert node.wait_exit(EXIT_SECONDS) == WRONG_CONFIGURATION, node.log_tail()
    for word in words:
        assert word in node.log_tail()


def check_counts(node: LocalNode, counts: Counter[str]) -> None:
    """No acknowledged write is lost, and none was done twice."""
    with client(node) as connection:
        assert {key: int(connection.get(key) or 0) for key in counts} == dict(counts)


def test_an_older_cluster_is_updated_node_by_node_and_can_go_back_until_the_last(
    directory: Path,
) -> None:
    old, today = old_build(directory), REPOSITORY
    cluster = cluster_of_three(directory, old)
    counts: Counter[str] = Counter()

    def update(node: LocalNode, build: Path) -> None:
        others = [other for other in cluster.nodes if other is not node]
        with Load(*others, name=f"count:{len(counts)}") as load:
            restart(node, build)
        assert load.errors == []
        counts.update(load.counts)

    try:
        last = cluster.wait_leader()
        first, second = [node for node in cluster.nodes if node is not last]
        assert level_of(first) is None
        update(first, today)
        update(second, today)
        assert level_of(first) == 2
        answer = ask(first, "add", member="n4")
        assert answer.verdict == "refused"
        assert "too old to change" in answer.text or "to be updated" in answer.text
        update(first, old)
        assert level_of(first) is None
        update(first, today)
        assert (level_of(first), level_of(second)) == (2, 2)
        update(last, today)
        wait_level(cluster, ops.LEVEL)
        assert cluster.change("add", member="n4").verdict == "done"
        assert cluster.change("remove", member="n4").verdict == "done"
        check_counts(last, counts)
        first.kill()
        start_and_leave(first, old, "format")
        shutil.rmtree(first.data / "engine")
        start_and_leave(first, old, "newer program")
        use(today, first)
        first.start()
        first.wait_ready()
        check_counts(first, counts)
    finally:
        cluster.close()


def test_nodes_of_the_peer_protocol_before_are_spoken_to_in_theirs_and_in_none_before_it(
    directory: Path,
) -> None:
    """In version 2 a node has no feature level: it would be too old for the cluster, and end."""
    old, today = old_build(directory, LATER_COMMIT), REPOSITORY
    cluster = cluster_of_three(directory, old)
    counts: Counter[str] = Counter()
    try:
        wait_level(cluster, 4)
        for node in cluster.nodes:
            others = [other for other in cluster.nodes if other is not node]
            with Load(*others, name=f"count:{node.name}") as load:
                restart(node, today)
            assert load.errors == []
            counts.update(load.counts)
            assert all(each.alive() for each in cluster.nodes)
        wait_level(cluster, ops.LEVEL)
        check_counts(cluster.wait_leader(), counts)
    finally:
        cluster.close()


def test_a_new_operation_waits_for_the_last_member_and_then_ends_older_programs(
    directory: Path,
) -> None:
    today, newer = REPOSITORY, next_build(directory)
    cluster = cluster_of_three(directory, today)
    try:
        wait_level(cluster, ops.LEVEL)
        first, second, last = cluster.nodes
        for node in (first, second):
            others = [other for other in cluster.nodes if other is not node]
            with Load(*others, name=f"beside:{node.name}") as load:
                restart(node, newer)
            assert load.errors == []
        with client(first) as connection:
            with pytest.raises(redis.ResponseError, match=f"needs feature level {NEXT_LEVEL}"):
                connection.append("k", "next")
            assert connection.append("k", "now ") == 4
        assert level_of(first) == ops.LEVEL
        restart(last, newer)
        wait_level(cluster, NEXT_LEVEL)
        for node in cluster.nodes:
            with client(node) as connection:
                connection.append("k", f"next-{node.name} ")
        for node in cluster.nodes:
            with client(node) as connection:
                assert connection.get("k") == b"now next-n1 next-n2 next-n3 "

        first.kill()
        start_and_leave(first, today, f"feature level {NEXT_LEVEL}")
        for derived in ("engine", "snap"):
            shutil.rmtree(first.data / derived)
        start_and_leave(first, today, f"feature level {NEXT_LEVEL}")
        late = cluster.newcomer("n4", via=[second])
        late.arguments = (
            *(*COMMAND, "serve", "--node", "n4", *listeners(late.ports)),
            *("--data", str(late.data), "--join", f"{HOST}:{second.ports.peer}"),
        )
        start_and_leave(late, today, f"feature level {NEXT_LEVEL}")
    finally:
        cluster.close()
