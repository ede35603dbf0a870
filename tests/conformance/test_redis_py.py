"""redis-py with its default protocol, against every node."""

from __future__ import annotations

import pytest
import redis

pytestmark = pytest.mark.cluster

Address = tuple[str, int]


def test_what_was_set_is_read_back(client: redis.Redis, key: str) -> None:
    assert client.set(key, "value") is True
    assert client.get(key) == b"value"


def test_an_absent_key_reads_as_none(client: redis.Redis, key: str) -> None:
    assert client.get(key) is None


def test_binary_values_come_back_unchanged(client: redis.Redis, key: str) -> None:
    value = bytes(range(256)) * 64 + b"\r\n$-1\r\n"
    client.set(key, value)
    assert client.get(key) == value


def test_a_megabyte_comes_back_unchanged(client: redis.Redis, key: str) -> None:
    value = b"\0" * (1 << 20)
    client.set(key, value)
    assert client.get(key) == value


def test_a_write_is_read_at_once_through_every_other_node(
    client: redis.Redis, other_addresses: list[Address], key: str
) -> None:
    for number in range(20):
        client.set(key, number)
        for host, port in other_addresses:
            with redis.Redis(host=host, port=port) as other:
                assert other.get(key) == str(number).encode()


def test_set_nx_writes_an_absent_key_only(client: redis.Redis, key: str) -> None:
    assert client.set(key, "first", nx=True) is True
    assert client.set(key, "second", nx=True) is None
    assert client.get(key) == b"first"


def test_set_xx_writes_a_present_key_only(client: redis.Redis, key: str) -> None:
    assert client.set(key, "first", xx=True) is None
    assert client.get(key) is None


def test_set_get_answers_the_old_value(client: redis.Redis, key: str) -> None:
    assert client.set(key, "old", get=True) is None
    assert client.set(key, "new", get=True) == b"old"


def test_increments_count(client: redis.Redis, key: str) -> None:
    assert client.incr(key) == 1
    assert client.incrby(key, 41) == 42
    assert client.decr(key) == 41
    assert client.decrby(key, 40) == 1


def test_an_increment_of_text_is_refused_with_redis_words(client: redis.Redis, key: str) -> None:
    client.set(key, "text")
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        client.incr(key)


def test_an_increment_past_64_bits_is_refused(client: redis.Redis, key: str) -> None:
    client.set(key, 2**63 - 1)
    with pytest.raises(redis.ResponseError, match="increment or decrement would overflow"):
        client.incr(key)


def test_append_and_strlen(client: redis.Redis, key: str) -> None:
    assert client.append(key, "ab") == 2
    assert client.append(key, "cd") == 4
    assert client.strlen(key) == 4
    assert client.get(key) == b"abcd"


def test_mset_and_mget_keep_their_order(client: redis.Redis, key: str) -> None:
    assert client.mset({f"{key}:a": "1", f"{key}:b": "2"}) is True
    assert client.mget([f"{key}:b", f"{key}:none", f"{key}:a"]) == [b"2", None, b"1"]


def test_delete_and_exists_count_keys(client: redis.Redis, key: str) -> None:
    client.mset({f"{key}:a": "1", f"{key}:b": "2"})
    assert client.exists(f"{key}:a", f"{key}:b", f"{key}:a", f"{key}:c") == 3
    assert client.delete(f"{key}:a", f"{key}:c") == 1
    assert client.exists(f"{key}:a") == 0


def test_type_tells_string_and_none(client: redis.Redis, key: str) -> None:
    client.set(key, "value")
    assert client.type(key) == b"string"
    assert client.type(f"{key}:absent") == b"none"


def test_ttl_tells_absent_eternal_and_mortal_keys_apart(client: redis.Redis, key: str) -> None:
    assert client.ttl(key) == -2
    client.set(key, "value")
    assert client.ttl(key) == -1
    assert client.expire(key, 100) is True
    assert 98 <= client.ttl(key) <= 100
    assert 98_000 <= client.pttl(key) <= 100_000
    assert client.persist(key) is True
    assert client.ttl(key) == -1


def test_a_plain_set_drops_the_deadline_and_keepttl_does_not(client: redis.Redis, key: str) -> None:
    client.set(key, "value", ex=100)
    client.set(key, "value", keepttl=True)
    assert client.ttl(key) > 0
    client.set(key, "value")
    assert client.ttl(key) == -1


def test_a_deadline_in_the_past_deletes(client: redis.Redis, key: str) -> None:
    client.set(key, "value")
    assert client.expire(key, -1) is True
    assert client.exists(key) == 0


def test_a_key_is_gone_after_its_deadline(client: redis.Redis, key: str) -> None:
    client.set(key, "value", px=30)
    # Polling until it is gone: the test says that it goes, not when.
    while client.get(key) is not None:
        assert client.pttl(key) <= 30
    assert client.ttl(key) == -2


def test_expire_of_an_absent_key_answers_no(client: redis.Redis, key: str) -> None:
    assert client.expire(key, 10) is False


def test_a_zero_expire_time_in_set_is_refused(client: redis.Redis, key: str) -> None:
    with pytest.raises(redis.ResponseError, match="invalid expire time in 'set' command"):
        client.set(key, "value", ex=0)


def test_keys_and_scan_find_the_same(client: redis.Redis, key: str) -> None:
    wanted = {f"{key}:{i}".encode() for i in range(50)}
    client.mset(dict.fromkeys(wanted, "x"))
    assert set(client.keys(f"{key}:*")) == wanted
    assert set(client.scan_iter(match=f"{key}:*", count=7)) == wanted


def test_a_scan_begun_on_one_node_ends_on_another(
    client: redis.Redis, other_addresses: list[Address], key: str
) -> None:
    wanted = {f"{key}:{i}".encode() for i in range(50)}
    client.mset(dict.fromkeys(wanted, "x"))
    cursor, found = client.scan(0, match=f"{key}:*", count=10)
    seen = set(found)
    host, port = other_addresses[0]
    with redis.Redis(host=host, port=port) as other:
        while cursor:
            cursor, found = other.scan(cursor, match=f"{key}:*", count=10)
            seen.update(found)
    assert seen == wanted


def test_databases_are_apart(client: redis.Redis, address: Address, key: str) -> None:
    client.set(key, "zero")
    with redis.Redis(host=address[0], port=address[1], db=9) as ninth:
        assert ninth.get(key) is None
        ninth.set(key, "nine")
        assert ninth.dbsize() >= 1
        assert ninth.flushdb() is True
        assert ninth.dbsize() == 0
    assert client.get(key) == b"zero"


def test_a_database_that_does_not_exist_is_refused(address: Address) -> None:
    with (
        redis.Redis(host=address[0], port=address[1], db=999) as outside,
        pytest.raises(redis.ResponseError, match="DB index is out of range"),
    ):
        outside.ping()


def test_a_pipeline_answers_in_order(client: redis.Redis, key: str) -> None:
    pipeline = client.pipeline(transaction=False)
    for number in range(500):
        pipeline.set(f"{key}:{number}", number)
        pipeline.get(f"{key}:{number}")
        pipeline.incr(key)
    answers = pipeline.execute()
    assert answers[1::3] == [str(n).encode() for n in range(500)]
    assert answers[2::3] == list(range(1, 501))


def test_one_error_in_a_pipeline_spoils_no_other_answer(client: redis.Redis, key: str) -> None:
    pipeline = client.pipeline(transaction=False)
    pipeline.set(key, "text")
    pipeline.incr(key)
    pipeline.get(key)
    first, second, third = pipeline.execute(raise_on_error=False)
    assert (first, third) == (True, b"text")
    assert isinstance(second, redis.ResponseError)


def test_a_transaction_runs_as_one(client: redis.Redis, key: str) -> None:
    with client.pipeline() as transaction:
        transaction.set(key, "1").incr(key).get(key)
        assert transaction.execute() == [True, 2, b"2"]


def test_an_error_inside_a_transaction_rolls_nothing_back(client: redis.Redis, key: str) -> None:
    with client.pipeline() as transaction:
        transaction.set(key, "text").incr(key).append(key, "!")
        answers = transaction.execute(raise_on_error=False)
    assert isinstance(answers[1], redis.ResponseError)
    assert client.get(key) == b"text!"


def test_a_watched_key_that_changed_aborts(
    client: redis.Redis, other_addresses: list[Address], key: str
) -> None:
    client.set(key, "before")
    host, port = other_addresses[0]
    with redis.Redis(host=host, port=port) as other, client.pipeline() as transaction:
        transaction.watch(key)
        other.set(key, "meanwhile")
        transaction.multi()
        transaction.set(key, "after")
        with pytest.raises(redis.WatchError):
            transaction.execute()
    assert client.get(key) == b"meanwhile"


def test_a_watched_key_that_stayed_commits(client: redis.Redis, key: str) -> None:
    client.set(key, "before")
    with client.pipeline() as transaction:
        transaction.watch(key)
        before = transaction.get(key)
        transaction.multi()
        transaction.set(key, before + b" and after")
        assert transaction.execute() == [True]
    assert client.get(key) == b"before and after"


def test_unwatch_forgets(client: redis.Redis, key: str) -> None:
    with client.pipeline() as transaction:
        transaction.watch(key)
        client.set(key, "meanwhile")
        transaction.unwatch()
        transaction.multi()
        transaction.set(key, "after")
        assert transaction.execute() == [True]


def test_an_error_while_queueing_aborts_the_transaction(client: redis.Redis, key: str) -> None:
    with client.pipeline() as transaction:
        transaction.set(key, "value")
        transaction.execute_command("GET")
        with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
            transaction.execute()
    assert client.get(key) is None


def test_an_unknown_command_is_named(client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError, match="unknown command 'NOSUCH'"):
        client.execute_command("NOSUCH", "a", "b")


def test_a_wrong_number_of_arguments_is_named(client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError, match="wrong number of arguments for 'get' command"):
        client.execute_command("GET")


def test_nonsense_options_are_a_syntax_error(client: redis.Redis, key: str) -> None:
    with pytest.raises(redis.ResponseError, match="syntax error"):
        client.execute_command("SET", key, "value", "NX", "XX")


def test_an_error_leaves_the_connection_usable(client: redis.Redis, key: str) -> None:
    with client.client() as single:
        with pytest.raises(redis.ResponseError):
            single.execute_command("NOSUCH")
        assert single.ping() is True


def test_time_is_now(client: redis.Redis) -> None:
    seconds, microseconds = client.time()
    assert seconds > 1_600_000_000
    assert 0 <= microseconds < 1_000_000


def test_ping_and_echo(client: redis.Redis) -> None:
    assert client.ping() is True
    assert client.echo("hello") == b"hello"


def test_info_carries_what_tools_look_for(client: redis.Redis) -> None:
    info = client.info()
    assert int(str(info["redis_version"]).split(".")[0]) >= 7
    assert info["redis_mode"] == "standalone"
    assert info["loading"] == 0
    assert info["role"] in {"master", "slave"}
    assert info["maxmemory_policy"] == "noeviction"


def test_client_names_and_ids(client: redis.Redis) -> None:
    with client.client() as single:
        assert single.client_id() > 0
        assert single.client_setname("tester") is True
        assert single.client_getname() in {"tester", b"tester"}
        assert any(row["name"] == "tester" for row in single.client_list())


def test_config_get_answers_patterns(client: redis.Redis) -> None:
    assert "databases" in client.config_get("data*")


def test_command_count_counts(client: redis.Redis) -> None:
    assert client.command_count() > 40


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_work(address: Address, key: str, protocol: int) -> None:
    with redis.Redis(host=address[0], port=address[1], protocol=protocol) as made:
        assert made.set(key, "value") is True
        assert made.get(key) == b"value"
        assert made.get(f"{key}:absent") is None
        assert made.mget([key, f"{key}:absent"]) == [b"value", None]
