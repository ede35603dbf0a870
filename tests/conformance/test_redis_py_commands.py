"""redis-py's own methods, which parse each reply in their way: strings, keys, server, connection.

What the commands mean is compared with a real server by `tests.differential`; here it is the shape
that a library expects, in both protocols.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest
import redis

pytestmark = pytest.mark.cluster

Address = tuple[str, int]
LATER_SECONDS = 4_000_000_000


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(address: Address, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with redis.Redis(host=address[0], port=address[1], protocol=request.param) as made:
        yield made


# --- strings --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Call to deprecated")
def test_set_with_a_lifetime_by_the_older_commands(client: redis.Redis, key: str) -> None:
    assert client.setex(key, 100, "a") is True
    assert client.psetex(key, 100_000, "b") is True
    assert client.setnx(key, "c") is False
    assert 0 < client.ttl(key) <= 100


def test_getex_getdel_and_getset(client: redis.Redis, key: str) -> None:
    assert client.getset(key, "a") is None
    assert client.getex(key, ex=100) == b"a"
    assert client.ttl(key) > 0
    assert client.getex(key, persist=True) == b"a"
    assert client.ttl(key) == -1
    assert client.getdel(key) == b"a"
    assert client.getdel(key) is None


def test_msetnx_writes_all_or_nothing(client: redis.Redis, key: str) -> None:
    assert client.msetnx({f"{key}:a": 1, f"{key}:b": 2}) in (True, 1)
    assert client.msetnx({f"{key}:b": 3, f"{key}:c": 4}) in (False, 0)
    assert client.mget(f"{key}:a", f"{key}:b", f"{key}:c") == [b"1", b"2", None]


def test_incrbyfloat_is_a_float(client: redis.Redis, key: str) -> None:
    client.set(key, "10.50")
    assert client.incrbyfloat(key, 0.1) == pytest.approx(10.6)
    assert client.get(key) == b"10.6"


def test_ranges_of_a_string(client: redis.Redis, key: str) -> None:
    client.set(key, "Hello World")
    assert client.getrange(key, -5, -1) == b"World"
    assert client.setrange(key, 6, "Redis") == 11
    assert client.substr(key, 6, 10) == b"Redis"
    assert client.setrange(f"{key}:absent", 3, "x") == 4
    assert client.get(f"{key}:absent") == b"\0\0\0x"


def test_the_longest_common_subsequence(client: redis.Redis, key: str) -> None:
    client.mset({f"{key}:a": "ohmytext", f"{key}:b": "mynewtext"})
    assert client.lcs(f"{key}:a", f"{key}:b") == b"mytext"
    assert client.lcs(f"{key}:a", f"{key}:b", len=True) == 6
    assert client.lcs(f"{key}:a", f"{key}:b", idx=True, withmatchlen=True)


# --- keys -----------------------------------------------------------------------------------------


def test_rename_and_copy_take_the_deadline_along(client: redis.Redis, key: str) -> None:
    client.set(key, "v", exat=LATER_SECONDS)
    assert client.rename(key, f"{key}:b") is True
    assert client.renamenx(f"{key}:b", f"{key}:b") is False
    assert client.copy(f"{key}:b", key) is True
    assert client.expiretime(key) == LATER_SECONDS
    assert client.pexpiretime(f"{key}:b") == LATER_SECONDS * 1000
    with pytest.raises(redis.ResponseError, match="no such key"):
        client.rename(f"{key}:absent", key)


def test_deadlines_take_dates_and_conditions(client: redis.Redis, key: str) -> None:
    client.set(key, "v")
    date = datetime.fromtimestamp(LATER_SECONDS).astimezone()
    assert client.expireat(key, date) is True
    assert client.expireat(key, LATER_SECONDS - 1, gt=True) is False
    assert client.pexpireat(key, (LATER_SECONDS - 1) * 1000, lt=True) is True
    assert client.expiretime(key) == LATER_SECONDS - 1


def test_touch_and_unlink_count(client: redis.Redis, key: str) -> None:
    client.mset({f"{key}:a": 1, f"{key}:b": 2})
    assert client.touch(f"{key}:a", f"{key}:b", f"{key}:c") == 2
    assert client.unlink(f"{key}:a", f"{key}:b", f"{key}:c") == 2


def test_a_random_key_is_one_that_exists(client: redis.Redis, key: str) -> None:
    client.set(key, "v")
    chosen = client.randomkey()
    assert chosen is not None
    assert client.exists(chosen) == 1


def test_a_key_moves_between_databases(client: redis.Redis, address: Address, key: str) -> None:
    client.set(key, "v")
    assert client.move(key, 8) in (True, 1)
    assert client.exists(key) == 0
    with redis.Redis(host=address[0], port=address[1], db=8) as eighth:
        assert eighth.getdel(key) == b"v"


def test_encodings_are_those_of_redis(client: redis.Redis, key: str) -> None:
    for value, encoding in (("12", b"int"), ("short", b"embstr"), ("x" * 100, b"raw")):
        client.set(key, value)
        assert client.object("encoding", key) == encoding
    assert client.object("refcount", key) >= 1
    assert client.object("idletime", key) >= 0


# --- server ---------------------------------------------------------------------------------------


def test_memory_usage_grows_with_the_value(client: redis.Redis, key: str) -> None:
    client.mset({f"{key}:a": "x", f"{key}:b": "x" * 10_000})
    small, large = client.memory_usage(f"{key}:a"), client.memory_usage(f"{key}:b")
    assert 0 < small < 10_000 < large
    assert client.memory_usage(f"{key}:absent") is None


def test_slow_log_is_a_list_with_a_length(client: redis.Redis) -> None:
    assert isinstance(client.slowlog_get(5), list)
    assert client.slowlog_len() >= 0
    assert client.slowlog_reset() is True


def test_role_names_master_or_replica(client: redis.Redis) -> None:
    assert client.role()[0] in (b"master", b"slave", "master", "slave")


def test_wait_counts_nodes_that_have_the_write(client: redis.Redis, key: str) -> None:
    client.set(key, "v")
    assert client.wait(0, 1000) >= 0


def test_the_last_save_is_a_date(client: redis.Redis) -> None:
    assert isinstance(client.lastsave(), datetime)


def test_latency_and_memory_reports_are_there(client: redis.Redis) -> None:
    assert isinstance(client.latency_latest(), list)
    assert isinstance(client.latency_history("command"), list)
    assert isinstance(client.memory_stats(), dict)


def test_every_section_of_info_is_parsed(client: redis.Redis) -> None:
    everything = client.info("everything")
    assert everything["uptime_in_seconds"] >= 0
    assert everything["connected_clients"] >= 1
    assert "used_memory" in everything
    assert "total_commands_processed" in everything


def test_commands_are_described(client: redis.Redis) -> None:
    described = client.command()
    assert described["get"]["arity"] == 2
    assert client.command_getkeys("MSET", "a", "1", "b", "2") in ([b"a", b"b"], ["a", "b"])


# --- connections ----------------------------------------------------------------------------------


def test_one_client_kills_another(client: redis.Redis, address: Address) -> None:
    with redis.Redis(host=address[0], port=address[1], retry=None) as other:
        pinned = other.client()
        assert client.client_kill_filter(_id=str(pinned.client_id())) == 1
        with pytest.raises(redis.ConnectionError):
            pinned.ping()


def test_pause_and_unpause_answer(client: redis.Redis) -> None:
    assert client.client_pause(1) is True
    assert client.client_unpause() in (True, b"OK", "OK")
    assert client.ping() is True


def test_unblock_of_a_client_that_does_not_wait_says_so(client: redis.Redis) -> None:
    assert not client.client_unblock(client.client_id())
