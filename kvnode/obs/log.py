"""Logs: an event is a sentence and its fields; writing it never blocks the event loop.

Whoever logs puts a record into a bounded queue and goes on; one writer thread formats and writes.
If stderr is a pipe that nobody reads, the queue fills and further records are dropped and counted:
a log is worth less than a heartbeat.

Lines are logfmt (`time=… level=… msg="…" key=value`) or JSON, one event per line whatever the
values hold, so that nobody can forge a line by sending a newline.
"""

from __future__ import annotations

import copy
import json
import logging
import queue
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Hashable
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from typing import Literal, Self, TextIO

from kvnode import limits


def event(logger: logging.Logger, level: int, message: str, /, **fields: object) -> None:
    """Log an event: a fixed sentence that can be searched for, and what varies as fields."""
    if logger.isEnabledFor(level):
        logger.log(level, message, extra={"fields": fields})


# --- lines --------------------------------------------------------------------------------------


def _facts(record: logging.LogRecord) -> dict[str, object]:
    """Collect what a line tells, in its order. The record's own facts win over its fields."""
    time = datetime.fromtimestamp(record.created, UTC)
    facts: dict[str, object] = {
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "msg": record.getMessage(),
    }
    for name, value in getattr(record, "fields", {}).items():
        facts.setdefault(name, value)
    if record.exc_text:
        facts["exception"] = record.exc_text
    return facts


class LogfmtFormatter(logging.Formatter):
    """One line of key=value pairs; values that are not plain words are quoted like JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record that `QueueHandler.prepare` has seen."""
        return " ".join(f"{name}={_logfmt(value)}" for name, value in _facts(record).items())


_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def _logfmt(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record that `QueueHandler.prepare` has seen."""
        return json.dumps(_facts(record), default=str)


# --- from the loop to stderr --------------------------------------------------------------------


class BoundedQueueHandler(QueueHandler):
    """Puts records into a bounded queue; drops and counts them when it is full."""

    def __init__(self, records_max: int) -> None:
        self.records: queue.Queue[logging.LogRecord | None] = queue.Queue(records_max)
        super().__init__(self.records)
        self.dropped = 0
        """Records that were not written because the queue was full."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Render what may change after the call (arguments, the traceback); keep the rest."""
        if not record.args and not record.exc_info:
            return record
        rendered = copy.copy(record)  # other handlers get the record as it was
        rendered.msg, rendered.args = record.getMessage(), None
        if record.exc_info:
            rendered.exc_text = _RENDER.formatException(record.exc_info)
            rendered.exc_info = None
        return rendered

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put a record into the queue, without waiting."""
        try:
            self.records.put_nowait(record)
        except queue.Full:
            self.dropped += 1


_RENDER = logging.Formatter()


class LogWriter:
    """The queue, and the thread that writes from it. One per process; `stop` ends it."""

    def __init__(
        self,
        formatter: logging.Formatter,
        stream: TextIO,
        records_max: int = limits.LOG_QUEUE_RECORDS_MAX,
    ) -> None:
        self.handler = BoundedQueueHandler(records_max)
        self._formatter = formatter
        self._stream = stream
        self._told = 0
        self._thread = threading.Thread(target=self._write, name="kvnode-log", daemon=True)

    @property
    def dropped(self) -> int:
        """Records that were dropped so far."""
        return self.handler.dropped

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def stop(self, timeout_seconds: float = 1.0) -> None:
        """Write what is queued and end the thread; gives up if the stream is blocked."""
        try:
            self.handler.records.put(None, timeout=timeout_seconds)
        except queue.Full:
            return
        self._thread.join(timeout_seconds)

    def _write(self) -> None:
        records = self.handler.records
        while (record := records.get()) is not None:
            self._line(record)
            if records.empty():
                self._tell_dropped()
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        if self.dropped != self._told:
            self._told = self.dropped
            self._line(_dropped_record(self._told))

    def _line(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(self._formatter.format(record) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody reads any more (a closed pipe, a full disk): there is nowhere to complain.
            self.handler.dropped += 1


def _dropped_record(count: int) -> logging.LogRecord:
    record = logging.LogRecord(
        "kvnode.log", logging.WARNING, __file__, 0, "log records dropped", None, None
    )
    record.fields = {"total": count}
    return record


def start_logging(
    level: str, style: Literal["logfmt", "json"], stream: TextIO | None = None
) -> LogWriter:
    """Send all logs of the process to `stream` (stderr) through a writer thread, and start it.

    `level` is debug, info, warning or error. The result is a context manager: leaving it writes
    what is queued.
    """
    formatter = JsonFormatter() if style == "json" else LogfmtFormatter()
    writer = LogWriter(formatter, sys.stderr if stream is None else stream)
    root = logging.getLogger()
    root.handlers[:] = [writer.handler]
    root.setLevel(level.upper())
    writer.start()
    return writer


# --- repeats ------------------------------------------------------------------------------------


class Repeats:
    """Thins out equal complaints: one per interval is logged, and says how many were not."""

    __slots__ = ("_interval_seconds", "_keys_max", "_seen")

    def __init__(
        self,
        interval_ms: int = limits.LOG_REPEAT_INTERVAL_MS,
        keys_max: int = limits.LOG_REPEAT_KEYS_MAX,
    ) -> None:
        self._interval_seconds = interval_ms / 1000
        self._keys_max = keys_max
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def admit(self, key: Hashable, now: float) -> int | None:
        """Return how many equal ones were suppressed since the last, or None to stay silent.

        `now` is monotonic time in seconds.
        """
        since, suppressed = self._seen.get(key, (None, 0))
        if since is not None and now - since < self._interval_seconds:
            self._seen[key] = since, suppressed + 1
            return None
        self._seen[key] = now, 0
        self._seen.move_to_end(key)
        if len(self._seen) > self._keys_max:
            self._seen.popitem(last=False)
        return suppressed
