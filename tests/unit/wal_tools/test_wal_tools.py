"""`kvnode wal verify | inspect | repair`: verdicts and exit codes, and who may write."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvnode import cli
from kvnode.commands import reading
from kvnode.snapshot.catalog import file_name
from kvnode.wal_tools.contents import Filter, records
from kvnode.wal_tools.examine import ATTEMPTS, examine
from kvnode.wal_tools.target import open_target
from tests.unit.wal_tools.log_directory import SMALL, THREE, LogDirectory, record
from wal import Identity, Options, PosixFileSystem, ReadOnlyFileSystem, Wal, WalError
from wal.format import Kind, frame


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.program, ["wal", *map(str, arguments)], prog_name="kvnode")


def document(*arguments: object) -> dict[str, object]:
    result = run(*arguments, "--json")
    found: dict[str, object] = json.loads(result.stdout)
    return found


@pytest.fixture
def log(tmp_path: Path) -> LogDirectory:
    return LogDirectory(tmp_path / "data")


@pytest.fixture
def member(tmp_path: Path) -> LogDirectory:
    return LogDirectory(tmp_path / "data", THREE)


@contextlib.contextmanager
def running(log: LogDirectory) -> Iterator[None]:
    """Hold the lock as a node does that runs."""
    fd = os.open(log.path / "LOCK", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


# --- ways to damage a log -------------------------------------------------------------------------


def nothing(log: LogDirectory) -> None:
    pass


def tear(log: LogDirectory) -> None:
    log.tear()


def shorten(log: LogDirectory) -> None:
    os.truncate(log.segment, log.end - 300)


def plant_stale_record(log: LogDirectory) -> None:
    at = log.end + 511 & -512
    stale = frame(Kind.ENTRY, [record(11, 2, 50)], at, at, 0, 2**63 + 7, 11)
    log.overwrite(at, stale.data)


def spoil_state_file(log: LogDirectory) -> None:
    log.flip(41, log.path / "state-b")


def lose_the_end(log: LogDirectory) -> None:
    log.remember()
    log.tear()


def lose_the_newest_segment(log: LogDirectory) -> None:
    log.segment.unlink()


def spoil_last_record(log: LogDirectory) -> None:
    log.flip(log.end - 500)


def spoil_witnessed_record(log: LogDirectory) -> None:
    log.flip(700)


def spoil_sealed_segment(log: LogDirectory) -> None:
    log.flip(700, min((log.path / "wal").glob("*.wal")))


def lose_both_state_files(log: LogDirectory) -> None:
    for name in ("state-a", "state-b"):
        (log.path / name).unlink()


Damage = Callable[[LogDirectory], None]
REPAIRABLE: list[Damage] = [tear, shorten, plant_stale_record, spoil_state_file]
LOST: list[Damage] = [lose_the_end, lose_the_newest_segment]
CORRUPT: list[Damage] = [
    spoil_last_record,
    spoil_witnessed_record,
    spoil_sealed_segment,
    lose_both_state_files,
]


# --- verify ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "code", "kind", "sentences"),
    [
        (
            nothing,
            0,
            "clean",
            ["10 records in 10 groups, entries 1 to 10", "open the log as it is"],
        ),
        (tear, 3, "torn", ["never written", "never synced", "index 10", "kvnode wal repair"]),
        (shorten, 3, "short file", ["unexpected end of file", "cut short later"]),
        (plant_stale_record, 3, "stale", ["another segment or place", "old bytes"]),
        (spoil_state_file, 3, "state file", ["state-b is damaged", "write it again"]),
        (lose_the_end, 65, "below floor", ["(10 to 10 at least)", "--accept-loss"]),
        (lose_the_newest_segment, 65, "below floor", ["from index", "refuse with exit code 65"]),
        (spoil_last_record, 65, "corrupt", ["payload CRC", "nothing on this disk can tell"]),
        (spoil_witnessed_record, 65, "corrupt", ["Records say", "was durable"]),
        (spoil_sealed_segment, 65, "corrupt", ["offset", "refuse with exit code 65"]),
        (lose_both_state_files, 65, "corrupt", ["term and vote are lost", "evidence"]),
    ],
)
def test_verify_tells_the_verdict_in_its_exit_code_and_explains_it(
    log: LogDirectory, damage: Damage, code: int, kind: str, sentences: list[str]
) -> None:
    damage(log)
    result = run("verify", log.path)
    assert result.exit_code == code, result.output
    for sentence in [f"({kind})" if code else "clean", *sentences]:
        assert sentence in result.stdout
    found = document("verify", log.path)
    assert (found["exit_code"], found["kind"]) == (code, kind)
    assert found["verdict"] == {0: "clean", 3: "repairable", 65: "corrupt"}[code]


@pytest.mark.parametrize("damage", LOST)
def test_a_loss_that_other_nodes_can_heal_is_repairable(
    member: LogDirectory, damage: Damage
) -> None:
    damage(member)
    result = run("verify", member.path)
    assert result.exit_code == 3
    assert "note in the state files that the node is recovering" in result.stdout


def lose_the_marker_of_a_cut_log(log: LogDirectory) -> None:
    log.mark_snapshot()
    wal = log.open()
    assert wal.release(wal.last_index) > 0
    wal.close()
    os.truncate(log.segment, 512 + 1024)


def test_a_lost_snapshot_marker_is_healed_by_others_and_by_nobody_else(
    member: LogDirectory, tmp_path: Path
) -> None:
    alone = LogDirectory(tmp_path / "alone")
    for log, code in ((member, 3), (alone, 65)):
        lose_the_marker_of_a_cut_log(log)
        result = run("verify", log.path)
        assert result.exit_code == code, result.stdout
    assert "acknowledged entries are gone" in run("verify", member.path).stdout.lower()
    assert "no snapshot covers" in run("verify", alone.path).stdout
    assert run("repair", alone.path, "--accept-loss").exit_code == 65
    assert run("repair", member.path, "--accept-loss").exit_code == 0
    assert run("verify", member.path).exit_code == 0


@pytest.mark.parametrize("damage", [nothing, *REPAIRABLE, *LOST, *CORRUPT])
def test_verdict_and_start_agree(log: LogDirectory, damage: Damage) -> None:
    damage(log)
    code = run("verify", log.path).exit_code
    reopened: WalError | None = None
    try:
        log.open().close()
    except WalError as error:
        reopened = error
    assert (code == 65) is (reopened is not None), reopened


def test_a_directory_that_never_had_a_log_is_clean(log: LogDirectory) -> None:
    lose_both_state_files(log)
    for path in (log.path / "wal").iterdir():
        path.unlink()
    assert run("verify", log.path).exit_code == 0
    assert run("repair", log.path).exit_code == 0
    assert not (log.path / "state-a").exists()


def test_what_was_read_of_a_corrupt_log_is_told_as_far_as_it_is_good(log: LogDirectory) -> None:
    log.mark_snapshot()
    wal = log.open()
    wal.release(wal.last_index)
    wal.close()
    spoil_last_record(log)
    found = document("verify", log.path)
    assert (found["first_index"], found["last_index"], found["records"]) == (9, 9, 1)


def test_a_snapshot_that_is_missing_behind_the_log_is_told(log: LogDirectory) -> None:
    log.mark_snapshot()
    wal = log.open()
    assert wal.release(wal.last_index) > 0
    wal.close()
    assert document("verify", log.path)["missing_snapshot"] == 8
    assert "no snapshot file reaches as far" in run("verify", log.path).stdout
    (log.path / "snap").mkdir()
    (log.path / "snap" / file_name(99, 2)).touch()  # received, and not installed
    assert document("verify", log.path)["missing_snapshot"] == 8
    (log.path / "snap" / file_name(8, 2)).touch()
    assert document("verify", log.path)["missing_snapshot"] is None


@pytest.mark.parametrize("command", ["verify", "inspect", "repair"])
def test_what_is_no_data_directory_is_wrong_usage(
    log: LogDirectory, tmp_path: Path, command: str
) -> None:
    for path, sentence in (
        (tmp_path / "none", "No such file"),
        (log.segment, "Not a directory"),
        (tmp_path, "no identity file"),
        (log.path / "wal", "give the data directory"),
    ):
        result = run(command, path)
        assert result.exit_code == 64
        assert sentence in result.stderr


@pytest.mark.parametrize("command", ["verify", "inspect", "repair"])
def test_a_lost_identity_is_corruption(log: LogDirectory, command: str) -> None:
    (log.path / "identity").unlink()
    assert run(command, log.path).exit_code == 65


@pytest.mark.parametrize("command", ["verify", "inspect", "repair"])
def test_what_cannot_be_read_is_an_io_error(log: LogDirectory, command: str) -> None:
    path = log.segment
    path.unlink()
    path.mkdir()
    result = run(command, log.path)
    assert result.exit_code == 74
    assert path.name in result.stderr


@pytest.mark.parametrize("command", ["verify", "inspect", "repair"])
def test_the_log_of_another_node_is_refused(log: LogDirectory, command: str) -> None:
    lose_both_state_files(log)
    for path in (log.path / "wal").iterdir():
        path.unlink()
    log.identity = Identity(1, 1)
    log.open().close()
    assert run(command, log.path).exit_code == 78


# --- reading only ---------------------------------------------------------------------------------


READING = (["verify"], ["inspect"], ["inspect", "--records"], ["repair", "--dry-run"])


@pytest.mark.parametrize("damage", [nothing, *REPAIRABLE, *LOST, *CORRUPT])
def test_tools_that_read_change_nothing(log: LogDirectory, damage: Damage) -> None:
    damage(log)
    (log.path / "wal" / "left.tmp").touch()
    before = log.fingerprint()
    for command, *more in READING:
        run(command, log.path, *more)
        assert log.fingerprint() == before, command


def test_tools_that_read_have_no_means_to_write(
    log: LogDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.tear()

    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a write")

    names = ("pwrite", "fdatasync", "truncate", "rename", "unlink", "make_directory")
    for name in (*names, "sync_directory"):
        monkeypatch.setattr(PosixFileSystem, name, refuse)
    for name in ("open", "write", "pwrite", "rename", "unlink", "ftruncate", "mkdir"):
        monkeypatch.setattr(os, name, refuse if name != "open" else read_only_open(os.open))
    for command, *more in READING:
        result = run(command, log.path, *more)
        assert result.exit_code in (0, 3), result.output


def read_only_open(real: Callable[..., int]) -> Callable[..., int]:
    def opened(path: object, flags: int, *more: object, **named: object) -> int:
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC), path
        return real(path, flags, *more, **named)

    return opened


def test_the_reading_file_system_refuses_to_write(tmp_path: Path) -> None:
    fs = ReadOnlyFileSystem()
    path = tmp_path / "file"
    path.write_bytes(b"content")
    fd = fs.open(path)
    assert fs.pread(fd, 100, 0) == b"content"
    for attempt in (
        lambda: fs.open(tmp_path / "new", create=True),
        lambda: fs.pwrite(fd, b"x", 0),
        lambda: fs.truncate(fd, 0),
        lambda: fs.fdatasync(fd),
        lambda: fs.rename(path, tmp_path / "other"),
        lambda: fs.unlink(path),
        lambda: fs.make_directory(tmp_path / "directory"),
        lambda: fs.sync_directory(tmp_path),
    ):
        with pytest.raises(AssertionError, match="only reads"):
            attempt()
    fs.close(fd)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# --- a node that runs -----------------------------------------------------------------------------


def test_a_group_in_flight_is_read_again_and_not_called_torn(log: LogDirectory) -> None:
    whole = log.tear()
    pauses = []

    def finish(seconds: float) -> None:
        pauses.append(seconds)
        log.overwrite(0, whole)

    with running(log):
        found = examine(open_target(log.path), pause=finish)
    assert (found.kind, found.exit_code) == ("clean", 0)
    assert found.log.last_index == 10
    assert len(pauses) == 1


def test_a_segment_that_is_released_under_the_readers_eyes_is_no_corruption(
    log: LogDirectory,
) -> None:
    # As if the segment had gone after the names were read: here it is the state files that lag.
    oldest = min((log.path / "wal").glob("*.wal"))
    content = oldest.read_bytes()
    oldest.unlink()
    with running(log):
        found = examine(open_target(log.path), pause=lambda seconds: put_back(oldest, content))
    assert found.kind == "clean"


def put_back(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def test_damage_that_stays_is_believed_of_a_running_node_too(log: LogDirectory) -> None:
    spoil_witnessed_record(log)
    pauses: list[float] = []
    with running(log):
        found = examine(open_target(log.path), pause=pauses.append)
        result = run("verify", log.path)
    assert found.kind == "corrupt"
    assert len(pauses) >= ATTEMPTS - 1
    assert result.exit_code == 65
    assert f"A node runs here (process {os.getpid()})" in result.stdout or "runs here" in (
        result.stdout
    )


def test_a_directory_in_use_is_verified_and_inspected_but_not_repaired(log: LogDirectory) -> None:
    with running(log):
        before = log.fingerprint()
        assert run("verify", log.path).exit_code == 0
        assert run("inspect", log.path).exit_code == 0
        for more in ([], ["--dry-run"], ["--accept-loss"]):
            result = run("repair", log.path, *more)
            assert result.exit_code == 75
            assert "is in use by process" in result.stderr
        assert log.fingerprint() == before
    assert document("verify", log.path)["running"] is None


# --- inspect --------------------------------------------------------------------------------------


def lines(*arguments: object) -> list[dict[str, object]]:
    result = run("inspect", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_inspect_shows_segments_state_files_and_evidence(log: LogDirectory) -> None:
    log.tear()
    assert run("repair", log.path).exit_code == 0
    log.mark_snapshot()
    found = document("inspect", log.path)
    segments = found["segments"]
    assert isinstance(segments, list)
    assert [segment["sequence"] for segment in segments] == [1, 2]
    assert sum(segment["records"] for segment in segments) == 10  # nine entries and a marker
    assert sum(segment["groups"] for segment in segments) == 10
    assert (segments[0]["indexes"][0], segments[-1]["indexes"][1]) == (1, 9)
    assert (segments[0]["terms"], segments[1]["terms"]) == ([1, 2], [2, 2])
    assert segments[0]["file_bytes"] == SMALL.segment_bytes >= segments[0]["used_bytes"]
    assert found["state_files"] == {"state-a": "good", "state-b": "good"}
    assert found["snapshot_index"] == 9
    (copy,) = found["evidence"]  # type: ignore[misc]
    assert copy["segment"] == 2
    text = run("inspect", log.path).stdout
    for part in ("SEQUENCE", "1-2", "evidence: ", "vote -", "entries 1 to 9", "snapshot 9"):
        assert part in text


@pytest.mark.parametrize(
    ("arguments", "indexes"),
    [
        (["--records"], [*range(1, 11), 10]),
        (["--from", 9], [9, 10, 10]),
        (["--to", 2], [1, 2]),
        (["--from", 4, "--to", 5], [4, 5]),
        (["--term", 2], [*range(6, 11), 10]),
        (["--term", 1, "--from", 3], [3, 4, 5]),
        (["--kind", "snapshot"], [10]),
        (["--kind", "entry", "--from", 10], [10]),
        (["--kind", "install"], []),
        (["--segment", 7], []),
    ],
)
def test_inspect_filters_records(
    log: LogDirectory, arguments: list[object], indexes: list[int]
) -> None:
    log.mark_snapshot()
    assert [line["index"] for line in lines(log.path, *arguments)] == indexes
    text = run("inspect", log.path, *arguments).stdout.splitlines()
    assert len(text) == 1 + len(indexes)


def test_inspect_tells_what_is_in_a_record(log: LogDirectory) -> None:
    log.mark_snapshot()
    first, second, *_, last = lines(log.path, "--records")
    assert (first["kind"], first["term"], first["entry"], first["offset"]) == (
        "entry",
        1,
        "noop",
        512,
    )
    assert (second["entry"], second["bytes"], second["segment"]) == ("normal", 809, 1)
    assert (last["kind"], last["term"], last["entry"]) == ("snapshot", 2, None)


def test_inspect_shows_what_is_good_of_a_corrupt_log_and_says_so(log: LogDirectory) -> None:
    spoil_last_record(log)
    result = run("inspect", log.path)
    assert result.exit_code == 65
    assert "SEQUENCE" in result.stdout
    assert "payload CRC" in result.stderr
    result = run("inspect", log.path, "--from", 8)
    assert result.exit_code == 65
    assert [line.split()[3] for line in result.stdout.splitlines()[1:]] == ["8", "9"]
    assert "payload CRC" in result.stderr


def test_inspect_holds_few_segments_in_memory(tmp_path: Path) -> None:
    log = LogDirectory(tmp_path / "data", entries=500)
    target = open_target(log.path)
    assert target.size > 50 * SMALL.segment_bytes
    tracemalloc.start()
    try:
        assert sum(1 for _ in records(target, Filter())) == 500
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < target.size / 3


def test_progress_is_told_every_byte(log: LogDirectory) -> None:
    told: list[int] = []
    target = open_target(log.path)
    examine(target, told.append)
    assert sum(told) == target.size
    told.clear()
    assert len(list(records(target, Filter(), told.append))) == 10
    assert sum(told) == target.size


class Terminal(io.StringIO):
    """A stderr that claims to be one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("file", [Terminal, io.StringIO])
def test_a_bar_is_shown_on_a_terminal_only_and_for_long_logs_only(
    monkeypatch: pytest.MonkeyPatch, file: type[io.StringIO]
) -> None:
    for size, is_long in ((100, False), (reading.PROGRESS_BYTES_MIN, True)):
        stderr = file()
        monkeypatch.setattr("sys.stderr", stderr)
        with reading.progress_bar(size) as progress:
            for _ in range(10):
                progress(size // 10)
        assert bool(stderr.getvalue()) is (is_long and file is Terminal)


# --- repair ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", REPAIRABLE)
def test_repair_does_what_a_start_would_and_leaves_a_clean_log(
    log: LogDirectory, damage: Damage
) -> None:
    damage(log)
    assert run("repair", log.path, "--dry-run").exit_code == 3
    result = run("repair", log.path)
    assert result.exit_code == 0, result.output
    assert run("verify", log.path).exit_code == 0
    assert run("repair", log.path, "--dry-run").exit_code == 0
    assert "nothing was repaired" in run("repair", log.path).stdout


def test_repair_tells_what_it_cut(log: LogDirectory) -> None:
    log.tear()
    found = document("repair", log.path)
    cut = found["cut"]
    assert isinstance(cut, dict)
    assert (cut["indexes_dropped"], cut["kind"], cut["segment"]) == ([10, 10], "torn", 2)
    assert Path(cut["evidence"]).exists()
    assert found["repaired"]
    assert found["decision"] == "repair"


@pytest.mark.parametrize("damage", [tear, shorten, *LOST])
def test_repair_makes_a_recovering_node_of_a_member(member: LogDirectory, damage: Damage) -> None:
    damage(member)
    more = ["--accept-loss"] if damage in LOST else []
    found = document("repair", member.path, *more)
    assert found["decision"] == "recover"
    assert found["state"]["recovering"]  # type: ignore[index]
    assert member.open().state.recovering
    assert "counts in no quorum" in run("verify", member.path).stdout


@pytest.mark.parametrize("damage", LOST)
def test_repair_below_a_floor_needs_the_operators_word(log: LogDirectory, damage: Damage) -> None:
    wal = log.open()
    wal.save_state(term=9, vote=5, commit=0)
    wal.close()
    damage(log)
    before = log.fingerprint()
    for more in ([], ["--dry-run"]):
        result = run("repair", log.path, *more)
        assert result.exit_code == 65
        assert "acknowledged entries are gone" in result.stderr
        assert f"kvnode wal repair --accept-loss {log.path}" in result.stderr
    if damage is lose_the_end:
        assert "10 to 10 at least" in result.stderr
    assert {k: v[0] for k, v in log.fingerprint().items() if "LOCK" not in k} == {
        k: v[0] for k, v in before.items() if "LOCK" not in k
    }
    assert run("repair", log.path, "--dry-run", "--accept-loss").exit_code == 3
    result = run("repair", log.path, "--accept-loss")
    assert result.exit_code == 0
    assert "ACKNOWLEDGED ENTRIES ARE LOST HERE" in result.stdout
    assert run("verify", log.path).exit_code == 0
    wal = log.open()
    assert (wal.state.term, wal.state.vote, wal.state.recovering) == (9, 5, False)
    assert wal.state.synced <= wal.synced
    wal.close()


@pytest.mark.parametrize("damage", LOST)
def test_repair_of_a_member_below_a_floor_points_to_the_start(
    member: LogDirectory, damage: Damage
) -> None:
    damage(member)
    result = run("repair", member.path)
    assert result.exit_code == 65
    assert "recovers from its leader" in result.stderr


@pytest.mark.parametrize("damage", CORRUPT)
@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--accept-loss"]])
def test_repair_refuses_corruption_whatever_it_is_told(
    log: LogDirectory, damage: Damage, more: list[str]
) -> None:
    damage(log)
    before = {name: value[0] for name, value in log.fingerprint().items() if "LOCK" not in name}
    assert run("repair", log.path, *more).exit_code == 65
    after = {name: value[0] for name, value in log.fingerprint().items() if "LOCK" not in name}
    assert after == before


def test_segments_of_another_size_are_read_as_they_are(tmp_path: Path) -> None:
    log = LogDirectory(tmp_path / "data")
    Wal.open(
        log.path / "wal",
        (log.path / "state-a", log.path / "state-b"),
        log.identity,
        visit=lambda index, payload: None,
        options=Options(segment_bytes=65536),
    ).close()
    assert run("verify", log.path).exit_code == 0
