"""SLOWLOG and LATENCY: what took long, and how long things take (`kvnode.resp.slow`, `.stats`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.resp.commands.grammar import integer, text_of, wrong_subcommand
from kvnode.resp.encoder import OK_BYTES, array, bulk, mapping, verbatim
from kvnode.resp.encoder import integer as encode_integer

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection
    from kvnode.resp.slow import SlowEntry
    from kvnode.resp.stats import Tally

ENTRIES_SHOWN: Final = 10
BAD_COUNT: Final = "ERR count should be greater than or equal to -1"


def slowlog_get(connection: Connection, arguments: list[bytes]) -> bytes:
    if len(arguments) > 3:
        raise wrong_subcommand(arguments)
    count = integer(arguments[2], BAD_COUNT) if len(arguments) == 3 else ENTRIES_SHOWN
    if count < -1:
        raise CommandError(BAD_COUNT)
    newest = list(reversed(connection.server.slow_log.entries))
    return array([_entry(each) for each in (newest if count == -1 else newest[:count])])


def _entry(entry: SlowEntry) -> bytes:
    return array(
        [
            encode_integer(entry.number),
            encode_integer(entry.at_s),
            encode_integer(entry.elapsed_us),
            array([bulk(argument) for argument in entry.arguments]),
            bulk(entry.address.encode()),
            bulk(entry.name.encode()),
        ]
    )


def slowlog_len(connection: Connection, _arguments: list[bytes]) -> bytes:
    return encode_integer(len(connection.server.slow_log.entries))


def slowlog_reset(connection: Connection, _arguments: list[bytes]) -> bytes:
    connection.server.slow_log.entries.clear()
    return OK_BYTES


# --- LATENCY --------------------------------------------------------------------------------------


def latency_latest(connection: Connection, _arguments: list[bytes]) -> bytes:
    return array(
        [
            array([bulk(name.encode()), *map(encode_integer, (*event.samples[-1], event.worst_ms))])
            for name, event in connection.server.latency.events.items()
        ]
    )


def latency_history(connection: Connection, arguments: list[bytes]) -> bytes:
    event = connection.server.latency.events.get(text_of(arguments[2]))
    samples = [] if event is None else event.samples
    return array([array([encode_integer(figure) for figure in sample]) for sample in samples])


def latency_reset(connection: Connection, arguments: list[bytes]) -> bytes:
    events = connection.server.latency.events
    named = [text_of(name) for name in arguments[2:]] or list(events)
    forgotten = [name for name in dict.fromkeys(named) if events.pop(name, None) is not None]
    return encode_integer(len(forgotten))


def latency_doctor(connection: Connection, _arguments: list[bytes]) -> bytes:
    """What there is to say: whether anything is watched, and the worst of what was seen."""
    threshold_ms = connection.server.settings.latency_ms
    events = connection.server.latency.events
    if not threshold_ms:
        text = (
            "Latency monitoring is off. CONFIG SET latency-monitor-threshold <milliseconds> "
            "turns it on."
        )
    elif not events:
        text = f"No command took {threshold_ms} milliseconds or longer."
    else:
        text = "\n".join(
            f"{name}: {len(event.samples)} seconds with an event of at least {threshold_ms} ms, "
            f"the worst took {event.worst_ms} ms."
            for name, event in events.items()
        )
    return verbatim(text.encode(), connection.protocol)


def latency_histogram(connection: Connection, arguments: list[bytes]) -> bytes:
    """Calls that took at most so many microseconds, cumulated, per command."""
    wanted = {text_of(name).lower() for name in arguments[2:]}
    protocol = connection.protocol
    pairs = [
        (bulk(tally.command.name.encode()), _histogram(tally, protocol))
        for tally in connection.server.tallies
        if any(tally.buckets) and (not wanted or wanted & _names_of(tally))
    ]
    return mapping(pairs, protocol)


def _names_of(tally: Tally) -> set[str]:
    """A subcommand is shown when its container is asked for, too."""
    return {tally.command.name, tally.command.name.partition("|")[0]}


def _histogram(tally: Tally, protocol: int) -> bytes:
    total = 0
    bounds: dict[int, int] = {}
    for bits, count in enumerate(tally.buckets):
        total += count
        if count:
            bounds[max(1, round((1 << bits) / 1000))] = total
    counts = [(encode_integer(bound), encode_integer(sum_)) for bound, sum_ in bounds.items()]
    return mapping(
        [
            (bulk(b"calls"), encode_integer(total)),
            (bulk(b"histogram_usec"), mapping(counts, protocol)),
        ],
        protocol,
    )
