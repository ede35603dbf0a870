"""DUMP and RESTORE over both engines: round trips, refusals, and payloads that are no value."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from kvnode.errors import CommandError
from kvnode.limits import DUMP_BYTES_MAX, VALUE_BYTES_MAX
from kvnode.store import batch, ops
from kvnode.store.ops import RestoreFlag
from kvnode.store.rdb.values import Consumer, Group, Pending, StreamValue
from kvnode.store.rdb.writer import write_value
from kvnode.store.redis import messages
from kvnode.store.reply import OK
from tests.support import payloads
from tests.unit.store.driver import NODE

if TYPE_CHECKING:
    from tests.unit.store.driver import Driver

REPLACE, ABSTTL = int(RestoreFlag.REPLACE), int(RestoreFlag.ABSTTL)
PAYLOAD = write_value(b"value")


def text(result: object) -> str:
    assert isinstance(result, CommandError)
    return result.text


def test_what_was_dumped_is_restored(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(60):
        payload = write_value(payloads.value(rng, streams=True))
        assert driver.do(ops.RESTORE, 0, b"k", 0, payload, REPLACE) is OK
        dumped = driver.read(ops.DUMP, 0, b"k")
        assert driver.do(ops.RESTORE, 0, b"other", 0, dumped, REPLACE) is OK
        assert driver.read(ops.DUMP, 0, b"other") == dumped
        assert isinstance(dumped, bytes)
        assert len(dumped) == len(payload)  # members come in another order
    driver.check()


@pytest.mark.parametrize("name", payloads.OTHER_FORMS)
def test_other_forms_become_values(driver: Driver, name: str) -> None:
    payload = payloads.sealed(payloads.OTHER_FORMS[name])
    assert driver.do(ops.RESTORE, 0, b"k", 0, payload, 0) is OK
    driver.check()


def test_a_key_that_is_taken_stays_unless_it_is_to_be_replaced(driver: Driver) -> None:
    driver.do(ops.SET, 0, b"k", b"old")
    revision = driver.machine._space.revision
    assert text(driver.do(ops.RESTORE, 0, b"k", None, b"junk", 0)) == messages.BUSY_KEY
    for ttl_ms, payload, error in (
        (None, b"junk", messages.NOT_AN_INTEGER),
        (-1, b"junk", messages.INVALID_TTL),
        (0, b"junk", messages.BAD_CHECKSUM),
        (0, payloads.sealed(b"\x00\x02a"), messages.BAD_DATA),
    ):
        assert text(driver.do(ops.RESTORE, 0, b"k", ttl_ms, payload, REPLACE)) == error
    assert driver.machine._space.revision == revision
    assert driver.read(ops.GET, 0, b"k") == b"old"
    assert driver.do(ops.RESTORE, 0, b"k", 0, PAYLOAD, REPLACE) is OK
    assert driver.read(ops.GET, 0, b"k") == b"value"
    driver.check()


def test_a_key_that_has_expired_is_not_taken(driver: Driver) -> None:
    driver.do(ops.SET, 0, b"k", b"old", 16, 100)
    driver.now_ms += 100
    assert driver.do(ops.RESTORE, 0, b"k", 0, PAYLOAD, 0) is OK
    assert driver.read(ops.GET, 0, b"k") == b"value"
    driver.check()


def test_a_lifetime_counts_from_the_stamp_and_a_deadline_is_one(driver: Driver) -> None:
    driver.do(ops.RESTORE, 0, b"k", 1500, PAYLOAD, 0)
    driver.do(ops.RESTORE, 0, b"l", driver.now_ms + 700, PAYLOAD, ABSTTL)
    set_ = payloads.sealed(b"\x02\x01\x01a")
    driver.do(ops.RESTORE, 0, b"m", 900, set_, 0)
    assert [driver.read(ops.TTL, 0, key, 1) for key in (b"k", b"l", b"m")] == [1500, 700, 900]
    driver.now_ms += 1500
    driver.tick()
    assert driver.read(ops.EXISTS, 0, b"k", b"l", b"m") == 0
    driver.check()


@pytest.mark.parametrize(("ttl_ms", "flags"), [(1, ABSTTL), (2**63 - 1, 0)])
def test_a_deadline_that_has_passed_leaves_no_key(driver: Driver, ttl_ms: int, flags: int) -> None:
    assert driver.do(ops.RESTORE, 0, b"k", ttl_ms, PAYLOAD, flags) is OK
    assert driver.read(ops.EXISTS, 0, b"k") == 0
    driver.do(ops.SET, 0, b"k", b"old")
    assert driver.do(ops.RESTORE, 0, b"k", ttl_ms, PAYLOAD, flags | REPLACE) is OK
    assert driver.read(ops.EXISTS, 0, b"k") == 0
    driver.check()


def test_only_the_restore_is_told_of(driver: Driver) -> None:
    pending = [Pending((1, 1), 5, 1)]
    group = Group(b"g", (1, 1), 1, pending, [Consumer(b"c", 5, [(1, 1)])])
    stream = StreamValue([((1, 1), [b"f", b"v"])], (1, 1), (0, 0), 1, [group])
    driver.machine.listen(to_events=True)
    blob = batch.encode_ops([[ops.RESTORE, 0, b"k", 0, write_value(stream), 0]])
    applied = driver.append(batch.encode_batch(driver.now_ms, 0, NODE, 1, 1, blob))
    assert [event.name for event in applied.events] == [b"new", b"restore"]
    driver.sequence = 1
    driver.check()


def test_a_value_that_is_too_large_is_not_dumped(driver: Driver) -> None:
    elements = [b"x" * VALUE_BYTES_MAX] * (DUMP_BYTES_MAX // VALUE_BYTES_MAX)
    driver.do(ops.LIST_PUSH, 0, b"k", 1, 0, *elements[1:])
    assert isinstance(driver.read(ops.DUMP, 0, b"k"), bytes)
    driver.do(ops.LIST_PUSH, 0, b"k", 1, 0, elements[0])
    assert text(driver.read(ops.DUMP, 0, b"k")) == messages.TOO_LARGE_TO_DUMP


def test_no_damage_makes_more_than_an_error(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    bodies = [*payloads.OTHER_FORMS.values()]
    bodies += [write_value(payloads.value(rng, streams=True))[:-10] for _ in range(30)]
    outcomes = set()
    for _ in range(1500):
        body = bytearray(rng.choice(bodies))
        for _ in range(rng.randint(1, 3)):
            body[rng.randrange(len(body))] = rng.choice((0, 1, 255, 128, rng.randrange(256)))
        cut = rng.choice((len(body), rng.randrange(1, len(body) + 1)))
        payload = payloads.sealed(bytes(body[:cut]))
        result = driver.do(ops.RESTORE, 0, b"k", 0, payload, REPLACE)
        outcomes.add(result if result is OK else text(result))
        if result is OK:
            dumped = driver.read(ops.DUMP, 0, b"k")
            assert driver.do(ops.RESTORE, 0, b"k", 0, dumped, REPLACE) is OK
            assert driver.read(ops.DUMP, 0, b"k") == dumped
    assert {OK, messages.BAD_DATA} <= outcomes
    assert outcomes <= {OK, messages.BAD_DATA, messages.TOO_LARGE_TO_RESTORE}
    driver.check()
