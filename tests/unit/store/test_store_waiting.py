"""Who waits is served in order, once; what nobody fetched goes back to where it was."""

from __future__ import annotations

import random
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from kvnode.store import batch, ops, waiting
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import Resolution
from kvnode.store.redis.messages import WRONG_TYPE
from kvnode.store.redis.stream_ids import TOP
from kvnode.store.reply import ASK_AGAIN, GONE, KEPT
from kvnode.store.scores import pack_score
from tests.unit.store.driver import NODE, Driver

if TYPE_CHECKING:
    from kvnode.store.ops import Op
    from kvnode.store.reply import Result
    from kvnode.store.state_machine import Applied

LEFT, RIGHT = 0, 1
OTHER = NODE + 1


class Nodes:
    """Two nodes with clients that wait."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.sessions: dict[int, list[int]] = {}
        self.nonce = 0
        self.served: list[tuple[int, int]] = []
        self.found: list[tuple[object, Result]] = []
        for node_id in (NODE, OTHER):
            self.register(node_id)

    def register(self, node_id: int) -> None:
        self.nonce += 1
        data = batch.encode_register(self.driver.now_ms, 0, node_id, node_id, self.nonce)
        applied = self.driver.append(data)
        self.sessions[node_id] = [applied.incarnation, 0]
        self._note(applied)

    def batch(self, node_id: int, *operations: Op) -> list[Any]:
        session = self.sessions[node_id]
        session[1] += 1
        blob = batch.encode_ops(list(operations))
        applied = self.driver.append(
            batch.encode_batch(self.driver.now_ms, 0, node_id, session[0], session[1], blob)
        )
        self._note(applied)
        assert applied.results is not None
        return applied.results

    def _note(self, applied: Applied) -> None:
        if applied.news is not None:
            self.served += applied.news.served
            self.found += applied.news.found

    def do(self, *op: Any, node: int = NODE) -> Result:
        result: Result = self.batch(node, list(op))[0]
        return result

    def pop(
        self, number: int, *keys: bytes, node: int = NODE, side: int = LEFT, count: int = 1
    ) -> Result:
        return self.do(ops.BLOCK, 0, number, [ops.LMPOP, 0, side, count, *keys], node=node)

    def move(self, number: int, source: bytes, target: bytes, node: int = NODE) -> Result:
        return self.do(ops.BLOCK, 0, number, [ops.LMOVE, 0, source, target, LEFT, RIGHT], node=node)

    def resolve(self, number: int, resolution: Resolution, node: int = NODE) -> Result:
        return self.do(ops.RESOLVE, 0, number, int(resolution), node=node)

    def claim(self, number: int, node: int = NODE) -> Result:
        return self.resolve(number, Resolution.CLAIM, node)

    def push(self, key: bytes, *elements: bytes, db: int = 0) -> Result:
        return self.do(ops.LIST_PUSH, db, key, RIGHT, 0, *elements)

    def list(self, key: bytes, db: int = 0) -> Result:
        return self.driver.read(ops.LRANGE, db, key, 0, -1)


@pytest.fixture
def nodes(driver: Driver) -> Nodes:
    return Nodes(driver)


def test_what_is_there_is_answered_at_once(nodes: Nodes) -> None:
    nodes.push(b"q", b"1", b"2")
    assert nodes.pop(1, b"none", b"q") == [b"q", [b"1"]]
    assert nodes.move(2, b"q", b"r") == b"2"
    assert nodes.driver.machine.nodes_with_waiters() == []


def test_who_came_first_is_served_first_wherever_it_is_connected(nodes: Nodes) -> None:
    arrivals = [(OTHER, 5), (NODE, 3), (NODE, 2), (OTHER, 1)]
    for node, number in arrivals:
        assert nodes.pop(number, b"q", node=node) is KEPT
    nodes.push(b"q", b"a", b"b", b"c")
    assert nodes.served == arrivals[:3]
    taken = [nodes.claim(number, node) for node, number in arrivals]
    assert taken == [[b"q", [b"a"]], [b"q", [b"b"]], [b"q", [b"c"]], KEPT]
    assert nodes.list(b"q") == []


def test_a_result_is_given_once(nodes: Nodes) -> None:
    nodes.pop(1, b"q")
    nodes.push(b"q", b"a")
    assert nodes.claim(1) == [b"q", [b"a"]]
    assert nodes.claim(1) is GONE
    assert nodes.resolve(1, Resolution.OVER) is GONE


def test_a_number_means_a_waiter_of_its_own_node(nodes: Nodes) -> None:
    nodes.pop(1, b"q")
    nodes.push(b"q", b"a")
    assert nodes.claim(1, OTHER) is GONE
    assert nodes.claim(1) == [b"q", [b"a"]]


def test_whose_time_is_over_gets_what_it_has_in_hand_or_nil(nodes: Nodes) -> None:
    nodes.pop(1, b"q")
    nodes.pop(2, b"q")
    nodes.push(b"q", b"a")
    assert nodes.resolve(1, Resolution.OVER) == [b"q", [b"a"]]
    assert nodes.resolve(2, Resolution.OVER) is None
    nodes.push(b"q", b"b")
    assert nodes.list(b"q") == [b"b"]


def test_who_left_unserved_is_passed_over(nodes: Nodes) -> None:
    nodes.pop(1, b"q")
    nodes.pop(2, b"q")
    assert nodes.resolve(1, Resolution.LEAVE) is None
    nodes.push(b"q", b"a")
    assert nodes.claim(2) == [b"q", [b"a"]]


@pytest.mark.parametrize(("side", "expected"), [(LEFT, b"abcd"), (RIGHT, b"abcd")])
def test_what_was_popped_goes_back_to_the_end_it_came_from(
    nodes: Nodes, side: int, expected: bytes
) -> None:
    nodes.pop(1, b"q", side=side, count=2)
    nodes.push(b"q", b"a", b"b", b"c", b"d")
    assert nodes.resolve(1, Resolution.LEAVE) is None
    assert nodes.list(b"q") == [bytes([letter]) for letter in expected]


def test_what_was_popped_for_who_left_goes_to_the_next(nodes: Nodes) -> None:
    nodes.pop(1, b"q")
    nodes.pop(2, b"q", node=OTHER)
    nodes.push(b"q", b"a")
    nodes.resolve(1, Resolution.LEAVE)
    assert nodes.claim(2, OTHER) == [b"q", [b"a"]]


def test_all_that_a_node_had_in_hand_is_put_back_in_its_order(nodes: Nodes) -> None:
    for number in range(1, 5):
        nodes.pop(number, b"q", node=OTHER)
    nodes.push(b"q", b"a", b"b", b"c")
    assert nodes.do(ops.ABANDON, 0, OTHER, 10) == 4
    assert nodes.list(b"q") == [b"a", b"b", b"c"]
    assert nodes.driver.machine.nodes_with_waiters() == []


def test_a_node_is_abandoned_some_clients_at_a_time(nodes: Nodes) -> None:
    for number in range(1, 6):
        nodes.pop(number, b"q", node=OTHER)
    nodes.push(b"q", b"a", b"b")
    went = [nodes.do(ops.ABANDON, 0, OTHER, 2) for _ in range(4)]
    assert went == [2, 2, 1, 0]
    assert nodes.list(b"q") == [b"a", b"b"]


def test_who_starts_again_has_nobody_waiting(nodes: Nodes) -> None:
    nodes.pop(1, b"q", node=OTHER)
    nodes.pop(1, b"q")
    nodes.push(b"q", b"a")
    nodes.register(OTHER)
    assert nodes.claim(1) == [b"q", [b"a"]]
    assert nodes.claim(1, OTHER) is GONE


def test_a_push_is_undone_by_nobody(nodes: Nodes) -> None:
    """Once claimed, an element is its client's: a later abandonment changes nothing."""
    nodes.pop(1, b"q", node=OTHER)
    nodes.push(b"q", b"a")
    nodes.claim(1, OTHER)
    nodes.do(ops.ABANDON, 0, OTHER, 10)
    assert nodes.list(b"q") == []


def test_waiters_are_served_after_the_whole_of_an_exec(nodes: Nodes) -> None:
    nodes.pop(1, b"q")
    push = [ops.LIST_PUSH, 0, b"q", RIGHT, 0, b"a"]
    results = nodes.do(ops.EXEC, 0, [], [push, [ops.DEL, 0, b"q"]])
    assert (results, nodes.claim(1)) == ([1, 1], KEPT)
    results = nodes.do(ops.EXEC, 0, [], [push, push])
    assert (results, nodes.claim(1)) == ([1, 2], [b"q", [b"a"]])


def test_the_key_that_was_stored_first_serves(nodes: Nodes) -> None:
    nodes.pop(1, b"q", b"r")
    pushes = [[ops.LIST_PUSH, 0, key, RIGHT, 0, key] for key in (b"r", b"q")]
    nodes.do(ops.EXEC, 0, [], pushes)
    assert nodes.claim(1) == [b"r", [b"r"]]
    assert nodes.list(b"q") == [b"q"]


@pytest.mark.parametrize(
    "op",
    [
        [ops.RENAME, 0, b"full", b"q", 0],
        [ops.COPY, 0, b"full", 0, b"q", 0],
        [ops.MOVE, 1, b"q", 0],
        [ops.SWAPDB, 0, 0, 1],
    ],
)
def test_a_list_that_comes_in_any_way_serves(nodes: Nodes, op: Op) -> None:
    nodes.push(b"full", b"a")
    nodes.push(b"q", b"a", db=1)
    nodes.pop(1, b"q")
    nodes.do(*op)
    assert nodes.claim(1) == [b"q", [b"a"]]


def test_a_key_of_another_kind_is_an_error_at_once_and_later_no_reason_to_go(
    nodes: Nodes,
) -> None:
    nodes.do(ops.SET, 0, b"s", b"x")
    assert getattr(nodes.pop(1, b"none", b"s"), "text", None) == WRONG_TYPE
    assert nodes.pop(2, b"q") is KEPT
    nodes.do(ops.SET, 0, b"q", b"x")
    assert nodes.claim(2) is KEPT
    nodes.do(ops.DEL, 0, b"q")
    nodes.push(b"q", b"a")
    assert nodes.claim(2) == [b"q", [b"a"]]


def test_a_move_serves_who_waits_for_its_target(nodes: Nodes) -> None:
    nodes.pop(1, b"c")
    nodes.move(2, b"b", b"c", OTHER)
    nodes.move(3, b"a", b"b")
    nodes.push(b"a", b"x")
    assert nodes.served == [(NODE, 3), (OTHER, 2), (NODE, 1)]
    assert [nodes.claim(3), nodes.claim(2, OTHER), nodes.claim(1)] == [b"x", b"x", [b"c", [b"x"]]]


def test_a_move_to_a_key_of_another_kind_fails_and_leaves_the_element(nodes: Nodes) -> None:
    nodes.do(ops.SET, 0, b"s", b"x")
    nodes.move(1, b"q", b"s")
    nodes.pop(2, b"q")
    nodes.push(b"q", b"a")
    assert getattr(nodes.claim(1), "text", None) == WRONG_TYPE
    assert nodes.claim(2) == [b"q", [b"a"]]


def test_a_move_for_who_left_is_undone_unless_somebody_took_the_element(nodes: Nodes) -> None:
    nodes.move(1, b"q", b"r")
    nodes.push(b"q", b"a")
    nodes.resolve(1, Resolution.LEAVE)
    assert (nodes.list(b"q"), nodes.list(b"r")) == ([b"a"], [])
    nodes.do(ops.DEL, 0, b"q")
    nodes.move(2, b"q", b"r")
    nodes.push(b"q", b"b")
    nodes.do(ops.LIST_POP, 0, b"r", LEFT, None)
    nodes.push(b"r", b"other")
    nodes.resolve(2, Resolution.LEAVE)
    assert (nodes.list(b"q"), nodes.list(b"r")) == ([], [b"other"])


def test_members_go_back_with_their_scores_unless_they_have_another(nodes: Nodes) -> None:
    nodes.do(ops.BLOCK, 0, 1, [ops.ZMPOP, 0, 0, 2, b"z"])
    scores = pack_score(1.5), pack_score(-inf), pack_score(7.0)
    nodes.do(ops.ZADD, 0, b"z", 0, scores[0], b"a", scores[1], b"b", scores[2], b"c")
    nodes.do(ops.ZADD, 0, b"z", 0, pack_score(9.0), b"a")
    nodes.resolve(1, Resolution.LEAVE)
    shown = [nodes.driver.read(ops.ZSCORE, 0, b"z", member) for member in (b"a", b"b", b"c")]
    assert shown == [9.0, -inf, 7.0]


def test_a_waiter_of_a_sorted_set_has_its_scores_in_hand_after_a_crash(nodes: Nodes) -> None:
    nodes.do(ops.BLOCK, 0, 1, [ops.ZMPOP, 0, 1, 1, b"z"])
    nodes.do(ops.ZADD, 0, b"z", 0, pack_score(0.1), b"a")
    nodes.driver.machine.commit()
    nodes.driver.crash()
    nodes.driver.check()
    assert nodes.claim(1) == [b"z", [[b"a", 0.1]]]


def test_entries_for_who_left_stay_with_the_consumer(nodes: Nodes) -> None:
    """As with any consumer that goes: they are pending, and others may claim them."""
    nodes.do(ops.XGROUP_CREATE, 0, b"s", b"g", bytes(16), -1, 1)
    nodes.do(ops.BLOCK, 0, 1, [ops.XREADGROUP, 0, b"g", b"c", 0, 0, b"s", TOP])
    nodes.do(ops.XADD, 0, b"s", b"", 0, None, b"field", b"value")
    assert nodes.served == [(NODE, 1)]
    nodes.resolve(1, Resolution.LEAVE)
    again = nodes.do(ops.XREADGROUP, 0, b"g", b"c", 0, 0, b"s", bytes(16))
    assert isinstance(again, list)
    assert len(again[1]) == 1


def test_more_than_the_limit_is_refused(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "BLOCKED_CLIENTS_PER_NODE_MAX", 2)
    monkeypatch.setattr(waiting, "BLOCKED_CLIENTS_MAX", 3)
    assert [nodes.pop(number, b"q") for number in (1, 2)] == [KEPT, KEPT]
    assert nodes.pop(3, b"q") is waiting.TOO_MANY_HERE
    assert nodes.pop(1, b"q", node=OTHER) is KEPT
    assert nodes.pop(2, b"q", node=OTHER) is waiting.TOO_MANY
    nodes.push(b"full", b"a")
    assert nodes.pop(3, b"full") == [b"full", [b"a"]]


def test_the_keys_and_the_bytes_of_all_who_wait_are_bounded(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "BLOCKED_KEYS_MAX", 3)
    assert nodes.pop(1, b"a", b"b") is KEPT
    assert nodes.pop(2, b"a", b"b") is waiting.TOO_MANY_KEYS
    assert nodes.pop(2, b"a") is KEPT
    nodes.resolve(1, Resolution.LEAVE)
    nodes.driver.machine.commit()
    nodes.driver.crash()
    monkeypatch.setattr(waiting, "BLOCKED_BYTES_MAX", 20)
    assert nodes.pop(3, b"a") is waiting.TOO_LARGE
    nodes.resolve(2, Resolution.LEAVE)
    assert nodes.pop(3, b"a", b"b", b"c") is KEPT


def test_a_client_that_waits_for_a_key_twice_is_served_once(nodes: Nodes) -> None:
    nodes.pop(1, b"q", b"q")
    nodes.push(b"q", b"a", b"b")
    assert (nodes.claim(1), nodes.list(b"q")) == ([b"q", [b"a"]], [b"b"])


def test_a_client_may_wait_for_very_many_keys(nodes: Nodes) -> None:
    keys = [b"k%d" % number for number in range(100_000)]
    assert nodes.pop(1, *keys) is KEPT
    nodes.push(keys[-1], b"a")
    assert nodes.claim(1) == [keys[-1], [b"a"]]
    assert nodes.driver.machine._space.awaited == set()


def test_who_was_loaded_from_another_engine_waits_on(nodes: Nodes) -> None:
    """A snapshot took the place of the store; what the node watches is watched on."""
    machine, other = nodes.driver.machine, MemoryEngine()
    nodes.pop(1, b"q")
    nodes.pop(2, b"q")
    nodes.push(b"q", b"a")
    machine.commit()
    for row in [*machine.live_rows(), (b"\x00", nodes.driver.engine.get(b"\x00"))]:
        other.put(*row)
    other.commit()
    watched = machine.watch(0, b"k", "token", [ops.GET, 0, b"k"])
    expected = machine.state_hash()
    nodes.driver.engine = other
    machine.adopt(other)
    assert machine.state_hash() == expected
    assert watched in machine._space.awaited
    assert nodes.claim(1) == [b"q", [b"a"]]
    nodes.push(b"q", b"b")
    assert nodes.claim(2) == [b"q", [b"b"]]


def test_waiters_survive_a_crash_and_are_in_the_hash(nodes: Nodes) -> None:
    driver = nodes.driver
    without = driver.machine.state_hash()
    nodes.pop(1, b"q")
    nodes.pop(2, b"q", node=OTHER)
    nodes.push(b"q", b"a")
    driver.machine.commit()
    nodes.move(3, b"q", b"r")
    expected = driver.machine.state_hash()
    driver.crash()
    driver.check()
    assert driver.machine.state_hash() == expected != without
    assert len([row for row, _ in driver.engine.rows(b"\x30", b"\x31")]) == 3
    nodes.push(b"q", b"b", b"c")
    assert [nodes.claim(1), nodes.claim(2, OTHER), nodes.claim(3)] == [
        [b"q", [b"a"]],
        [b"q", [b"b"]],
        b"c",
    ]


def test_the_rows_of_the_state_hold_the_waiters(nodes: Nodes) -> None:
    nodes.pop(1, b"q")
    nodes.driver.machine.commit()
    rows = list(nodes.driver.machine.live_rows())
    assert [row[:1] for row, _ in rows] == [b"\x30"]
    nodes.driver.engine.delete(rows[0][0])
    with pytest.raises(Exception, match="blocked clients"):
        list(nodes.driver.machine.live_rows())


def found_by(nodes: Nodes, *operations: Op) -> list[tuple[object, Result]]:
    """What the watches of this node find by one batch of it."""
    nodes.found.clear()
    nodes.batch(NODE, *operations)
    return nodes.found


def test_who_was_found_something_is_not_looked_for_again_before_it_was_told(nodes: Nodes) -> None:
    machine = nodes.driver.machine
    machine.watch(0, b"k", "token", [ops.GET, 0, b"k"])
    first, second = [ops.SET, 0, b"k", b"v"], [ops.SET, 0, b"k", b"w"]
    assert found_by(nodes, first, second) == [("token", b"v")]
    assert found_by(nodes, first) == []
    machine.watch_on("token")
    assert found_by(nodes, second) == [("token", b"w")]


def test_different_questions_about_one_key_are_not_all_kept_in_memory(nodes: Nodes) -> None:
    machine = nodes.driver.machine
    machine.answer_for(NODE, 1000)
    for end in range(700, 704):
        machine.watch(0, b"k", end, [ops.GETRANGE, 0, b"k", 0, end - 1])
    machine.watch(0, b"k", "like 700", [ops.GETRANGE, 0, b"k", 0, 699])
    assert found_by(nodes, [ops.SET, 0, b"k", bytes(800)]) == [
        (700, bytes(700)),
        (701, bytes(701)),
        (702, ASK_AGAIN),
        (703, ASK_AGAIN),
        ("like 700", bytes(700)),
    ]


def test_what_a_node_watches_is_told_and_in_no_hash(nodes: Nodes) -> None:
    machine = nodes.driver.machine
    before = machine.state_hash()
    watched = machine.watch(0, b"k", "token", [ops.GET, 0, b"k"])
    assert machine.state_hash() == before
    applied = nodes.driver.append(
        batch.encode_batch(
            nodes.driver.now_ms,
            *(0, NODE, nodes.sessions[NODE][0], 1),
            batch.encode_ops([[ops.SET, 0, b"k", b"v"], [ops.DEL, 0, b"k"]]),
        )
    )
    assert applied.news is not None
    assert applied.news.found == [("token", b"v")]
    machine.unwatch(watched, "token")
    assert machine._space.awaited == set()


# --- against a model ------------------------------------------------------------------------------


class Model:
    """Lists and waiters as one would write them down at first, and the store beside them."""

    def __init__(self, nodes: Nodes, rng: random.Random) -> None:
        self.nodes = nodes
        self.rng = rng
        self.lists: dict[bytes, list[bytes]] = {key: [] for key in KEYS}
        self.waiting: dict[tuple[int, int], list[bytes]] = {}
        self.in_hand: dict[tuple[int, int], tuple[bytes, bytes]] = {}

    @property
    def clients(self) -> list[tuple[int, int]]:
        """By number, so in the order of arrival."""
        return sorted([*self.waiting, *self.in_hand], key=lambda who: who[1])

    def serve(self, *ready: bytes) -> None:
        for key in ready:
            for who, keys in list(self.waiting.items()):
                if key in keys and self.lists[key]:
                    del self.waiting[who]
                    self.in_hand[who] = key, self.lists[key].pop(0)

    def leave(self, *leaving: tuple[int, int]) -> None:
        ready = []
        for who in leaving:
            self.waiting.pop(who, None)
            if who in self.in_hand:
                key, element = self.in_hand.pop(who)
                self.lists[key].insert(0, element)
                ready.append(key)
        self.serve(*ready)

    def pop(self, node: int, number: int) -> None:
        wanted = self.rng.sample(KEYS, self.rng.randint(1, 3))
        result = self.nodes.pop(number, *wanted, node=node)
        found = next((key for key in wanted if self.lists[key]), None)
        if found is None:
            assert result is KEPT
            self.waiting[node, number] = wanted
        else:
            assert result == [found, [self.lists[found].pop(0)]]

    def push(self, number: int) -> None:
        key, element = self.rng.choice(KEYS), b"%d" % number
        self.nodes.push(key, element)
        self.lists[key].append(element)
        self.serve(key)

    def resolve(self, who: tuple[int, int]) -> None:
        resolution = self.rng.choice(list(Resolution))
        result = self.nodes.resolve(who[1], resolution, who[0])
        if resolution is Resolution.LEAVE:
            assert result is None
            self.leave(who)
        elif who in self.in_hand:
            key, element = self.in_hand.pop(who)
            assert result == [key, [element]]
        elif resolution is Resolution.OVER:
            assert result is None
            del self.waiting[who]
        else:
            assert result is KEPT

    def abandon(self, node: int) -> None:
        self.nodes.do(ops.ABANDON, 0, node, 1000)
        leaving = [who for who in reversed(self.clients) if who[0] == node]
        self.waiting = {who: keys for who, keys in self.waiting.items() if who not in leaving}
        self.leave(*leaving)

    def step(self, number: int) -> None:
        node, action = self.rng.choice((NODE, OTHER)), self.rng.random()
        if action < 0.35:
            self.pop(node, number)
        elif action < 0.7:
            self.push(number)
        elif action < 0.97 and self.clients:
            self.resolve(self.rng.choice(self.clients))
        else:
            self.abandon(node)


KEYS = [b"a", b"b", b"c"]


def test_any_history_is_that_of_a_simple_model(driver: Driver) -> None:
    """Every element is in one place, every waiter gets what it should; replicas agree."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    nodes = Nodes(driver)
    model = Model(nodes, rng)
    for number in range(400):
        model.step(number)
        if rng.random() < 0.02:
            driver.machine.commit()
        if rng.random() < 0.02:
            driver.crash()
            driver.check()
    assert [nodes.list(key) for key in KEYS] == list(model.lists.values())
    driver.check()
    again = Driver(MemoryEngine())
    again.engine, again.log = MemoryEngine(), list(driver.log)
    again.crash()
    assert again.machine.state_hash() == driver.machine.state_hash()
