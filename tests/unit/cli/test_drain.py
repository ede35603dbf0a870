"""`kvnode drain`: what is asked, how long it waits, and what its exit codes mean."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kvnode import cli
from kvnode.address import Address
from kvnode.commands.drain import POLL_SECONDS, Left, wait_until_left, why_not_left
from kvnode.limits import STOP_GRACE_SECONDS
from tests.support.fake_admin import FakeNode

DONE = {"verdict": "done", "text": "n1 is draining", "node_id": "0" * 16}
REFUSED = {"verdict": "refused", "text": "n1 leads, and n2 is gone", "node_id": "0" * 16}
ADDRESS = Address("h", 1)


@pytest.fixture
def node() -> Iterator[Callable[..., FakeNode]]:
    started: list[FakeNode] = []

    def start(*answers: tuple[int, object], status: object = None) -> FakeNode:
        started.append(FakeNode(*answers, status=status))
        return started[-1]

    yield start
    for one in started:
        one.close()


Start = Callable[..., FakeNode]


def drain(*arguments: str, **environment: str) -> Result:
    unset = {key: None for key in os.environ if key.startswith("KVNODE_")}
    return CliRunner().invoke(
        cli.program, ["drain", *arguments], prog_name="kvnode", env=unset | environment
    )


def status_of(
    role: str = "follower", leader: str | None = "n2", clients: int = 0, heard_ms: int | None = 30
) -> dict[str, Any]:
    roles = {"n1": role, "n2": "follower", "n3": "follower"}
    members = [
        {"name": name, "role": roles[name], "heard_ms": None if name == "n1" else heard_ms}
        for name in roles
    ]
    document = {"node": "n1", "role": role, "leader": leader, "clients": clients}
    return document | {"members": members, "draining": True}


# --- what is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "path"),
    [([], "/drain"), (["--undo"], "/drain/undo"), (["--check"], "/drain/check")],
)
def test_each_wish_is_one_request(node: Start, arguments: list[str], path: str) -> None:
    asked = node((200, DONE))
    result = drain(*arguments, KVNODE_ADMIN=f"0.0.0.0:{asked.port}")
    assert (result.exit_code, result.stdout) == (0, "n1 is draining\n")
    assert [(got, body) for got, body, _ in asked.asked] == [(path, {})]


def test_the_password_goes_along(node: Start, tmp_path: Path) -> None:
    asked, secret = node((200, DONE)), tmp_path / "password"
    secret.write_text("sesame\n")
    drain("--admin", asked.address, KVNODE_REQUIREPASS_FILE=str(secret))
    assert asked.asked[0][2]["authorization"].startswith("Basic ")


def test_a_refusal_is_one_line_and_1(node: Start) -> None:
    result = drain("--wait", "--admin", node((409, REFUSED)).address)
    assert (result.exit_code, result.stderr) == (1, "kvnode: n1 leads, and n2 is gone\n")


def test_what_keeps_a_node_is_told_a_line_each_on_stdout(node: Start) -> None:
    address = node((409, REFUSED | {"text": "n2 is gone\nn3 is draining"})).address
    result = drain("--check", "--admin", address)
    assert (result.exit_code, result.stdout) == (1, "n2 is gone\nn3 is draining\n")
    result = drain("--check", "--json", "--admin", address)
    assert (result.exit_code, json.loads(result.stdout)) == (
        1,
        {"can_stop": False, "reasons": ["n2 is gone", "n3 is draining"]},
    )


@pytest.mark.parametrize("arguments", [[], ["--check"], ["--wait"], ["--undo"]])
def test_nobody_there_is_69(arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    result = drain(*arguments, "--admin", address)
    assert (result.exit_code, result.stdout) == (69, "")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--wait", "--undo"], ["--timeout", "x"], ["--admin", "h:1,h:2"]]
)
def test_wrong_usage_is_64(arguments: list[str]) -> None:
    assert drain(*arguments).exit_code == 64


def test_waiting_ends_when_another_node_leads_and_no_client_is_left(node: Start) -> None:
    address = node((200, DONE), status=status_of()).address
    result = drain("--wait", "--json", "--admin", address)
    told = {"ok": True, "text": "n1 is drained, n2 leads", "leader": "n2", "clients": 0}
    assert (result.exit_code, json.loads(result.stdout)) == (0, told)


# --- waiting --------------------------------------------------------------------------------------


class Watched:
    """A node whose statuses follow each other, and a clock that only pauses move."""

    def __init__(self, *statuses: dict[str, Any] | str) -> None:
        self.left = list(statuses)
        self.now = 0.0

    def ask(self) -> dict[str, Any] | str:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]

    def wait(self, seconds: float) -> Left:
        def pause(duration: float) -> None:
            self.now += duration

        return wait_until_left(self.ask, ADDRESS, seconds, clock=lambda: self.now, pause=pause)


def test_load_balancers_have_time_to_notice() -> None:
    watched = Watched(status_of())
    assert watched.wait(30).code == 0
    assert STOP_GRACE_SECONDS <= watched.now < STOP_GRACE_SECONDS + 2 * POLL_SECONDS


def test_clients_that_stay_are_told_of_when_the_time_is_over() -> None:
    watched = Watched(status_of(clients=3))
    left = watched.wait(5)
    assert (left.code, left.clients) == (0, 3)
    assert left.text == "n1 is drained, n2 leads; clients left: 3"
    assert watched.now >= 5
    watched = Watched(*[status_of(clients=3)] * 10, status_of())
    assert watched.wait(5) == Left(0, "n1 is drained, n2 leads", "n2", 0)
    assert watched.now < 2


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (status_of("leader", "n1"), "it leads still"),
        (status_of("candidate", None), "no leader is known"),
        (status_of(heard_ms=2_001), "it does not hear the leader, n2"),
        (status_of(heard_ms=None), "it does not hear the leader, n2"),
    ],
)
def test_who_cannot_be_stopped_without_an_election_is_1_at_the_timeout(
    status: dict[str, Any], why: str
) -> None:
    watched = Watched(status)
    assert (watched.wait(5).code, watched.now >= 5) == (1, True)
    assert watched.wait(5).text == f"n1 is draining, but {why}"
    assert Watched(status, status_of()).wait(5).code == 0


def test_who_is_alone_leads_on() -> None:
    status = status_of("leader", "n1")
    status["members"] = [{"name": "n1", "role": "leader"}, {"name": "n4", "role": "learner"}]
    assert why_not_left(status) == ""


def test_it_ends_with_the_node_or_with_the_draining() -> None:
    assert Watched(status_of("leader", "n1"), "connection refused").wait(5).code == 69
    gone = Watched(status_of("leader", "n1"), status_of() | {"draining": False})
    assert gone.wait(5) == Left(1, "n1 is not draining any more", "n2")
