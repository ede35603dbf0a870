"""`kvnode member` against admin ports that answer as the tests say."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kvnode import cli
from kvnode.address import Address
from kvnode.commands.admin_client import RETRY_SECONDS, Changer
from kvnode.commands.member import state_of
from tests.support.fake_admin import FakeNode

DONE = {"verdict": "done", "text": "n4 is a voter", "node_id": "0" * 15 + "4"}
REFUSED = {"verdict": "refused", "text": "n4 is 512 entries behind", "node_id": "0" * 16}
AGAIN = {"verdict": "again", "text": "there is no leader", "node_id": "0" * 16}


@pytest.fixture
def nodes() -> Iterator[list[FakeNode]]:
    started: list[FakeNode] = []
    yield started
    for node in started:
        node.close()


def node(nodes: list[FakeNode], *answers: tuple[int, object], status: object = None) -> FakeNode:
    nodes.append(FakeNode(*answers, status=status))
    return nodes[-1]


def member(*arguments: str, **environment: str) -> Result:
    unset = {key: None for key in os.environ if key.startswith("KVNODE_")}
    return CliRunner().invoke(
        cli.program, ["member", *arguments], prog_name="kvnode", env=unset | environment
    )


def nowhere() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


# --- changes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "path", "body"),
    [
        (["add", "n4"], "/members/add", {"member": "n4", "promote": True}),
        (
            ["add", "n4", "--no-promote", "--peer-address", "h:1", "--client-address", "[::1]:2"],
            "/members/add",
            {
                "member": "n4",
                "promote": False,
                "peer_address": "h:1",
                "client_address": "[::1]:2",
            },
        ),
        (["promote", "n4"], "/members/promote", {"member": "n4"}),
        (["remove", "n4"], "/members/remove", {"member": "n4"}),
        (["replace", "n3", "n4"], "/members/replace", {"member": "n3", "other": "n4"}),
        (["transfer", "n4"], "/members/transfer", {"member": "n4"}),
        (["transfer"], "/members/transfer", {}),
    ],
)
def test_each_command_is_one_request(
    nodes: list[FakeNode], arguments: list[str], path: str, body: dict[str, object]
) -> None:
    asked = node(nodes, (200, DONE))
    result = member(*arguments, "--admin", asked.address)
    assert (result.exit_code, result.stdout) == (0, "n4 is a voter\n")
    ((got_path, got_body, headers),) = asked.asked
    assert (got_path, got_body) == (path, body)
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("status", "answer", "code", "sentence"),
    [
        (409, REFUSED, 1, "kvnode: n4 is 512 entries behind\n"),
        (400, "member: 'n4' is not a name\n", 64, "kvnode: member: 'n4' is not a name\n"),
        (401, "a password is needed\n", 1, "kvnode: a password is needed: give --password-file\n"),
        (404, "no such page\n", 69, "cannot do this: it answered 404\n"),
        (405, "only GET and HEAD\n", 69, "cannot do this: it answered 405\n"),
        (200, "{}", 69, "cannot do this: it answered 200\n"),
        (200, "[]", 69, "cannot do this: it answered 200\n"),
        (200, '{"verdict": "maybe", "text": "", "node_id": ""}', 69, "it answered 200\n"),
    ],
)
def test_what_was_not_done_is_one_line_and_its_exit_code(
    nodes: list[FakeNode], status: int, answer: object, code: int, sentence: str
) -> None:
    asked = node(nodes, (status, answer))
    result = member("remove", "n4", "--admin", asked.address)
    assert result.exit_code == code
    assert result.stderr.endswith(sentence)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert len(asked.asked) == 1


def test_json_is_for_scripts_whatever_the_outcome(nodes: list[FakeNode]) -> None:
    asked = node(nodes, (409, REFUSED))
    result = member("remove", "n4", "--json", "--admin", asked.address)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {**REFUSED, "admin": asked.address}
    result = member("remove", "n4", "--json", "--admin", nowhere())
    assert result.exit_code == 69
    assert json.loads(result.stdout)["verdict"] is None


def test_while_nobody_decides_it_is_asked_for_again(nodes: list[FakeNode]) -> None:
    asked = node(nodes, (503, AGAIN), (503, "too many connections\n"), (200, DONE))
    result = member("promote", "n4", "--admin", asked.address)
    assert result.exit_code == 0
    assert len(asked.asked) == 3


def test_when_the_time_is_over_it_exits_with_75(nodes: list[FakeNode]) -> None:
    asked = node(nodes, (503, AGAIN))
    result = member("promote", "n4", "--timeout", "1ms", "--admin", asked.address)
    assert result.exit_code == 75
    assert result.stderr == "kvnode: there is no leader\n"


def test_the_time_that_is_left_is_used_up(nodes: list[FakeNode]) -> None:
    now = [0.0]

    def pause(seconds: float) -> None:
        now[0] += seconds

    asked = node(nodes, (503, AGAIN))
    at = Address("127.0.0.1", asked.port)
    outcome = Changer([at], None, 30, clock=lambda: now[0], pause=pause).ask("promote", {})
    assert outcome.exit_code == 75
    assert 30 - 2 * RETRY_SECONDS <= now[0] < 30


def test_a_node_that_went_away_while_asked_is_asked_again(nodes: list[FakeNode]) -> None:
    asked = node(nodes, (0, None), (200, DONE))
    result = member("promote", "n4", "--admin", asked.address)
    assert result.exit_code == 0
    assert len(asked.asked) == 2


def test_of_several_nodes_the_first_that_decides_counts(nodes: list[FakeNode]) -> None:
    undecided, decided = node(nodes, (503, AGAIN)), node(nodes, (200, DONE))
    result = member("promote", "n4", "--admin", f"{nowhere()},{undecided.address}", "--admin",
                    decided.address)  # fmt: skip
    assert result.exit_code == 0
    assert (len(undecided.asked), len(decided.asked)) == (1, 1)


def test_nobody_there_is_exit_69_at_once() -> None:
    result = member("promote", "n4", "--admin", f"{nowhere()},{nowhere()}")
    assert result.exit_code == 69
    assert "is unreachable" in result.stderr


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_password_goes_with_the_request_and_nowhere_else(
    nodes: list[FakeNode], tmp_path: Path, by: str
) -> None:
    file = tmp_path / "password"
    file.write_text("se:cret\n")
    asked = node(nodes, (409, REFUSED))
    option = ["--password-file", str(file)] if by == "option" else []
    environment = {"KVNODE_REQUIREPASS_FILE": str(file)} if by == "environment" else {}
    result = member("promote", "n4", "--admin", asked.address, *option, **environment)
    scheme, encoded = asked.asked[0][2]["authorization"].split()
    assert (scheme, base64.b64decode(encoded)) == ("Basic", b"kvnode:se:cret")
    assert "cret" not in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["remove"], "Missing argument 'NAME'."),
        (["replace", "n3"], "give OLD and NEW, or --data DIR"),
        (["add", "n4", "--peer-address", "h"], "'h' is not HOST:PORT"),
        (["promote", "n4", "--timeout", "soon"], "--timeout: 'soon' is not a duration"),
        (["promote", "n4", "--password-file", "/nonexistent"], "cannot read /nonexistent"),
        (["promote", "n4", "--password-file", "/dev/null"], "/dev/null holds no password"),
        (["list", "--admin", "x"], "--admin: 'x' is not HOST:PORT"),
        ([], "a command is missing"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_64(arguments: list[str], sentence: str) -> None:
    result = member(*arguments)
    assert result.exit_code == 64
    assert result.stderr.count("\n") == 1
    assert sentence.replace("'", "") in result.stderr.replace("'", "")


# --- list -----------------------------------------------------------------------------------------


def document(name: str, leader: str | None = "n1") -> dict[str, object]:
    members = [
        {
            "name": "n1",
            "node_id": "0" * 15 + "1",
            "role": "leader",
            "match": 9,
            "lag": 0,
            "peer_address": "h:1",
            "client_address": "h:2",
            "level": 3,
            "connected": None,
        },
        {
            "name": "n2",
            "node_id": "0" * 15 + "2",
            "role": "learner",
            "match": 0,
            "lag": 9,
            "peer_address": "h:3",
            "client_address": "",
            "level": None,
            "connected": False,
            "heard_ms": 4200,
        },
    ]
    return {
        "node": name,
        "role": "leader" if name == leader else "follower",
        "leader": leader,
        "cluster_id": "demo",
        "members": members,
        "load": {"commands_per_second": 1234.5},
    }


def test_the_list_shows_every_member_as_the_leader_sees_it(nodes: list[FakeNode]) -> None:
    follower = node(nodes, status=document("n2"))
    leader = node(nodes, status=document("n1"))
    result = member("list", "--admin", f"{follower.address},{leader.address}")
    assert result.exit_code == 0
    head, *table = result.stdout.splitlines()
    assert head == "cluster demo  leader n1  (seen by n1)"
    assert [line.split() for line in table[1:]] == [
        ["n1", "0" * 15 + "1", "leader", "9", "0", "ok", "h:1", "h:2", "3", "1234.5/s"],
        ["n2", "0" * 15 + "2", "learner", "0", "9", "silent", "4s", "h:3", "-", "-", "1234.5/s"],
    ]


def test_the_list_as_json_has_all_that_is_known(nodes: list[FakeNode]) -> None:
    asked = node(nodes, status=document("n2", leader=None))
    told = json.loads(member("list", "--json", "--admin", asked.address).stdout)
    assert (told["node"], told["leader"]) == ("n2", None)
    assert [one["name"] for one in told["members"]] == ["n1", "n2"]
    assert told["members"][0]["load"] is None, "n1 was not asked"
    assert told["members"][1]["load"] == {"commands_per_second": 1234.5}


def test_a_list_that_nobody_can_give_is_exit_69() -> None:
    assert member("list", "--admin", nowhere()).exit_code == 69


def test_a_held_node_says_why_it_has_no_list(nodes: list[FakeNode]) -> None:
    held = {"node": "n1", "members": [], "fatal": {"reason": "damaged"}}
    result = member("list", "--admin", node(nodes, status=held).address)
    assert result.stdout == "n1 is held: damaged\n"


@pytest.mark.parametrize(
    ("one", "state"),
    [
        ({"recovering": True, "connected": False}, "recovering"),
        ({"connected": False, "heard_ms": None}, "silent"),
        ({"connected": False, "heard_ms": 61_000}, "silent 61s"),
        ({"connected": True, "draining": True}, "draining"),
        ({"connected": True}, "ok"),
        ({}, "ok"),
    ],
)
def test_the_state_of_a_member_is_a_word_or_two(one: dict[str, Any], state: str) -> None:
    assert state_of(one) == state
