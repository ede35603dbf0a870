"""The data directory: one owner, one identity, peers by their directories, and a journal."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kvnode import directory as module
from kvnode import identity_file, limits
from kvnode.directory import DataDirectory, PeerIdentityMismatch
from kvnode.errors import (
    ConfigurationError,
    DiskFailed,
    DiskFull,
    ExitCode,
    LogCorrupt,
    ResourceBusy,
)
from kvnode.exits import Exit, decode_exits
from kvnode.identity import node_id

MEMBERS = {"n1": "127.0.0.1:1", "n2": "127.0.0.1:2"}
PEER = 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


def opened(
    path: Path, node: str = "n1", cluster_id: str | None = "demo", at: float = 1.0
) -> DataDirectory:
    return DataDirectory.open(
        path, node=node, cluster_id=cluster_id, members=MEMBERS, clock=lambda: at
    )


def restarted(directory: DataDirectory) -> DataDirectory:
    directory.close()
    return opened(directory.path)


# --- owner --------------------------------------------------------------------------------------


def test_the_directory_is_for_its_owner_only(path: Path) -> None:
    with_files = opened(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for name in ("LOCK", "identity", "exits"):
        assert stat.S_IMODE((path / name).stat().st_mode) == 0o600
    with_files.close()


def test_a_second_process_is_refused_and_told_who_holds_the_directory(path: Path) -> None:
    directory = opened(path)
    with pytest.raises(ResourceBusy, match=f"in use by process {os.getpid()}") as caught:
        opened(path)
    assert caught.value.exit_code == ExitCode.BUSY_RESOURCE
    assert restarted(directory).identity.incarnation == 2, "the refused one did not count"


def test_the_lock_ends_with_the_process_that_held_it(path: Path) -> None:
    program = (
        "import os, sys, pathlib; from kvnode.directory import DataDirectory\n"
        "DataDirectory.open(pathlib.Path(sys.argv[1]), node='n1', cluster_id='demo', members={})\n"
        "os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -9
    survivor = opened(path)
    assert survivor.last_exit is not None
    assert survivor.last_exit.code == "killed"


def test_a_failed_open_gives_the_lock_back(path: Path) -> None:
    opened(path).close()
    with pytest.raises(ConfigurationError):
        opened(path, node="n2")
    opened(path).close()


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EIO, DiskFailed),
        (errno.EROFS, DiskFailed),
        (errno.EACCES, ConfigurationError),
    ],
)
def test_errors_of_the_disk_say_what_the_operator_must_do(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.os, "fsync", fail)
    with pytest.raises(error, match=os.strerror(number)):
        opened(path)


def test_a_file_in_place_of_the_directory_is_a_wrong_configuration(path: Path) -> None:
    path.write_text("")
    with pytest.raises(ConfigurationError, match="File exists"):
        opened(path)


# --- identity -----------------------------------------------------------------------------------


def test_identity_survives_and_each_start_is_counted(path: Path) -> None:
    directory = opened(path)
    first = directory.identity
    assert first.node_id == node_id("demo", "n1")
    assert (first.incarnation, first.members, first.peers) == (1, MEMBERS, {})
    second = restarted(directory).identity
    assert second.incarnation == 2
    assert second.storage_id == first.storage_id


def test_a_start_is_counted_on_disk_before_the_node_runs(path: Path) -> None:
    opened(path)
    content = (path / "identity").read_bytes()
    assert module.decode_identity(content, path).incarnation == 1


def test_two_directories_never_share_a_storage_id(tmp_path: Path) -> None:
    ids = {opened(tmp_path / str(i)).identity.storage_id for i in range(3)}
    assert len(ids) == 3


def test_a_single_node_draws_its_cluster_id_once(path: Path) -> None:
    directory = opened(path, cluster_id=None)
    drawn = directory.identity.cluster_id
    assert len(drawn) == 16
    directory.close()
    assert opened(path, cluster_id=None).identity.cluster_id == drawn


def test_another_node_or_cluster_is_refused_with_both_values(path: Path) -> None:
    opened(path).close()
    with pytest.raises(ConfigurationError, match="belongs to node 'n1', not to 'n2'"):
        opened(path, node="n2")
    with pytest.raises(ConfigurationError, match="belongs to cluster 'demo', not to 'other'"):
        opened(path, cluster_id="other")


def test_a_damaged_identity_stops_the_node_whatever_byte_is_hit(path: Path) -> None:
    opened(path).close()
    content = (path / "identity").read_bytes().rstrip()
    for at in range(len(content)):
        damaged = content[:at] + bytes([content[at] ^ 0x01]) + content[at + 1 :]
        with pytest.raises(LogCorrupt) as caught:
            module.decode_identity(damaged, path)
        assert caught.value.exit_code == ExitCode.CORRUPT


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"{}", b"[]", b"null", b"\xff", b"[" * 100_000]
)
def test_an_identity_that_is_none_is_corrupt(path: Path, content: bytes) -> None:
    opened(path).close()
    (path / "identity").write_bytes(content)
    with pytest.raises(LogCorrupt, match="nothing was changed"):
        opened(path)
    assert (path / "identity").read_bytes() == content


def test_an_identity_of_a_newer_format_is_not_guessed_at(path: Path) -> None:
    opened(path).close()
    document = json.loads((path / "identity").read_bytes())
    del document["sha256"]
    document["format"] = 3
    document["sha256"] = identity_file._checksum(document)
    (path / "identity").write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match="has format 3; this kvnode knows 2"):
        opened(path)


@pytest.mark.parametrize("remains", ["state-a", "state-b", "wal/0-1.wal"])
def test_a_log_without_an_identity_is_not_taken_over(path: Path, remains: str) -> None:
    (path / remains).parent.mkdir(parents=True)
    (path / remains).write_bytes(b"x")
    with pytest.raises(LogCorrupt, match="no identity file"):
        opened(path)
    assert not (path / "identity").exists()


@pytest.mark.parametrize("made_by_mkfs", [(), ("lost+found",)])
def test_an_empty_log_directory_is_as_good_as_none(path: Path, made_by_mkfs: tuple[str]) -> None:
    for name in ("", *made_by_mkfs):
        (path / "wal" / name).mkdir(parents=True)
    assert opened(path).identity.incarnation == 1


@pytest.mark.parametrize("function", ["write", "fsync", "rename"])
def test_a_crash_while_replacing_the_identity_leaves_the_old_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    opened(path).close()

    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.os, function, crash)
        # The lock's own pid is written by pwrite, so the first of these belongs to identity.
        with pytest.raises(KeyboardInterrupt):
            opened(path)
    assert opened(path).identity.incarnation == 2


def test_a_file_is_synced_before_its_name_and_the_directory_after(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = opened(path)
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        calls.append("sync directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        fsync(fd)

    def noted_rename(source: Path, target: Path) -> None:
        calls.append("rename")
        rename(source, target)

    monkeypatch.setattr(module.os, "fsync", noted_fsync)
    monkeypatch.setattr(module.os, "rename", noted_rename)
    directory.bind_peer(PEER, storage_id=7, incarnation=1)
    assert calls == ["sync file", "rename", "sync directory"]


# --- peers --------------------------------------------------------------------------------------


def test_a_peer_is_bound_to_its_directory(path: Path) -> None:
    directory = opened(path)
    directory.bind_peer(PEER, storage_id=7, incarnation=1)
    directory = restarted(directory)
    directory.bind_peer(PEER, storage_id=7, incarnation=1)
    with pytest.raises(PeerIdentityMismatch, match="another data directory"):
        directory.bind_peer(PEER, storage_id=8, incarnation=2)


def test_an_old_copy_of_a_peers_directory_is_noticed(path: Path) -> None:
    directory = opened(path)
    directory.bind_peer(PEER, storage_id=7, incarnation=5)
    directory.bind_peer(PEER, storage_id=7, incarnation=6)
    with pytest.raises(PeerIdentityMismatch, match="an old directory was put back"):
        restarted(directory).bind_peer(PEER, storage_id=7, incarnation=5)


def test_nobody_else_has_our_id(path: Path) -> None:
    directory = opened(path)
    with pytest.raises(PeerIdentityMismatch, match="claims the id of this node"):
        directory.bind_peer(directory.identity.node_id, storage_id=7, incarnation=1)


def test_a_known_fact_costs_no_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = opened(path)
    directory.bind_peer(PEER, storage_id=7, incarnation=1)
    monkeypatch.setattr(module, "_replace_file", None)
    directory.bind_peer(PEER, storage_id=7, incarnation=1)


def test_peers_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEERS_BOUND_MAX", 2)
    directory = opened(path)
    directory.bind_peer(1, storage_id=7, incarnation=1)
    directory.bind_peer(2, storage_id=7, incarnation=1)
    with pytest.raises(PeerIdentityMismatch, match="too many peers"):
        directory.bind_peer(3, storage_id=7, incarnation=1)
    directory.bind_peer(2, storage_id=7, incarnation=2)


def test_a_full_disk_delays_the_note_of_a_peer_but_forgets_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    directory = opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_replace_file", full)
        directory.bind_peer(PEER, storage_id=7, incarnation=1)
        with pytest.raises(PeerIdentityMismatch):
            directory.bind_peer(PEER, storage_id=8, incarnation=1)
    directory.bind_peer(PEER, storage_id=7, incarnation=1)
    assert PEER in restarted(directory).identity.peers


def test_a_failing_disk_is_not_overlooked_when_a_peer_is_noted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    directory = opened(path)
    monkeypatch.setattr(module, "_replace_file", fail)
    with pytest.raises(DiskFailed):
        directory.bind_peer(PEER, storage_id=7, incarnation=1)


# --- exits --------------------------------------------------------------------------------------


def test_the_first_start_has_no_past(path: Path) -> None:
    directory = opened(path)
    assert (directory.last_exit, directory.exit_counts) == (None, {})


def test_an_exit_is_remembered_with_its_reason(path: Path) -> None:
    directory = opened(path, at=12.5)
    directory.record_exit(ExitCode.MEMORY, "memory has reached 9 bytes")
    past = restarted(directory)
    assert past.last_exit == Exit("2", "memory has reached 9 bytes", 12_500)
    assert past.exit_counts == {"2": 1}


def test_a_start_without_an_exit_was_killed(path: Path) -> None:
    past = restarted(restarted(opened(path)))
    assert past.last_exit is not None
    assert past.last_exit.code == "killed"
    assert past.exit_counts == {"killed": 2}


def test_only_the_first_reason_of_a_process_counts(path: Path) -> None:
    directory = opened(path)
    threads = [
        threading.Thread(target=directory.record_exit, args=(code, "r")) for code in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(restarted(directory).exit_counts.values()) == 1


def test_the_journal_keeps_the_newest_exits_and_counts_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EXITS_KEPT_MAX", 3)
    directory = opened(path)
    for code in range(8):
        directory.record_exit(code % 2, f"exit {code}")
        directory = restarted(directory)
    assert directory.exit_counts == {"0": 4, "1": 4}
    _, kept = decode_exits((path / "exits").read_bytes())
    assert [past.reason for past in kept[:3]] == ["exit 5", "exit 6", "exit 7"]


def test_damaged_lines_of_the_journal_are_skipped(path: Path) -> None:
    directory = opened(path)
    directory.record_exit(0, "asked to stop")
    directory.close()
    with (path / "exits").open("ab") as journal:
        journal.write(b'\xff\n[1]\n{"exit": 1}\n"x"\n{"earlier": 3}\n{"exit": "1", "rea')
    assert opened(path).exit_counts == {"0": 1}


def test_a_long_reason_is_cut(path: Path) -> None:
    directory = opened(path)
    directory.record_exit(1, "x" * 10**6)
    last = restarted(directory).last_exit
    assert last is not None
    assert len(last.reason) == limits.EXIT_REASON_CHARACTERS_MAX


def test_leaving_does_not_fail_because_its_note_cannot_be_written(path: Path) -> None:
    directory = opened(path)
    (path / "exits").unlink()
    directory.record_exit(0, "asked to stop")


def test_a_ballast_occupies_real_room_and_comes_back_only_at_a_later_start(path: Path) -> None:
    directory = opened(path)
    assert directory.keep_ballast(size=1 << 20, room_min=0)
    ballast = path / "ballast"
    assert ballast.stat().st_blocks * 512 >= 1 << 20
    ballast.unlink()
    assert directory.keep_ballast(size=1 << 20, room_min=0)
    directory.close()


def test_there_is_no_ballast_where_room_is_scarce(path: Path) -> None:
    directory = opened(path)
    assert not directory.keep_ballast(size=1 << 20, room_min=1 << 62)
    assert not (path / "ballast").exists()
    directory.close()
