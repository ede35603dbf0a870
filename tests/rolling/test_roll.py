"""The order of a roll, what it refuses, and how it gets back, on a stage without containers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rolling.stage import NEW, OLD, SCRIPT, Roll, Stage

UPDATED = f"kvnode={NEW} running"
UNTOUCHED = f"kvnode={OLD} running"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "stage")


# --- a roll that goes well ---


@dataclass(frozen=True)
class Rolled:
    """A roll of all three, all that it left, and a second one."""

    stage: Stage
    roll: Roll
    log: list[str]
    report: dict[str, Any]
    hostile: list[str]
    trap: Path
    again: Roll
    log_again: list[str]


@pytest.fixture(scope="module")
def rolled(tmp_path_factory: pytest.TempPathFactory) -> Rolled:
    directory = tmp_path_factory.mktemp("rolled")
    stage, trap, report = Stage(directory / "stage"), directory / "trap", directory / "report.json"
    hostile = f"A='\"$HOME B=$(touch${{IFS}}{trap}) C=`id`;id D=*&|<>\\ E=a=b F= MY_TOKEN=sesame"
    roll = stage.roll("--report", str(report), EXTRA_ENV=hostile)
    log = stage.log
    stage.forget()
    again = stage.roll(EXTRA_ENV=hostile)
    document = json.loads(report.read_text())
    return Rolled(stage, roll, log, document, hostile.split(), trap, again, stage.log)


def test_all_nodes_run_the_new_image_and_nothing_is_left(rolled: Rolled) -> None:
    assert (rolled.roll.code, rolled.roll.err) == (0, "")
    assert rolled.stage.images() == [UPDATED] * 3
    assert rolled.stage.locks() == []


def test_followers_go_first_and_the_leader_last(rolled: Rolled) -> None:
    stopped = [line.split()[0] for line in rolled.log if line.split()[1] == "stop"]
    assert stopped == ["host2", "host3", "host1"]
    assert rolled.stage.read("leader") != "n1"


def test_all_hosts_have_the_image_before_the_first_node_is_touched(rolled: Rolled) -> None:
    assert [line.split()[1] for line in rolled.log[:4]] == ["pull", "pull", "pull", "drain"]


def test_a_node_is_drained_set_aside_stopped_started_and_proved_in_this_order(
    rolled: Rolled,
) -> None:
    assert [line.partition(" ")[2] for line in rolled.log if line.startswith("host2 ")] == [
        f"pull {NEW}",
        "drain 30s",
        "rename kvnode kvnode-previous",
        "stop 30",
        f"run {NEW}",
        "probe",
        "probe",
        "rm kvnode-previous",
    ]


def test_the_report_tells_each_node_and_each_step(rolled: Rolled) -> None:
    document = rolled.report
    assert (document["outcome"], document["exit"], document["why"]) == ("done", 0, "")
    assert [node["node"] for node in document["nodes"]] == ["n2", "n3", "n1"]
    node = document["nodes"][0]
    assert (node["outcome"], node["from"], node["to"]) == ("updated", "0.1.0", "0.2.0")
    assert [step["step"] for step in node["steps"]] == [
        "checked",
        "drained",
        "leader is n1",
        "stopped",
        "started",
        "back",
        "stable",
    ]


def test_values_arrive_as_they_were_given_and_run_nothing(rolled: Rolled) -> None:
    told = rolled.stage.read("containers/host2/kvnode/env").splitlines()
    assert told[-len(rolled.hostile) :] == rolled.hostile
    assert not rolled.trap.exists()


def test_no_value_of_the_extra_environment_is_printed_or_reported(rolled: Rolled) -> None:
    assert "sesame" not in rolled.roll.said + str(rolled.report)
    assert "HOME" not in rolled.roll.said


def test_nodes_that_have_image_and_configuration_are_left_alone(rolled: Rolled) -> None:
    assert rolled.again.code == 0
    assert rolled.again.out.count("skipped") == 3
    assert {line.split()[1] for line in rolled.log_again} == {"pull"}


def test_another_configuration_is_reason_enough_to_replace_a_node(stage: Stage) -> None:
    stage.roll_one()
    stage.forget()
    assert stage.roll_one(EXTRA_ENV="KVNODE_LOG_LEVEL=debug").code == 0
    assert stage.stopped == ["host2"]


def test_the_order_is_the_operators_except_for_the_leader(stage: Stage) -> None:
    stage.write("leader", "n3")
    assert stage.roll(ROLLING_ORDER="n3,n2,n1").code == 0
    assert stage.stopped == ["host2", "host1", "host3"]


def test_the_canary_is_first_even_if_it_leads(stage: Stage) -> None:
    assert stage.roll("--canary", "n1").code == 0
    assert stage.stopped == ["host1", "host3", "host2"], "n2 took over, and is the last"


# --- refusals ---


@pytest.mark.parametrize(
    ("fault", "text", "why"),
    [
        ("host3.ssh", "", "n3 cannot be locked"),
        ("host1.ready", "false", "n1 is not ready"),
        ("host2.recovering", "true", "n2 is recovering"),
        ("host3.leader", "n2", "the leader is n1 in term 3 for n1, n2 in 3 for n3"),
        ("host1.leader", "\n", "n1 knows no leader"),
        ("host3.applied", "-2000", "n3 is 2100 entries behind"),
        ("host2.node", "n9", "on host2 there is n9, not n2"),
        ("host2.df", "90", "its disk is nearly full: 10 % free"),
        ("host2.check", "a membership change is pending\nthe disk is full", "pending; the disk is"),
    ],
)
def test_a_cluster_that_is_not_well_is_not_touched(
    stage: Stage, fault: str, text: str, why: str
) -> None:
    stage.fault(fault, text)
    roll = stage.roll_one()
    assert roll.code == 3
    assert why in roll.err
    assert "What to do:" in roll.err
    assert stage.stopped == []
    assert stage.images() == [UNTOUCHED] * 3
    if fault != "host3.ssh":
        assert stage.locks() == []


def test_a_draining_member_is_not_well(stage: Stage) -> None:
    (stage.directory / "draining" / "host3").touch()
    roll = stage.roll_one()
    assert (roll.code, stage.stopped) == (3, [])
    assert "n3 is draining" in roll.err


def test_a_member_that_is_not_named_is_not_forgotten(stage: Stage) -> None:
    stage.write("nodes", stage.read("nodes") + "\nn4 host4")
    roll = stage.roll_one()
    assert (roll.code, stage.stopped) == (3, [])
    assert "NODES does not name the member n4" in roll.err


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"DATA_DIR": "/srv/other"}, "its data is in '/var/lib/kvnode'"),
        ({"PASSWORD_FILE": "/nowhere/password"}, "/nowhere/password is not on host2"),
        ({"IMAGE": "kvnode:none"}, "host2 cannot get kvnode:none"),
    ],
)
def test_what_a_new_container_would_lack_is_missed_before(
    stage: Stage, variables: dict[str, str], why: str
) -> None:
    roll = stage.roll_one(**variables)
    assert (roll.code, stage.stopped) == (3, [])
    assert why in roll.err


@pytest.mark.parametrize(
    ("version", "code"), [("0.0.9", 0), ("0.2.0rc1", 0), ("0.3.0", 3), ("1.1.0", 3)]
)
def test_versions_must_be_adjacent(stage: Stage, version: str, code: int) -> None:
    stage.image(NEW, version)
    assert stage.roll_one().code == code
    assert len(stage.stopped) == (0 if code else 1)


def test_no_caught_up_follower_leaves_the_leader_alone(stage: Stage) -> None:
    stage.fault("host1.drain")
    roll = stage.roll()
    assert roll.code == 3
    assert "no follower is caught up" in roll.err
    assert stage.stopped == ["host2", "host3"]
    assert stage.done_to("host1")[-1] == "undo"
    assert stage.images() == [UNTOUCHED, UPDATED, UPDATED]


def test_downtime_has_to_be_asked_for(stage: Stage) -> None:
    stage.fault("host2.check", "it is the only voter")
    assert stage.roll(ROLLING_ORDER="n2").code == 3
    assert stage.roll(ROLLING_ORDER="n2", ALLOW_DOWNTIME="true").code == 0


def test_allowing_downtime_allows_nothing_else(stage: Stage) -> None:
    stage.fault("host2.check", "it is the only voter\na membership change is pending")
    assert stage.roll(ROLLING_ORDER="n2", ALLOW_DOWNTIME="true").code == 3


# --- the lock ---


def test_two_rolls_at_once_are_one_too_many(stage: Stage) -> None:
    lock = stage.directory / "locks" / "kvnode-n2.rolling-update.lock"
    lock.mkdir()
    (lock / "owner").write_text("somebody@elsewhere pid 7\n")
    roll = stage.roll()
    assert (roll.code, stage.log) == (4, [])
    assert "somebody@elsewhere pid 7" in roll.err
    assert stage.locks() == [lock.name], "it takes back its own locks and no other"


def test_a_lock_of_the_dead_can_be_removed(stage: Stage) -> None:
    lock = stage.directory / "locks" / "kvnode-n2.rolling-update.lock"
    lock.mkdir()
    (lock / "owner").write_text("somebody\n")
    roll = stage.roll_one("--unlock")
    assert (roll.code, stage.locks()) == (0, [])
    assert "removed: somebody" in roll.out
    assert stage.roll_one().code == 0


# --- failures and the way back ---


@pytest.mark.parametrize(
    ("manners", "why"),
    [
        ("unready", "not back after 1 s: it is not ready"),
        ("behind", "it has applied 95 of 100"),
        ("deaf", "a write and a read do not go through it"),
        ("moody", "a write and a read do not go through it"),
        ("stranger", "it is member id-of-stranger of cluster, and was id-of-n2"),
        ("ends", "it ended and was started again"),
        ("held", "it is held: the log is corrupt"),
    ],
)
def test_a_broken_image_stops_the_roll_and_the_old_container_is_back(
    stage: Stage, manners: str, why: str
) -> None:
    stage.image(NEW, "0.2.0", manners)
    roll = stage.roll_one()
    assert roll.code == 1
    assert why in roll.err
    assert "the previous image is back" in roll.err
    assert "last words of kvnode" in roll.err
    assert stage.images() == [UNTOUCHED] * 3
    assert stage.stopped == ["host2", "host2"], "the broken one is stopped, not killed; no other is"
    assert stage.locks() == []


def test_a_broken_canary_is_the_only_one_touched(stage: Stage, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    stage.image(NEW, "0.2.0", "held")
    assert stage.roll("--canary", "n3", "--report", str(report)).code == 1
    assert set(stage.stopped) == {"host3"}
    document = json.loads(report.read_text())
    assert (document["outcome"], document["exit"]) == ("failed", 1)
    assert document["why"] == "it is held: the log is corrupt"
    assert [node["outcome"] for node in document["nodes"]] == ["rolled back"]


@pytest.mark.parametrize(("code", "why"), [("1", "exit code 1"), ("137", "it was killed")])
def test_a_stop_that_is_no_orderly_stop_ends_the_roll(stage: Stage, code: str, why: str) -> None:
    stage.fault("host2.exit", code)
    roll = stage.roll_one()
    assert roll.code == 1
    assert why in roll.err
    assert stage.images() == [UNTOUCHED] * 3
    assert stage.done_to("host2")[-2:] == ["probe", "probe"], "the old one has to prove itself, too"


def test_a_connection_that_dies_in_the_middle_is_cleaned_up_by_the_next_roll(stage: Stage) -> None:
    stage.fault("host2.dies")
    roll = stage.roll_one()
    assert roll.code == 1
    assert "the way back failed, too" in roll.err
    assert "docker start kvnode" in roll.err
    assert stage.stopped == ["host2"], "nobody else is stopped while one is down"
    assert stage.locks() == ["kvnode-n2.rolling-update.lock"]
    stage.heal("host2.ssh")
    roll = stage.roll_one()
    assert roll.code == 0
    assert "the roll that had the lock is dead" in roll.out
    assert "its previous container is put back" in roll.out
    assert stage.images() == [UNTOUCHED, UPDATED, UNTOUCHED]
    assert stage.locks() == []


def test_a_connection_that_comes_back_is_ridden_out(stage: Stage) -> None:
    stage.fault("host2.ssh")
    process = subprocess.Popen(
        [str(SCRIPT)],
        env={
            "PATH": os.environ["PATH"],
            **stage.environment(ROLLING_ORDER="n2", SSH_ATTEMPTS="200"),
        },
        stdout=subprocess.DEVNULL,
    )
    # The first lock is taken: the second host is being asked, in vain.
    while not stage.locks():
        time.sleep(0.01)
    stage.heal("host2.ssh")
    assert process.wait(100) == 0
    assert stage.stopped == ["host2"]


@pytest.mark.parametrize(
    "state",
    ["running", "instead", "beside a stopped one", "beside a broken one", "beside a good one"],
)
def test_what_a_roll_that_died_left_is_put_right(stage: Stage, state: str) -> None:
    place = stage.directory / "containers" / "host2"
    (place / "kvnode").rename(place / "kvnode-previous")
    if state != "running":
        (place / "kvnode-previous" / "state").write_text("exited\n")
    if "beside" in state:
        stage.container("host2", "n2-new")
        (place / "kvnode" / "node").write_text("n2\n")
        (place / "kvnode" / "image").write_text("kvnode:middle\n")
        stage.image("kvnode:middle", "0.1.1", "good" if "good" in state else "unready")
        if "stopped" in state:
            (place / "kvnode" / "state").write_text("exited\n")
    roll = stage.roll_one()
    assert roll.code == 0
    assert "an earlier roll ended" in roll.out
    assert stage.images() == [UNTOUCHED, UPDATED, UNTOUCHED]
    assert stage.stopped.count("host2") == (2 if "stopped" in state or "broken" in state else 1)


def test_a_roll_that_is_interrupted_puts_its_node_back(stage: Stage) -> None:
    stage.image(NEW, "0.2.0", "unready")
    process = subprocess.Popen(
        [str(SCRIPT)],
        env={
            "PATH": os.environ["PATH"],
            **stage.environment(ROLLING_ORDER="n2", HEALTH_TIMEOUT_SECONDS="50"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = ""
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if " started" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 1
    assert "interrupted" in said
    assert stage.images() == [UNTOUCHED] * 3
    assert stage.locks() == []


def test_an_interrupted_check_changes_nothing(stage: Stage) -> None:
    stage.fault("host1.ready", "false")
    process = subprocess.Popen(
        [str(SCRIPT)],
        env={"PATH": os.environ["PATH"], **stage.environment(SETTLE_TIMEOUT_SECONDS="50")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(stage.log) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 3
    assert "refused: interrupted" in said
    assert stage.stopped == []
    assert stage.locks() == []
