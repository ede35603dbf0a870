"""Logs: one event per line, and no writer ever waits for a reader."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from kvnode.obs import log
from kvnode.obs.log import BoundedQueueHandler, JsonFormatter, LogfmtFormatter, LogWriter, Repeats


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.getLogger("kvnode.test")
    made.propagate = False
    made.setLevel(logging.INFO)
    yield made
    made.handlers.clear()
    made.propagate = True
    made.setLevel(logging.NOTSET)


def line(
    formatter: logging.Formatter, logger: logging.Logger, message: str, /, **fields: object
) -> str:
    handler = BoundedQueueHandler(8)
    logger.addHandler(handler)
    log.event(logger, logging.WARNING, message, **fields)
    record = handler.records.get_nowait()
    assert record is not None
    record.created = 1_700_000_000.1239
    return formatter.format(record)


# --- lines --------------------------------------------------------------------------------------


def test_an_event_is_a_line_of_keys_and_values(logger: logging.Logger) -> None:
    assert line(LogfmtFormatter(), logger, "peer refused", peer="n2", tries=3, last=None) == (
        "time=2023-11-14T22:13:20.123Z level=warning logger=kvnode.test "
        'msg="peer refused" peer=n2 tries=3 last=null'
    )


def test_an_event_is_a_json_object(logger: logging.Logger) -> None:
    assert json.loads(line(JsonFormatter(), logger, "peer refused", peer="n2", on=True)) == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "warning",
        "logger": "kvnode.test",
        "msg": "peer refused",
        "peer": "n2",
        "on": True,
    }


@pytest.mark.parametrize(
    "evil",
    ["a\nlevel=error", "a b", 'a"b', "a=b", "", "a\\b", "\x1b[31m", "\u2028", "\ud800", "\x85"],
)
@pytest.mark.parametrize("formatter", [LogfmtFormatter(), JsonFormatter()])
def test_no_value_can_forge_a_line_or_a_field(
    logger: logging.Logger, formatter: logging.Formatter, evil: str
) -> None:
    text = line(formatter, logger, "refused", value=evil)
    assert len(text.splitlines()) == 1
    assert json.dumps(evil) in text
    text.encode()


def test_a_message_may_hold_a_percent_sign(logger: logging.Logger) -> None:
    assert 'msg="80% full"' in line(LogfmtFormatter(), logger, "80% full")


def test_a_field_cannot_replace_what_the_line_itself_tells(logger: logging.Logger) -> None:
    document = json.loads(line(JsonFormatter(), logger, "true", level="debug", message="m", time=0))
    assert (document["level"], document["msg"], document["message"]) == ("warning", "true", "m")


def test_an_exception_stays_in_its_line(logger: logging.Logger) -> None:
    handler = BoundedQueueHandler(8)
    logger.addHandler(handler)
    try:
        raise ValueError("a bug")
    except ValueError:
        logger.exception("failed with %s", "arguments")
    record = handler.records.get_nowait()
    assert record is not None
    assert record.exc_info is None, "a queued traceback would keep its frames alive"
    text = LogfmtFormatter().format(record)
    assert len(text.splitlines()) == 1
    assert 'msg="failed with arguments"' in text
    assert "ValueError: a bug" in text


def test_an_event_below_the_level_costs_no_record(logger: logging.Logger) -> None:
    handler = BoundedQueueHandler(8)
    logger.addHandler(handler)
    log.event(logger, logging.DEBUG, "unheard")
    assert handler.records.empty()


# --- the writer ---------------------------------------------------------------------------------


def test_a_full_queue_drops_and_counts(logger: logging.Logger) -> None:
    handler = BoundedQueueHandler(2)
    logger.addHandler(handler)
    for _ in range(5):
        log.event(logger, logging.WARNING, "again")
    assert (handler.records.qsize(), handler.dropped) == (2, 3)


def test_a_pipe_that_nobody_reads_blocks_nobody(logger: logging.Logger) -> None:
    read_end, write_end = os.pipe()
    _fill(write_end)
    with os.fdopen(write_end, "w") as stream:
        writer = LogWriter(LogfmtFormatter(), stream, records_max=4)
        logger.addHandler(writer.handler)
        writer.start()
        for _ in range(6):  # one is stuck in the pipe at most, four are queued
            log.event(logger, logging.WARNING, "unread")
        assert writer.dropped > 0
        writer.stop(timeout_seconds=0.01)  # gives up, as the stream is blocked
        assert writer._thread.is_alive()

        # Somebody reads again: the writer goes on, and says what is missing.
        content = _read_until(read_end, b"log records dropped")
        writer.stop(timeout_seconds=30)
    assert f"total={writer.dropped}".encode() in content


def _fill(pipe: int) -> None:
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, b"." * 4096)
    os.set_blocking(pipe, True)


def _read_until(pipe: int, text: bytes) -> bytes:
    content = b""
    while text not in content or not content.endswith(b"\n"):
        content += os.read(pipe, 65_536)
    os.close(pipe)
    return content


def test_a_closed_stream_ends_in_counts_and_not_in_a_dead_writer(logger: logging.Logger) -> None:
    stream = io.StringIO()
    stream.close()
    writer = LogWriter(LogfmtFormatter(), stream)
    logger.addHandler(writer.handler)
    writer.start()
    log.event(logger, logging.WARNING, "unheard")
    writer.stop()
    assert writer.dropped >= 1
    assert not writer._thread.is_alive()


def test_leaving_writes_what_is_queued() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with log.start_logging("info", "json", stream):
            for number in range(100):
                log.event(logging.getLogger("kvnode.test"), logging.INFO, "tick", number=number)
            log.event(logging.getLogger("kvnode.test"), logging.DEBUG, "too fine")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    numbers = [json.loads(text)["number"] for text in stream.getvalue().splitlines()]
    assert numbers == list(range(100))


def test_lines_are_built_by_the_writer_and_not_by_the_caller(logger: logging.Logger) -> None:
    caller = threading.get_ident()
    formatted_by: list[int] = []

    class Value:
        def __str__(self) -> str:
            formatted_by.append(threading.get_ident())
            return "v"

    stream = io.StringIO()
    writer = LogWriter(LogfmtFormatter(), stream)
    logger.handlers[:] = [writer.handler]
    writer.start()
    log.event(logger, logging.WARNING, "lazily formatted", value=Value())
    writer.stop()
    assert formatted_by
    assert caller not in formatted_by


# --- repeats ------------------------------------------------------------------------------------


def test_of_equal_complaints_one_per_interval_is_logged() -> None:
    repeats = Repeats(interval_ms=1000)
    assert repeats.admit("n2", now=10.0) == 0
    assert [repeats.admit("n2", now=10.0 + i / 10) for i in range(1, 10)] == [None] * 9
    assert repeats.admit("n2", now=11.0) == 9, "and it says how many were not"
    assert repeats.admit("n2", now=11.5) is None


def test_different_complaints_do_not_silence_each_other() -> None:
    repeats = Repeats(interval_ms=1000)
    assert repeats.admit("n2", now=10.0) == 0
    assert repeats.admit("n3", now=10.0) == 0


def test_the_memory_of_complaints_is_bounded() -> None:
    repeats = Repeats(interval_ms=1000, keys_max=2)
    for key in ("n1", "n2", "n3"):
        repeats.admit(key, now=10.0)
    assert len(repeats._seen) == 2
    assert repeats.admit("n1", now=10.1) == 0, "the oldest was forgotten"
