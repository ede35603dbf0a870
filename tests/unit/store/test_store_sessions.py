"""Exactly once: what a session lets through, and that refusals change nothing but the stamp."""

from __future__ import annotations

from kvnode.store import batch, ops
from kvnode.store.batch import Kind
from kvnode.store.sessions import Outcome
from tests.unit.store.driver import NODE, NONCE, START_MS, STORAGE, Driver

INCREMENT = batch.encode_ops([[ops.INCRBY, 0, b"n", 1]])


def send(driver: Driver, sequence: int, incarnation: int = 1, node: int = NODE) -> Outcome:
    data = batch.encode_batch(driver.now_ms, 0, node, incarnation, sequence, INCREMENT)
    return driver.append(data).outcome


def register(driver: Driver, nonce: int, storage: int = STORAGE) -> tuple[Outcome, int]:
    applied = driver.append(batch.encode_register(driver.now_ms, 0, NODE, storage, nonce))
    assert applied.kind == Kind.REGISTER
    return applied.outcome, applied.incarnation


def count(driver: Driver) -> object:
    return driver.read(ops.GET, 0, b"n")


def test_batches_apply_in_sequence(driver: Driver) -> None:
    assert [send(driver, 1), send(driver, 2)] == [Outcome.APPLIED] * 2
    assert count(driver) == b"2"


def test_a_resent_batch_is_a_duplicate(driver: Driver) -> None:
    send(driver, 1)
    assert send(driver, 1) is Outcome.DUPLICATE
    assert count(driver) == b"1"


def test_a_batch_after_a_missing_one_waits_for_it(driver: Driver) -> None:
    assert send(driver, 2) is Outcome.GAP
    assert count(driver) is None
    assert [send(driver, 1), send(driver, 2)] == [Outcome.APPLIED] * 2


def test_an_older_incarnation_is_fenced(driver: Driver) -> None:
    _, incarnation = register(driver, nonce=1)
    assert send(driver, 1, incarnation=1) is Outcome.FENCED
    assert send(driver, 1, incarnation=incarnation) is Outcome.APPLIED


def test_a_node_without_a_session_is_fenced(driver: Driver) -> None:
    assert send(driver, 1, node=NODE + 1) is Outcome.FENCED


def test_the_incarnation_is_the_index_of_the_registration(driver: Driver) -> None:
    driver.append(b"")
    assert register(driver, nonce=1) == (Outcome.APPLIED, 3)


def test_a_resent_registration_keeps_the_session(driver: Driver) -> None:
    send(driver, 1)
    assert register(driver, NONCE) == (Outcome.DUPLICATE, 1)
    assert send(driver, 2) is Outcome.APPLIED


def test_another_storage_under_a_known_node_id_is_fenced(driver: Driver) -> None:
    assert register(driver, nonce=1, storage=STORAGE + 1) == (Outcome.FENCED, 1)
    assert register(driver, NONCE, storage=STORAGE + 1) == (Outcome.FENCED, 1)
    assert send(driver, 1) is Outcome.APPLIED


def test_a_refused_batch_moves_the_stamp_and_no_key(driver: Driver) -> None:
    driver.do(ops.SET, 0, b"k", b"v", 16, 500)
    driver.now_ms += 500
    assert send(driver, 9) is Outcome.GAP
    assert driver.machine.stamp_ms == driver.now_ms
    assert driver.read(ops.GET, 0, b"k") is None


def test_sessions_outlive_a_restart(driver: Driver) -> None:
    send(driver, 1)
    driver.machine.commit()
    driver.crash()
    session = driver.machine.session(NODE)
    assert session is not None
    assert (session.incarnation, session.last) == (1, 1)
    assert (session.nonce, session.storage_id) == (NONCE, STORAGE)
    assert send(driver, 1) is Outcome.DUPLICATE


def test_sessions_are_part_of_the_state_hash(driver: Driver) -> None:
    before = driver.machine.state_hash()
    driver.machine._sessions[NODE].last += 1
    assert driver.machine.state_hash() != before


def test_sessions_are_listed_by_node_id(driver: Driver) -> None:
    for node in (9, 3):
        driver.append(batch.encode_register(START_MS, 0, node, 1, 1))
    assert list(driver.machine.sessions()) == [3, NODE, 9]
