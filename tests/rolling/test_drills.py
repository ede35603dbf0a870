"""Rolls of a real cluster in containers, when all goes well and when it does not.

All drills share one cluster, and each leaves it whole; that it does is what half of them are about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rolling.fleet import HELD, MUTE, NODES, Fleet, derived_image
from tests.support.docker import Containers, docker, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

DONE, FAILED, REFUSED, LOCKED = 0, 1, 3, 4


@pytest.fixture(scope="module")
def update(shared: Containers) -> str:
    return derived_image(shared, "update", "0.2.0")


@pytest.fixture
def untouched(fleet: Fleet) -> Iterator[None]:
    """After the drill every node runs in the container that it ran in, and nothing is left."""
    fleet.wait_ready()
    before = fleet.container_ids()
    yield
    assert fleet.container_ids() == before
    assert fleet.leftovers() == []


def followers(fleet: Fleet) -> list[str]:
    return [node for node in NODES if node != fleet.leader()]


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("untouched")
def test_no_node_is_touched_while_the_leader_is_unreachable(fleet: Fleet, update: str) -> None:
    leader = fleet.container(fleet.leader())
    docker("pause", leader.name)
    try:
        roll = fleet.roll(update, SETTLE_TIMEOUT_SECONDS="0")
    finally:
        docker("unpause", leader.name)
    assert roll.code == REFUSED, roll.said
    assert "refused: " in roll.err


@pytest.mark.usefixtures("untouched")
def test_no_node_is_touched_while_no_follower_is_caught_up(fleet: Fleet, update: str) -> None:
    """One follower is cut off: if the other one or the leader went, there would be no quorum."""
    leader, cut = fleet.leader(), followers(fleet)[0]
    fleet.cut_off(cut)
    try:
        with fleet.client(leader) as client:
            for value in range(10):
                client.set("behind", value)
        roll = fleet.roll(update, SETTLE_TIMEOUT_SECONDS="0", ROLLING_ORDER=leader)
    finally:
        fleet.reconnect(cut)
    assert roll.code == REFUSED, roll.said
    assert cut in roll.err


@pytest.mark.usefixtures("untouched")
def test_no_node_is_touched_while_its_disk_is_nearly_full(fleet: Fleet, update: str) -> None:
    node = followers(fleet)[0]
    roll = fleet.roll(update, ROLLING_ORDER=node, DISK_FREE_PERCENT_MIN="100")
    assert roll.code == REFUSED, roll.said
    assert "its disk is nearly full" in roll.err


@pytest.mark.usefixtures("untouched")
def test_two_rolls_at_once_are_one_too_many(fleet: Fleet, update: str) -> None:
    with fleet.start_roll(update, DISK_FREE_PERCENT_MIN="100") as first:
        until(fleet.leftovers, "the first one takes no lock")
        second = fleet.roll(update)
        first.communicate(timeout=60)
    assert second.code == LOCKED, second.said
    assert "another roll has the lock" in second.err
    assert first.returncode == REFUSED


# --- failures and the way back --------------------------------------------------------------------


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("manners", "why"), [(MUTE, "not back after 10 s"), (HELD, "it is held")], ids=["mute", "held"]
)
def test_a_node_that_never_gets_ready_is_given_its_old_image_back(
    fleet: Fleet, shared: Containers, tmp_path: Path, manners: str, why: str
) -> None:
    broken = derived_image(shared, f"broken{len(manners)}", "0.2.0", manners)
    report = tmp_path / "report.json"
    with fleet.client("n1") as client:
        client.set("kept", why)
        roll = fleet.roll(broken, "--report", str(report), HEALTH_TIMEOUT_SECONDS="10")
        assert client.get("kept") == why.encode()
    assert roll.code == FAILED, roll.said
    assert why in roll.err
    assert "the previous image is back, 0.1.0" in roll.err
    document = json.loads(report.read_text())
    assert [node["outcome"] for node in document["nodes"]] == ["rolled back"]


@pytest.mark.usefixtures("untouched")
def test_a_node_that_has_to_be_killed_ends_the_roll(fleet: Fleet, update: str) -> None:
    node = followers(fleet)[0]
    fleet.fault(f"{NODES[node]}.kills")
    try:
        roll = fleet.roll(update, ROLLING_ORDER=node)
    finally:
        fleet.heal(f"{NODES[node]}.kills")
    assert roll.code == FAILED, roll.said
    assert "it was killed" in roll.err
    assert "the previous image is back" in roll.err


def test_a_connection_that_dies_in_the_middle_is_cleaned_up_by_the_next_roll(
    fleet: Fleet, update: str
) -> None:
    node = followers(fleet)[0]
    fleet.fault(f"{NODES[node]}.dies")
    roll = fleet.roll(update, ROLLING_ORDER=node)
    assert roll.code == FAILED, roll.said
    assert "the way back failed, too" in roll.err
    fleet.heal(f"{NODES[node]}.ssh")
    again = fleet.roll(update, ROLLING_ORDER=node)
    assert again.code == DONE, again.said
    assert "its previous container is put back" in again.out
    assert fleet.leftovers() == []
    assert sorted(fleet.versions()) == ["0.1.0", "0.1.0", "0.2.0"]


# --- and when all goes well -----------------------------------------------------------------------


def test_a_roll_replaces_every_node_and_a_second_one_none(fleet: Fleet, shared: Containers) -> None:
    newest = derived_image(shared, "newest", "0.1.9")
    roll = fleet.roll(newest)
    assert roll.code == DONE, roll.said
    assert fleet.versions() == ["0.1.9"] * 3
    assert fleet.leftovers() == []
    checked = re.findall(r"(n\d) +checked: leader (n\d)", roll.out)
    assert sorted(node for node, _ in checked) == list(NODES)
    assert all(node != leader for node, leader in checked[:-1]), "who leads is left for the end"
    again = fleet.roll(newest)
    assert (again.code, again.out.count("skipped")) == (DONE, 3)
