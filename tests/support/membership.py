"""Clusters of real processes whose members come and go.

`MemberCluster` is a `LocalCluster` that begins with one node without any flag about others, or with
a few that `--cluster` names, and grows by nodes that are started with `--join`. Changes go to the
admin port of any node, as an operator's would.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scripts.local_cluster import (
    HOST,
    POLL_SECONDS,
    LocalCluster,
    LocalNode,
    NodeFailed,
    PortReservation,
    Ports,
    kvnode_command,
)

CHANGE_SECONDS_MAX = 40.0
"""Longer than a node tries: its own answer is heard, or it is gone."""
SETTLE_SECONDS_MAX = 45.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request to change the membership."""

    code: int
    verdict: str
    text: str
    node_id: str


def ask(node: LocalNode, action: str, **fields: object) -> Answer:
    """POST a change to a node's admin port.

    Raises:
        OSError, http.client.HTTPException: it gave no answer.
    """
    connection = http.client.HTTPConnection(node.host, node.ports.admin, timeout=CHANGE_SECONDS_MAX)
    try:
        body = json.dumps(fields)
        connection.request("POST", f"/members/{action}", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        try:
            document = json.loads(content)
        except ValueError:
            return Answer(response.status, "", content.decode(errors="replace"), "")
        return Answer(
            response.status,
            document.get("verdict", ""),
            document.get("text", ""),
            document.get("node_id", ""),
        )
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = SETTLE_SECONDS_MAX) -> None:
    """Look again and again until it is so.

    Raises:
        NodeFailed: it was not so in time; `what` is in the text.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NodeFailed(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)


def members_of(node: LocalNode) -> dict[str, dict[str, Any]]:
    """The members as this node knows them, by name; empty while it does not answer."""
    status = node.status() if node.alive() else None
    return {member["name"]: member for member in (status or {}).get("members", ())}


def roles_of(node: LocalNode) -> Counter[tuple[str, str]]:
    """Who is a member in which role (voter, learner, leaving), as this node knows it."""
    status = node.status() if node.alive() else None
    return Counter(
        (member["name"], "voter" if member["role"] in VOTING else member["role"])
        for member in (status or {}).get("members", ())
    )


def voters_of(node: LocalNode) -> set[str]:
    """Names of the members that vote, as this node knows them."""
    known = members_of(node)
    return {name for name, member in known.items() if member["role"] in VOTING}


VOTING = ("leader", "follower", "candidate", "pre-candidate")


class MemberCluster(LocalCluster):
    """A cluster that grows.

    Args:
        directory: where data directories and logs go.
        founders: how many nodes `--cluster` names; 0 for none yet.
        command: what starts a node; `serve` and its flags are put behind it.
        environment: variables for the nodes, over our own.
        flags: more flags, for every node.
    """

    def __init__(
        self,
        directory: Path,
        founders: int = 0,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        super().__init__(directory, founders, command, environment)
        self._command = tuple(command or kvnode_command())
        self._environment = dict(environment or {})
        self._flags = tuple(flags)
        for node in self.nodes:
            node.arguments = (*node.arguments, *flags)

    def pioneer(self, name: str = "n1") -> LocalNode:
        """A node that is told of nobody: the first one. Not started."""
        return self._new(name)

    def newcomer(self, name: str, *flags: str, via: Sequence[LocalNode] = ()) -> LocalNode:
        """A node that joins through `via`, or through all that run. Not started."""
        return self._new(name, *self.join_flags(*via), *flags)

    def join_flags(self, *via: LocalNode) -> tuple[str, str]:
        """The flag that makes a node join through `via`, or through all that run."""
        peers = via or [node for node in self.nodes if node.alive()]
        return "--join", ",".join(f"{HOST}:{node.ports.peer}" for node in peers)

    def _new(self, name: str, *flags: str) -> LocalNode:
        node = LocalNode(name, self.new_ports(), self.directory, (), self._environment)
        self.set_flags(node, *flags)
        self.nodes.append(node)
        return node

    def set_flags(self, node: LocalNode, *flags: str) -> None:
        """From its next start on, a node is told of others by these flags alone."""
        node.arguments = (
            *(*self._command, "serve", "--node", node.name),
            *listeners(node.ports),
            *("--data", str(node.data)),
            *self._flags,
            *flags,
        )

    def new_ports(self) -> Ports:
        """Three ports that nobody else is given."""
        reserved = [PortReservation() for _ in range(3)]
        self._reservations += reserved
        client, peer, admin = (reservation.port for reservation in reserved)
        return Ports(client, peer, admin)

    def join(self, name: str, *flags: str, via: Sequence[LocalNode] = ()) -> LocalNode:
        """Start a newcomer and wait until it serves clients.

        Raises:
            NodeFailed: it did not.
        """
        node = self.newcomer(name, *flags, via=via)
        node.start()
        node.wait_ready()
        return node

    def named(self, name: str) -> LocalNode:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def wait_voters(self, *names: str) -> None:
        """Wait until every node that runs knows these voters, and no others.

        Raises:
            NodeFailed: that did not come about.
        """
        running = [node for node in self.nodes if node.alive()]
        wait_for(
            lambda: all(voters_of(node) == set(names) for node in running),
            f"voters {sorted(names)}",
        )

    def change(self, action: str, **fields: object) -> Answer:
        """Ask the first node that runs."""
        return ask(next(node for node in self.nodes if node.alive()), action, **fields)


def listeners(ports: Ports) -> tuple[str, ...]:
    """The flags that say where a node listens."""
    return (
        *("--listen", f"{HOST}:{ports.client}"),
        *("--peer-listen", f"{HOST}:{ports.peer}"),
        *("--admin", f"{HOST}:{ports.admin}"),
    )


def client(node: LocalNode) -> redis.Redis:
    """A redis-py client that does not retry."""
    return redis.Redis(*node.address, retry=Retry(NoBackoff(), 0), socket_timeout=30)


class Load:
    """Clients that count, one on each node, and take note of the first error.

    `counts` are the acknowledged increments, by key; all of them were answered in their order.
    """

    def __init__(self, *nodes: LocalNode, name: str = "count") -> None:
        self._name = name
        self.errors: list[str] = []
        self.counts: Counter[str] = Counter()
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(node,)) for node in nodes]

    def _work(self, node: LocalNode) -> None:
        key = f"{self._name}:{node.name}"
        with client(node) as connection:
            try:
                while not self._ends.is_set():
                    told = connection.incr(key), int(connection.get(key) or 0)
                    self.counts[key] += 1
                    if told != (self.counts[key], self.counts[key]):
                        self.errors.append(f"{key}: {told} after {self.counts[key]}")
                        return
            except redis.RedisError as error:
                self.errors.append(f"{node.name}: {error!r}")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()
