"""The memory watchdog: when it fires, that it does so once, and that it ends what hangs."""

from __future__ import annotations

import asyncio
import logging
import resource
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest

from kvnode import watchdog
from kvnode.admission.departure import Turn
from kvnode.admission.fence import Fence
from kvnode.admission.ladder import Rung
from kvnode.admission.memory import Meter, Reading
from kvnode.admission.pressure import Pressure
from kvnode.config.serve import load
from kvnode.errors import ConfigurationError, ExitCode, MemoryPressure
from kvnode.watchdog import Alarm, MemoryWatchdog

MIB = 2**20


class FakeMeter:
    """Tells the given totals, the last one for ever. `read` is called in the sampler's thread."""

    limit_bytes = 1000

    def __init__(self, *totals: int) -> None:
        self._totals = list(totals)
        self.reads = 0
        self.read_by: set[str] = set()
        self.reached = threading.Event()

    def read(self) -> Reading:
        total = self._totals[min(self.reads, len(self._totals) - 1)]
        self.reads += 1
        self.read_by.add(threading.current_thread().name)
        if self.reads >= len(self._totals):
            self.reached.set()
        return Reading(rss_anon_bytes=total, workers_bytes=0, cgroup_bytes=0)


class Exits:
    """Stands for os._exit: notes the code instead."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.happened = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.happened.set()


@pytest.fixture
def exits() -> Exits:
    return Exits()


@pytest.fixture
def dogs() -> Iterator[list[MemoryWatchdog]]:
    made: list[MemoryWatchdog] = []
    yield made
    for dog in made:
        dog.close()
        if dog._thread is not None:
            dog._thread.join(5)
            assert not dog._thread.is_alive()


def watching(dogs: list[MemoryWatchdog], meter: Meter, **options: object) -> MemoryWatchdog:
    options = {"interval_ms": 1, "exit_process": Exits(), "on_alarm": lambda _: None} | options
    dogs.append(MemoryWatchdog(100, meter=meter, **options))  # type: ignore[arg-type]
    return dogs[-1]


# --- when it fires ------------------------------------------------------------------------------


async def test_it_raises_once_the_threshold_is_reached(dogs: list[MemoryWatchdog]) -> None:
    meter = FakeMeter(99, 99, 100)
    with pytest.raises(MemoryPressure):
        await watching(dogs, meter).run()
    assert meter.reads == 3
    assert meter.read_by == {"kvnode-watchdog"}


async def test_the_first_measurement_comes_before_the_first_pause(
    dogs: list[MemoryWatchdog],
) -> None:
    an_hour_ms = 3_600_000
    with pytest.raises(MemoryPressure):
        await watching(dogs, FakeMeter(100), interval_ms=an_hour_ms).run()


async def test_it_is_silent_below_the_threshold(dogs: list[MemoryWatchdog]) -> None:
    meter, alarms = FakeMeter(*[99] * 5), []
    dog = watching(dogs, meter, on_alarm=alarms.append)
    task = asyncio.create_task(dog.run())
    await asyncio.to_thread(meter.reached.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert alarms == []


async def test_it_tells_its_observer_exactly_once(dogs: list[MemoryWatchdog]) -> None:
    alarms: list[Alarm] = []
    dog = watching(dogs, FakeMeter(100), on_alarm=alarms.append, in_flight_bytes=lambda: 7)
    with pytest.raises(MemoryPressure):
        await dog.run()
    assert alarms == [
        Alarm(Reading(100, 0, 0), limit_bytes=1000, threshold_bytes=100, in_flight_bytes=7)
    ]


async def test_who_is_not_next_drops_its_clients_and_leaves_in_its_turn(
    dogs: list[MemoryWatchdog], caplog: pytest.LogCaptureFixture
) -> None:
    dropped = asyncio.Event()
    turns: list[Turn | None] = [Turn(1, is_needed=True), Turn(1, is_needed=True), None]
    dog = watching(
        dogs,
        FakeMeter(150),
        turn=lambda: turns.pop(0) if turns else None,
        on_wait=lambda is_waiting: dropped.set() if is_waiting else None,
    )
    with pytest.raises(MemoryPressure):
        await dog.run()
    await dropped.wait()
    assert not turns
    waiting = [r for r in caplog.records if "waiting for the turn" in r.getMessage()]
    assert len(waiting) == 1


async def test_who_waited_and_has_room_again_stays(
    dogs: list[MemoryWatchdog], caplog: pytest.LogCaptureFixture
) -> None:
    meter = FakeMeter(150, 99)
    told: list[bool] = []
    dog = watching(dogs, meter, turn=lambda: Turn(1), on_wait=told.append)
    running = asyncio.create_task(dog.run())
    await asyncio.to_thread(meter.reached.wait)
    before = meter.reads
    while meter.reads == before:
        await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert "the node can stay" in caplog.text
    assert told == [True, False]


async def test_a_cancelled_watchdog_stops_sampling(dogs: list[MemoryWatchdog]) -> None:
    meter = FakeMeter(1)
    dog = watching(dogs, meter)
    task = asyncio.create_task(dog.run())
    await asyncio.to_thread(meter.reached.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert dog._thread is not None
    await asyncio.to_thread(dog._thread.join, 5)
    assert not dog._thread.is_alive()


async def test_a_watchdog_runs_once(dogs: list[MemoryWatchdog]) -> None:
    dog = watching(dogs, FakeMeter(100))
    with pytest.raises(MemoryPressure):
        await dog.run()
    with pytest.raises(RuntimeError, match="runs once"):
        await dog.run()


async def test_two_watchdogs_share_nothing(dogs: list[MemoryWatchdog]) -> None:
    quiet = FakeMeter(1)
    other = asyncio.create_task(watching(dogs, quiet).run())
    with pytest.raises(MemoryPressure):
        await watching(dogs, FakeMeter(100)).run()
    seen = quiet.reads
    while quiet.reads == seen:
        await asyncio.sleep(0)
    assert not other.done()
    other.cancel()


def test_a_watchdog_that_is_off_is_not_created() -> None:
    assert MemoryWatchdog.from_config(load({}, {})) is None
    with pytest.raises(ValueError, match="not created"):
        MemoryWatchdog(0, 20, FakeMeter(1))


async def test_the_newest_measurement_can_be_read_by_others(dogs: list[MemoryWatchdog]) -> None:
    dog = watching(dogs, FakeMeter(42, 100))
    assert dog.latest is None
    with pytest.raises(MemoryPressure):
        await dog.run()
    assert dog.latest == Reading(100, 0, 0)


# --- how it ends the process --------------------------------------------------------------------


async def test_siblings_clean_up_and_the_exit_is_not_masked_by_their_errors(
    dogs: list[MemoryWatchdog],
) -> None:
    cleaned = []

    async def sibling() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)
            raise OSError("failed while being cancelled")

    raised: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(sibling())
            group.create_task(watching(dogs, FakeMeter(1, 100)).run())
    except* MemoryPressure:
        raised.append("pressure")
    except* OSError:
        raised.append("other")
    assert cleaned == [True]
    assert raised == ["pressure", "other"]


async def test_a_blocked_loop_does_not_blind_it(dogs: list[MemoryWatchdog], exits: Exits) -> None:
    notes: list[str] = []
    dog = watching(
        dogs,
        FakeMeter(1, 100),
        reaction_ms_max=1,
        exit_process=exits,
        before_exit=lambda: notes.append("why"),
    )
    task = asyncio.create_task(dog.run())
    await asyncio.sleep(0)
    assert exits.happened.wait(30), "blocks the loop until the thread has ended the process"
    assert exits.codes == [2]
    assert notes == ["why"]
    with pytest.raises(MemoryPressure):
        await task


async def test_a_stop_that_takes_too_long_is_ended(
    dogs: list[MemoryWatchdog], exits: Exits
) -> None:
    an_hour_ms = 3_600_000  # were the loop's reaction not seen, the thread would wait for it
    dog = watching(
        dogs, FakeMeter(100), exit_process=exits, reaction_ms_max=an_hour_ms, stop_ms_max=1
    )
    with pytest.raises(MemoryPressure):
        await dog.run()
    assert await asyncio.to_thread(exits.happened.wait, 30)
    assert exits.codes == [2]


async def test_nobody_waits_for_the_loop_when_the_kernel_is_about_to_kill(
    dogs: list[MemoryWatchdog], exits: Exits
) -> None:
    an_hour_ms = 3_600_000
    dog = watching(dogs, FakeMeter(100, 949, 950), exit_process=exits, reaction_ms_max=an_hour_ms)
    task = asyncio.create_task(dog.run())
    await asyncio.sleep(0)
    assert exits.happened.wait(30), "blocks the loop until the thread has ended the process"
    assert exits.codes == [2]
    with pytest.raises(MemoryPressure):
        await task


async def test_nor_for_the_end_of_the_stop(dogs: list[MemoryWatchdog], exits: Exits) -> None:
    an_hour_ms = 3_600_000
    meter = FakeMeter(*[100] * 20, 950)
    dog = watching(dogs, meter, exit_process=exits, stop_ms_max=an_hour_ms)
    with pytest.raises(MemoryPressure):
        await dog.run()
    assert await asyncio.to_thread(exits.happened.wait, 30)
    assert exits.codes == [2]


async def test_on_a_rung_it_measures_more_often(dogs: list[MemoryWatchdog]) -> None:
    dog = watching(dogs, FakeMeter(1, 71), interval_ms=20)
    task = asyncio.create_task(dog.run())
    assert dog._interval_seconds == 0.02
    while dog._ladder.rung is Rung.CALM:
        await asyncio.sleep(0)
    assert dog._interval_seconds == 0.005
    task.cancel()


async def test_each_measurement_moves_the_fence_and_the_end_lifts_it(
    dogs: list[MemoryWatchdog],
) -> None:
    told: list[int] = []
    meter = FakeMeter(1, 1)
    dog = watching(dogs, meter, fence=Fence(1000, told.append))
    task = asyncio.create_task(dog.run())
    await asyncio.to_thread(meter.reached.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert dog._thread is not None
    await asyncio.to_thread(dog._thread.join, 30)
    assert told == [960, resource.RLIM_INFINITY]


async def test_the_fence_stands_until_a_process_that_is_ended_by_force_is_gone(
    dogs: list[MemoryWatchdog], exits: Exits
) -> None:
    """Lifted for the last words, it let a loop that still allocated have the rest: SIGKILL."""
    told: list[int] = []
    notes: list[int] = []
    dog = watching(
        dogs,
        FakeMeter(100),
        fence=Fence(1000, told.append),
        exit_process=exits,
        stop_ms_max=1,
        before_exit=lambda: notes.append(told[-1]),
    )
    with pytest.raises(MemoryPressure):
        await dog.run()
    assert await asyncio.to_thread(exits.happened.wait, 30)
    assert len(notes) == 1
    assert notes[0] != resource.RLIM_INFINITY


async def test_not_even_memory_to_measure_is_pressure(dogs: list[MemoryWatchdog]) -> None:
    class Exhausted(FakeMeter):
        def read(self) -> Reading:
            raise MemoryError

    alarms: list[Alarm] = []
    with pytest.raises(MemoryPressure):
        await watching(dogs, Exhausted(1), on_alarm=alarms.append).run()
    assert [alarm.reading.total_bytes for alarm in alarms] == [100]


async def test_who_outlives_a_closed_watchdog_is_not_ended(
    dogs: list[MemoryWatchdog], exits: Exits
) -> None:
    dog = watching(dogs, FakeMeter(100), exit_process=exits, stop_ms_max=3_600_000)
    with pytest.raises(MemoryPressure):
        await dog.run()
    dog.close()
    assert dog._thread is not None
    await asyncio.to_thread(dog._thread.join, 30)
    assert exits.codes == []


async def test_a_note_that_fails_does_not_keep_the_process(
    dogs: list[MemoryWatchdog], exits: Exits, unhandled: list[type[BaseException]]
) -> None:
    def fail() -> None:
        raise OSError("no disk")

    dog = watching(dogs, FakeMeter(100), exit_process=exits, before_exit=fail, stop_ms_max=1)
    with pytest.raises(MemoryPressure):
        await dog.run()
    assert await asyncio.to_thread(exits.happened.wait, 30)
    assert dog._thread is not None
    await asyncio.to_thread(dog._thread.join, 30)
    assert unhandled == [OSError]


async def test_a_note_that_hangs_does_not_keep_the_process(
    dogs: list[MemoryWatchdog], exits: Exits
) -> None:
    disk = threading.Event()
    dog = watching(dogs, FakeMeter(100), exit_process=exits, before_exit=disk.wait, stop_ms_max=1)
    with pytest.raises(MemoryPressure):
        await dog.run()
    assert await asyncio.to_thread(exits.happened.wait, 30)
    assert (exits.codes, disk.is_set()) == ([2], False)
    disk.set()


async def test_without_memory_for_a_note_the_process_still_ends(
    dogs: list[MemoryWatchdog], exits: Exits
) -> None:
    def speechless() -> None:
        raise MemoryError

    dog = watching(dogs, FakeMeter(100), exit_process=exits, before_exit=speechless, stop_ms_max=1)
    with pytest.raises(MemoryPressure):
        await dog.run()
    assert await asyncio.to_thread(exits.happened.wait, 30)
    assert exits.codes == [2]


async def test_the_thread_for_the_last_words_is_made_while_there_is_memory_for_it(
    dogs: list[MemoryWatchdog], exits: Exits, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    late: list[str] = []
    notes: list[str] = []

    def note_start(thread: threading.Thread) -> None:
        late.append(thread.name)
        start(thread)

    dog = watching(
        dogs,
        FakeMeter(100),
        exit_process=exits,
        stop_ms_max=1,
        before_exit=lambda: notes.append(threading.current_thread().name),
        on_alarm=lambda _: monkeypatch.setattr(threading.Thread, "start", note_start),
    )
    with pytest.raises(MemoryPressure):
        await dog.run()
    assert await asyncio.to_thread(exits.happened.wait, 30)
    assert notes == ["kvnode-last-words"]
    assert "kvnode-last-words" not in late


@pytest.fixture
def unhandled(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException]]:
    """Exceptions that ended a thread."""
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    return seen


async def test_an_observer_that_fails_does_not_keep_the_node_running(
    dogs: list[MemoryWatchdog], unhandled: list[type[BaseException]]
) -> None:
    def fail(alarm: Alarm) -> None:
        raise ValueError("broken observer")

    dog = watching(dogs, FakeMeter(100), on_alarm=fail)
    with pytest.raises(MemoryPressure):
        await dog.run()
    dog.close()
    assert dog._thread is not None
    await asyncio.to_thread(dog._thread.join, 30)
    assert unhandled == [ValueError], "and the failure is shown"


async def test_a_watchdog_that_cannot_see_ends_the_node(dogs: list[MemoryWatchdog]) -> None:
    class Broken(FakeMeter):
        def read(self) -> Reading:
            raise OSError("statm is gone")

    with pytest.raises(OSError, match="statm is gone"):
        await watching(dogs, Broken(1)).run()


def test_a_real_process_leaves_with_2_while_its_loop_is_blocked() -> None:
    program = """
        import asyncio, time
        from kvnode.admission.memory import ProcMeter
        from kvnode.watchdog import MemoryWatchdog

        async def main():
            meter = ProcMeter()
            dog = MemoryWatchdog(meter.read().total_bytes + 32 * 2**20, 10, meter)
            async with asyncio.TaskGroup() as group:
                group.create_task(dog.run())
                await asyncio.sleep(0)
                hoard = [bytearray(2**20) for _ in range(64)]
                time.sleep(60)  # the loop is blocked

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 2
    assert "memory pressure shutdown" in done.stderr


def test_the_warning_has_its_exact_text_and_fields(caplog: pytest.LogCaptureFixture) -> None:
    watchdog.log_alarm(Alarm(Reading(1, 2, 3), 4, 5, 6))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "memory pressure shutdown"
    assert record.__dict__["fields"] == {
        "rss_anon_bytes": 1,
        "workers_bytes": 2,
        "cgroup_bytes": 3,
        "limit_bytes": 4,
        "threshold_bytes": 5,
        "in_flight_bytes": 6,
    }


def test_the_log_tells_what_applies_and_not_what_was_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kvnode.watchdog")
    environment = {
        "KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB": "auto",
        "KVNODE_MEMORY_SHUTDOWN_POLL_INTERVAL": "1ms",
    }
    dog = MemoryWatchdog.from_config(load({}, environment))
    assert dog is not None
    fields = caplog.records[0].__dict__["fields"]
    assert fields["interval_ms"] == dog.interval_ms == 10
    assert fields["threshold_bytes"] == dog.threshold_bytes == fields["limit_bytes"] * 85 // 100


# --- the threshold --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "effective"),
    [("auto", 850), (0, 0), (5, 5), (850, 850), (851, 850), (1000, 850)],
)
def test_a_threshold_is_at_most_a_share_of_the_limit(configured: int | str, effective: int) -> None:
    assert watchdog.effective_threshold(configured, 1000) == effective  # type: ignore[arg-type]


def test_a_threshold_that_the_kernel_would_not_let_us_reach_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="3 MiB is above the limit of 2 MiB") as refused:
        watchdog.effective_threshold(3 * MIB, 2 * MIB)
    assert refused.value.exit_code == ExitCode.WRONG_CONFIGURATION


def test_a_threshold_that_is_lowered_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(FakeMeter):
        limit_bytes = 100 * MIB

    monkeypatch.setattr(watchdog, "ProcMeter", lambda workers: Small(1))
    told = load({}, {"KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB": "90"})
    dog = MemoryWatchdog.from_config(told)
    assert dog is not None
    assert dog.threshold_bytes == 85 * MIB
    (record,) = [record for record in caplog.records if "lowered to 85 %" in record.getMessage()]
    assert record.__dict__["fields"] == {
        "configured_bytes": 90 * MIB,
        "threshold_bytes": 85 * MIB,
    }


# --- the ladder ---------------------------------------------------------------------------------


async def test_the_loop_is_told_of_each_rung(dogs: list[MemoryWatchdog]) -> None:
    pressure, heard = Pressure(), []
    pressure.subscribe(heard.append)
    with pytest.raises(MemoryPressure):
        await watching(dogs, FakeMeter(69, 71, 71, 95, 100), pressure=pressure).run()
    assert heard == [Rung.SHED, Rung.CLOSE]


async def test_the_loop_learns_of_the_rung_before_it_learns_of_the_end(
    dogs: list[MemoryWatchdog],
) -> None:
    pressure = Pressure()
    with pytest.raises(MemoryPressure):
        await watching(dogs, FakeMeter(100), pressure=pressure).run()
    assert pressure.rung is Rung.CLOSE


async def test_entering_a_rung_is_logged_by_the_thread_though_the_loop_hangs(
    dogs: list[MemoryWatchdog], caplog: pytest.LogCaptureFixture
) -> None:
    meter = FakeMeter(71, 71)
    task = asyncio.create_task(watching(dogs, meter).run())
    await asyncio.sleep(0)
    assert meter.reached.wait(30), "blocks the loop until the second measurement"
    entered = [record for record in caplog.records if record.getMessage() == "memory rung entered"]
    task.cancel()
    assert [record.levelno for record in entered] == [logging.WARNING]
    fields = entered[0].__dict__["fields"]
    assert (fields["rung"], fields["before"], fields["begins_bytes"]) == ("shed", "calm", 70)
    assert (fields["rss_anon_bytes"], fields["cgroup_bytes"], fields["workers_bytes"]) == (71, 0, 0)


def test_leaving_a_rung_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kvnode.watchdog")
    begins = {Rung.SHED: 60, Rung.REFUSE: 70, Rung.CLOSE: 80}
    watchdog.log_rung(Rung.CALM, Rung.REFUSE, Reading(1, 2, 3), begins)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.INFO, "memory rung left")
    fields = record.__dict__["fields"]
    assert (fields["rung"], fields["before"], fields["begins_bytes"]) == ("calm", "refuse", 70)
