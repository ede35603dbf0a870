"""Single values: what their parsers take, and what they refuse in one sentence."""

from __future__ import annotations

import pytest

from kvnode.address import Address, parse_address, parse_listen
from kvnode.config.values import parse_cluster, parse_duration_ms, parse_election, parse_threshold
from kvnode.identity import cluster_number, default_cluster_id, node_id


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:6379", "127.0.0.1", 6379),
        ("[::1]:6379", "::1", 6379),
        ("kvnode-0.kvnode.svc:7379", "kvnode-0.kvnode.svc", 7379),
    ],
)
def test_an_address_reads_and_writes_the_same(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "6379", "host", "host:", ":6379", "::1:6379", "h:0", "h:65536", "h:1x", "a b:1", "h:٣"],
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|HOST:PORT|brackets"):
        parse_address(text)


def test_port_zero_is_any_free_port_for_listeners_only() -> None:
    assert parse_listen("127.0.0.1:0").port == 0
    with pytest.raises(ValueError, match="from 1 to 65535"):
        parse_address("127.0.0.1:0")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_is_known(host: str) -> None:
    assert Address(host, 1).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.evil"])
def test_what_may_be_reached_from_elsewhere_is_not_loopback(host: str) -> None:
    assert not Address(host, 1).is_loopback


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("1ms", 1), ("100ms", 100), ("1s", 1000), ("1.5s", 1500), ("1.1s", 1100), ("2m", 120_000)],
)
def test_durations_are_whole_milliseconds(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    "text", ["", "0ms", "0s", "-1s", "100", "1h", "1.5ms", "1 s", "61m", "1e3s"]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|milliseconds"):
        parse_duration_ms(text)


@pytest.mark.parametrize("text", ["500ms", "1000ms-500ms", "500ms-500ms", "500-1000", "a-b"])
def test_an_election_range_must_grow(text: str) -> None:
    with pytest.raises(ValueError, match=r"range|duration"):
        parse_election(text)


@pytest.mark.parametrize(
    ("text", "threshold"), [("0", 0), ("1", 2**20), ("512", 512 * 2**20), ("auto", "auto")]
)
def test_a_memory_threshold_is_given_in_mebibytes(text: str, threshold: int | str) -> None:
    assert parse_threshold(text) == threshold


@pytest.mark.parametrize("text", ["-1", "1.5", "512MB", "off", "9" * 10, "1_000", "٣"])
def test_a_senseless_memory_threshold_is_an_error_and_not_off(text: str) -> None:
    with pytest.raises(ValueError, match="MiB"):
        parse_threshold(text)


def test_members_keep_their_order() -> None:
    assert list(parse_cluster("b=h:1, a=h:2,c=h:3")) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "NAME=HOST:PORT"),
        ("n1", "NAME=HOST:PORT"),
        ("n1=h:1,", "NAME=HOST:PORT"),
        ("n1=h:1,n1=h:2", "two members are called 'n1'"),
        ("n1=h:1,n2=h:1", "two members have the address h:1"),
        ("-n=h:1", "is not a name"),
        ("n1=h:0", "port"),
        (",".join(f"n{i}=h:{i}" for i in range(1, 33)), "at most 31"),
    ],
)
def test_a_wrong_cluster_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_cluster(text)


def test_the_default_cluster_id_ignores_the_order_of_the_members() -> None:
    one, two = parse_cluster("a=h:1,b=h:2"), parse_cluster("b=h:2,a=h:1")
    assert default_cluster_id(one) == default_cluster_id(two)
    assert default_cluster_id(one) != default_cluster_id(parse_cluster("a=h:1,b=h:3"))


def test_ids_never_change_between_versions() -> None:
    # Written down from the first version: a directory made then must open now.
    assert default_cluster_id(parse_cluster("n1=127.0.0.1:1,n2=127.0.0.1:2")) == (
        "53dcc6d6c02aa040"
    )
    assert node_id("53dcc6d6c02aa040", "n1") == 0xDC2C6E364BBD4009
    assert cluster_number("demo") == 0x8CF40C6846431C20


def test_a_cluster_id_of_sixteen_hex_digits_stands_for_itself() -> None:
    assert cluster_number("00000000000000ff") == 255
    assert cluster_number("0" * 16) == 1, "zero means nobody"
