"""`kvnode member replace --data`: nothing is lost, nobody starts half replaced, any crash heals."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvnode import cli
from kvnode.directory import DataDirectory, has_log, read_identity
from kvnode.errors import DiskFailed, LogCorrupt
from kvnode.offline import set_aside as module
from kvnode.offline.refused import OperationRefused
from kvnode.offline.set_aside import set_aside
from tests.unit.offline.crash import crash_at
from tests.unit.wal_tools.log_directory import ALONE, CLUSTER, THREE, LogDirectory

PARTS = {"state-a", "state-b", "wal", "exits", "snap", "engine", "identity"}


@pytest.fixture
def sick(tmp_path: Path) -> LogDirectory:
    """A member of three whose log is damaged in the middle, with all a directory may hold."""
    return make_sick(tmp_path / "data")


def make_sick(path: Path, members: dict[str, str] | None = None) -> LogDirectory:
    log = LogDirectory(path, members or THREE)
    log.remember()
    log.flip(log.end // 2)
    (path / "snap").mkdir()
    (path / "snap" / "x.snap").write_bytes(b"snapshot")
    (path / "engine").mkdir()
    return log


def contents(path: Path) -> dict[str, bytes]:
    """All files below, by their paths."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "LOCK"
    }


def start(path: Path, **asked: str) -> DataDirectory:
    """What `kvnode serve` with the flags of before does first."""
    return DataDirectory.open(path, node="n1", cluster_id=CLUSTER, members=THREE, **asked)


def replace(*arguments: str) -> Result:
    unset = {key: None for key in os.environ if key.startswith("KVNODE_")}
    return CliRunner().invoke(
        cli.program, ["member", "replace", *arguments], prog_name="kvnode", env=unset
    )


# --- what it does ---------------------------------------------------------------------------------


def test_the_content_is_set_aside_and_a_node_that_joins_is_left(sick: LogDirectory) -> None:
    before, old = contents(sick.path), read_identity(sick.path)
    assert old is not None
    done = set_aside(sick.path)
    assert done.quarantine is not None
    assert done.quarantine.name.startswith("data.quarantine-")
    assert contents(done.quarantine) == before
    assert {path.name for path in done.quarantine.iterdir()} == PARTS
    new = start(sick.path).identity
    assert not new.is_admitted
    assert (new.node, new.replaces) == ("n1", f"{old.node_id:016x}")
    assert new.join == "127.0.0.1:2,127.0.0.1:3"
    assert new.storage_id != old.storage_id


def test_the_newest_membership_is_asked_voters_first(sick: LogDirectory) -> None:
    # Noted while the node ran, before its log was damaged.
    directory = start(sick.path)
    own = directory.identity.node_id
    members = {7: ("n7", "h:7", "learner"), own: ("n1", "h:1", "voter"), 8: ("n8", "h:8", "voter")}
    directory.note_configuration(9, members)
    directory.close()
    assert set_aside(sick.path).join == "h:8,h:7"


def test_the_operator_may_name_other_peers(sick: LogDirectory) -> None:
    assert set_aside(sick.path, via=["h:9"]).join == "h:9"


def test_where_a_directory_cannot_be_renamed_the_content_goes_inside(
    sick: LogDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(sick.path)
    (sick.path / "lost+found").mkdir()
    mounted = os.path.ismount
    monkeypatch.setattr(os.path, "ismount", lambda path: path == sick.path or mounted(path))
    done = set_aside(sick.path)
    assert done.quarantine is not None
    assert done.quarantine.parent == sick.path
    assert contents(done.quarantine) == before
    left = {path.name for path in sick.path.iterdir()}
    assert left == {"LOCK", "identity", "lost+found", done.quarantine.name}
    assert not start(sick.path).identity.is_admitted


def test_the_ballast_stays_and_a_second_replacement_has_a_place_of_its_own(
    sick: LogDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sick.path / "ballast").write_bytes(b"0")
    first = set_aside(sick.path).quarantine
    assert (sick.path / "ballast").exists()
    directory = start(sick.path)
    directory.admit(5, CLUSTER, CLUSTER)
    directory.close()
    (sick.path / "state-a").write_bytes(b"damaged")
    monkeypatch.setattr(module.time, "strftime", lambda *_: "99991231T235959Z")
    again = set_aside(sick.path)
    assert again.quarantine != first


@pytest.mark.parametrize("role", [None, "learner", "voter"])
def test_a_learner_that_fails_before_it_took_a_place_leaves_that_place_to_the_next(
    sick: LogDirectory, monkeypatch: pytest.MonkeyPatch, role: str | None
) -> None:
    first = set_aside(sick.path)
    directory = start(sick.path)
    directory.admit(5, CLUSTER, CLUSTER)
    if role is not None:
        others = {8: ("n8", "h:8", "voter")}
        directory.note_configuration(9, {5: ("n1", "h:1", role), **others})
    directory.close()
    (sick.path / "state-a").write_bytes(b"damaged")
    monkeypatch.setattr(module.time, "strftime", lambda *_: "99991231T235959Z")
    again = set_aside(sick.path)
    if role == "voter":
        assert (again.replaces, again.unfinished) == ("0000000000000005", "")
    else:
        assert (again.replaces, again.unfinished) == (first.replaces, "0000000000000005")
        assert "kvnode member remove 0000000000000005" in "\n".join(again.explain())


# --- damaged identity -----------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_with_a_damaged_identity_the_operator_says_who_it_was(
    sick: LogDirectory, damage: bytes | None
) -> None:
    identity = sick.path / "identity"
    if damage is None:
        identity.unlink()
    else:
        identity.write_bytes(damage)
    before = contents(sick.path)
    for told in ([], ["--node", "n1"], ["--via", "h:1"]):
        result = replace("--data", str(sick.path), *told)
        assert result.exit_code == 64
        assert "--node and peers that it can ask with --via" in result.stderr
        assert contents(sick.path) == before
    result = replace("--data", str(sick.path), "--node", "n1", "--via", "h:1, h:2")
    assert result.exit_code == 0
    new = start(sick.path).identity
    assert (new.node, new.replaces, new.join) == ("n1", "n1", "h:1,h:2")


# --- refusals -------------------------------------------------------------------------------------


def refused(path: Path, code: int, sentence: str, *arguments: str) -> None:
    """The command leaves with this code and one line, and has changed nothing."""
    before = sorted(str(one) for one in path.parent.rglob("*") if one.name != "LOCK")
    held = contents(path.parent)
    result = replace("--data", str(path), *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert contents(path.parent) == held
    assert sorted(str(one) for one in path.parent.rglob("*") if one.name != "LOCK") == before


def test_a_healthy_log_is_replaced_only_by_force(tmp_path: Path) -> None:
    log = LogDirectory(tmp_path / "data", THREE)
    refused(log.path, 1, "is clean: the node can start as it is")
    log.tear()
    refused(log.path, 1, "is repairable: the node can start as it is")
    assert replace("--data", str(log.path), "--force").exit_code == 0
    assert not start(log.path).identity.is_admitted


def test_a_log_that_lost_its_end_heals_by_itself(tmp_path: Path) -> None:
    log = LogDirectory(tmp_path / "data", THREE)
    log.remember()
    log.tear()
    refused(log.path, 1, "is repairable: the node can start as it is")


def test_a_log_that_needs_a_snapshot_which_is_gone_is_sick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogDirectory(tmp_path / "data", THREE)
    missing = property(lambda _found: 5)
    monkeypatch.setattr("kvnode.wal_tools.examine.Examination.missing_snapshot", missing)
    assert set_aside(log.path).quarantine is not None


def test_a_node_that_runs_is_left_alone(sick: LogDirectory) -> None:
    directory = start(sick.path)
    refused(sick.path, 75, f"is in use by process {os.getpid()}")
    directory.close()


def test_a_single_node_has_nobody_to_get_its_data_from(tmp_path: Path) -> None:
    log = make_sick(tmp_path / "data", ALONE)
    refused(log.path, 1, "belongs to a single node", "--force", "--via", "h:1")


@pytest.mark.parametrize("made", [None, "file", "empty", "photos"])
def test_what_is_no_data_directory_is_left_alone(tmp_path: Path, made: str | None) -> None:
    path = tmp_path / "data"
    if made == "file":
        path.write_bytes(b"x")
    elif made is not None:
        path.mkdir()
    if made == "photos":
        (path / "holiday.jpg").write_bytes(b"x")
    refused(path, 64, "is no d")
    assert not (path / "LOCK").exists()


def test_another_nodes_name_is_a_slip(sick: LogDirectory) -> None:
    refused(sick.path, 64, "belongs to node 'n1', not to 'n2'", "--node", "n2")


def test_a_log_on_a_disk_of_its_own_is_not_half_moved(
    sick: LogDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "wal")
    refused(sick.path, 1, "is a mount point and cannot be moved")
    for segment in (sick.path / "wal").iterdir():
        segment.rename(sick.path.parent / segment.name)
    assert replace("--data", str(sick.path), "--force").exit_code == 0
    assert not start(sick.path).identity.is_admitted


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["n1"], ["n1", "n2", "n3"], ["n1", "n2", "--via", "h:1"], ["n1", "n2", "--force"]),
        *(["n1", "--data", "x"], ["--data", "x", "--via", "h"], ["--data", "x", "--node", "a b"]),
    ],
)
def test_wrong_usage_is_exit_64(arguments: list[str]) -> None:
    assert replace(*arguments).exit_code == 64


# --- interruptions --------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [False, True])
def test_an_interruption_at_any_step_is_finished_by_running_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    step = 0
    if inside:
        monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "data")
    while True:
        step += 1
        path = tmp_path / str(step) / "data"
        path.parent.mkdir()
        log = make_sick(path)
        before, old = contents(path), read_identity(path)
        assert old is not None
        if not crash_at(step, lambda: set_aside(log.path)):  # noqa: B023
            break
        nobody_starts_as_the_old_member_without_its_log(path, old.node_id)
        done = set_aside(path)
        new = read_identity(path)
        assert new is not None
        assert (new.node_id, new.replaces) == (0, f"{old.node_id:016x}")
        kept = {}
        for place in module._quarantines(path):
            kept |= contents(place)
        assert done.is_resumed or done.quarantine is not None
        assert "identity" in kept
        for name in ("exits", "identity", "identity.new"):  # a start in between changes these
            kept.pop(name, None)
            before.pop(name, None)
        assert kept == before
        start(path).close()
    assert step > 15, "few steps were tried"


def nobody_starts_as_the_old_member_without_its_log(path: Path, old: int) -> None:
    """After a crash the directory is whole, or refuses to start, or joins with no log at all."""
    known = read_identity(path)
    assert known is not None
    if not known.is_admitted and has_log(path):
        with pytest.raises(LogCorrupt, match="kvnode member replace --data"):
            start(path)
        return
    directory = start(path)
    identity = directory.identity
    directory.close()
    (path / "exits").unlink()
    if identity.is_admitted:
        assert identity.node_id == old
        assert all((path / part).exists() for part in ("wal", "state-a", "state-b", "snap"))
    else:
        assert not any((path / part).exists() for part in ("wal", "state-a", "state-b", "snap"))


def test_a_disk_that_fails_in_between_says_so_and_it_can_be_run_again(
    sick: LogDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def fail(source: Path, target: Path) -> None:
        if Path(source).name == "state-b":
            raise OSError(5, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(DiskFailed, match="run this again"):
            set_aside(sick.path)
    done = set_aside(sick.path)
    assert done.is_resumed
    assert done.quarantine is not None
    assert (done.quarantine / "wal").exists()


def test_what_is_done_already_is_only_told(sick: LogDirectory) -> None:
    first = set_aside(sick.path)
    before = contents(sick.path)
    result = replace("--data", str(sick.path), "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["resumed"], told["quarantine"]) == (True, None)
    assert (told["node"], told["replaces"]) == ("n1", first.replaces)
    assert told["join"] == ["127.0.0.1:2", "127.0.0.1:3"]
    assert contents(sick.path) == before


def test_a_place_that_cannot_be_made_is_a_refusal(
    sick: LogDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(OperationRefused, match="Read-only file system"):
        set_aside(sick.path)
