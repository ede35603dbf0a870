"""The admin port: what each page says, and that nobody can hold it open or break it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kvnode import limits
from kvnode.address import Address
from kvnode.admin import AdminServer, Check, HeldSource, hold, respond
from kvnode.errors import ConfigurationError, LogCorrupt, ResourceBusy
from kvnode.service import ChangeAnswer, ChangeRequest

LOOPBACK = Address("127.0.0.1", 0)


class FakeSource:
    """A node as the tests want it."""

    def __init__(self) -> None:
        self.listed: list[Check] = [("log", True, ""), ("leader", True, "n1")]
        self.broken = False

    def checks(self) -> list[Check]:
        return self.listed

    def status(self) -> dict[str, Any]:
        if self.broken:
            raise RuntimeError("a bug")
        return {"node": "n1", "leader": "n1", "members": [{"name": "n1"}]}

    def hash(self, index: int | None, /) -> tuple[int, str] | None:
        return None if index == 404 else (7 if index is None else index, "00ff")

    def metrics(self) -> bytes:
        return b"kvnode_term 1.0\n"

    password: bytes | None = None

    def change(
        self, request: ChangeRequest, done: Callable[[ChangeAnswer], None], /
    ) -> Callable[[], None]:
        raise AssertionError(request)


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


# --- pages --------------------------------------------------------------------------------------


def test_a_node_whose_loop_turns_is_alive(source: FakeSource) -> None:
    source.listed = [("log", False, "")]
    assert respond(source, "GET", "/livez").status == 200


def test_a_node_is_ready_when_all_checks_pass(source: FakeSource) -> None:
    assert respond(source, "GET", "/readyz").status == 200
    assert respond(source, "GET", "/readyz").body == b"ok\n"
    source.listed.append(("recovering", False, "heals its log"))
    assert respond(source, "GET", "/readyz").status == 503


@pytest.mark.parametrize("target", ["/readyz?verbose", "/readyz?verbose=1"])
def test_verbose_readiness_lists_each_check(source: FakeSource, target: str) -> None:
    expected = b"[+]log ok\n[+]leader ok: n1\nreadyz check passed\n"
    assert respond(source, "GET", target).body == expected


def test_a_node_that_is_not_ready_says_why_unasked(source: FakeSource) -> None:
    source.listed = [("log", True, ""), ("leader", False, "none for 3 s")]
    body = respond(source, "GET", "/readyz").body
    assert body == b"[+]log ok\n[-]leader failed: none for 3 s\nreadyz check failed\n"


def test_metrics_are_given_as_they_are(source: FakeSource) -> None:
    answer = respond(source, "GET", "/metrics")
    assert answer.body == b"kvnode_term 1.0\n"
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_status_is_json(source: FakeSource) -> None:
    answer = respond(source, "GET", "/status")
    assert answer.content_type == "application/json"
    assert json.loads(answer.body) == source.status()


def test_the_members_are_a_page_of_their_own(source: FakeSource) -> None:
    answer = respond(source, "GET", "/members")
    assert answer.content_type == "application/json"
    assert json.loads(answer.body) == [{"name": "n1"}]


@pytest.mark.parametrize(("target", "index"), [("/hash", 7), ("/hash?index=42", 42)])
def test_the_state_hash_is_told_for_an_index_or_the_newest(
    source: FakeSource, target: str, index: int
) -> None:
    assert json.loads(respond(source, "GET", target).body) == {"index": index, "hash": "00ff"}


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/hash?index=404", 404),
        ("/hash?index=", 400),
        ("/hash?index=-1", 400),
        ("/hash?index=x", 400),
        ("/hash?index=" + "9" * 21, 400),
        ("/status?" + "&".join("a=1" for _ in range(9)), 400),
        ("/", 404),
        ("/livez/", 404),
        ("//livez", 404),
        ("/../etc/passwd", 404),
        ("//[", 404),
    ],
)
def test_a_wrong_request_has_a_clear_answer(source: FakeSource, target: str, status: int) -> None:
    answer = respond(source, "GET", target)
    assert answer.status == status
    assert answer.body.endswith(b"\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_pages_of_facts_change_nothing(source: FakeSource, method: str) -> None:
    assert respond(source, method, "/livez").status == 405


def test_a_page_that_cannot_be_built_is_logged_and_harms_nobody(
    source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    source.broken = True
    assert respond(source, "GET", "/status").status == 500
    assert caplog.records[0].exc_info is not None
    assert respond(source, "GET", "/livez").status == 200


# --- connections --------------------------------------------------------------------------------


@pytest.fixture
async def at(source: FakeSource) -> AsyncIterator[Address]:
    server = AdminServer(source)
    yield await server.start(LOOPBACK)
    server.close()


async def exchange(address: Address, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_request_is_answered_and_the_connection_closed(at: Address) -> None:
    answer = await exchange(at, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in head
    assert b"content-length: 3" in head
    assert body == b"ok\n"


async def test_a_head_request_has_no_body(at: Address) -> None:
    answer = await exchange(at, b"HEAD /livez HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"content-length: 3" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_refused_method_is_told_which_ones_are_not(at: Address) -> None:
    answer = await exchange(at, b"POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx")
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"allow: GET, HEAD\r\n" in answer


async def test_a_request_may_arrive_byte_by_byte(at: Address) -> None:
    reader, writer = await asyncio.open_connection(at.host, at.port)
    for byte in b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n":
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await reader.read()).endswith(b"ok\n")
    writer.close()


async def test_a_client_that_has_said_all_still_gets_its_answer(at: Address) -> None:
    reader, writer = await asyncio.open_connection(at.host, at.port)
    writer.write(b"GET /livez HTTP/1.0\r\n\r\n")
    writer.write_eof()
    assert (await reader.read()).endswith(b"ok\n")
    writer.close()


@pytest.mark.parametrize(
    "garbage",
    [b"*1\r\n$4\r\nPING\r\n\r\n", b"\0" * 50 + b"\r\n\r\n", b"GET /livez HTTP/1.1\r\n\r\n"],
)
async def test_what_is_not_http_is_a_bad_request(at: Address, garbage: bytes) -> None:
    assert (await exchange(at, garbage)).startswith(b"HTTP/1.1 400 ")


async def test_headers_without_end_are_refused(at: Address) -> None:
    endless = b"GET /livez HTTP/1.1\r\nx: " + b"a" * (limits.ADMIN_HEADER_BYTES_MAX + 1)
    assert (await exchange(at, endless)).startswith(b"HTTP/1.1 431 ")


async def test_a_slow_client_is_dropped_at_the_deadline(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ADMIN_REQUEST_TIMEOUT_MS", 1)
    server = AdminServer(source)
    at = await server.start(LOOPBACK)
    reader, writer = await asyncio.open_connection(at.host, at.port)
    with contextlib.suppress(ConnectionResetError):  # it may also arrive as an end of stream
        assert await reader.read() == b""
    writer.close()
    server.close()


async def test_one_connection_too_many_is_turned_away(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ADMIN_CONNECTIONS_MAX", 2)
    server = AdminServer(source)
    at = await server.start(LOOPBACK)
    held = [await asyncio.open_connection(at.host, at.port) for _ in range(2)]
    assert (await exchange(at, b"")).startswith(b"HTTP/1.1 503 ")
    held[0][1].write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await held[0][0].read()).endswith(b"ok\n"), "those who are in are served"
    for _, writer in held:
        writer.close()
    server.close()


async def test_an_end_frees_its_place(at: Address) -> None:
    for _ in range(limits.ADMIN_CONNECTIONS_MAX + 1):
        assert (await exchange(at, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")).endswith(b"ok\n")


async def test_closing_drops_the_connections(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ADMIN_REQUEST_TIMEOUT_MS", 3_600_000)
    server = AdminServer(source)
    at = await server.start(LOOPBACK)
    reader, writer = await asyncio.open_connection(at.host, at.port)
    while not server._connections:
        await asyncio.sleep(0)
    server.close()
    server.close()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


async def test_an_address_in_use_is_named(source: FakeSource) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ResourceBusy, match=f"--admin: {address} is in use"):
            await AdminServer(source).start(address)


async def test_an_address_of_another_machine_is_a_wrong_configuration(source: FakeSource) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:1"):
        await AdminServer(source).start(Address("192.0.2.1", 1))


# --- held after a fatal error -------------------------------------------------------------------


def test_a_held_node_is_alive_unready_and_says_why() -> None:
    held = HeldSource(LogCorrupt("segment 3 is damaged"), "n1")
    assert respond(held, "GET", "/livez").status == 200
    assert respond(held, "GET", "/readyz").body.startswith(b"[-]fatal failed: segment 3 is damaged")
    status = json.loads(respond(held, "GET", "/status").body)
    assert status["fatal"] == {"exit_code": 65, "reason": "segment 3 is damaged"}
    assert status["leader"] is None
    assert respond(held, "GET", "/hash").status == 404
    assert b"kvnode_has_leader 0.0" in respond(held, "GET", "/metrics").body


def test_a_node_that_cannot_even_be_held_leaves_with_its_first_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        assert hold(address, LogCorrupt("damaged")) == 65
    assert caplog.records[0].getMessage() == "cannot hold"
