"""Bytes on the wire: what a client library hides, and what a hostile client sends."""

from __future__ import annotations

import socket

import pytest

pytestmark = pytest.mark.cluster

Address = tuple[str, int]
SECONDS_MAX = 10


def exchange(address: Address, request: bytes) -> bytes:
    """Send everything, end our side, and read until the node has answered and closed."""
    with socket.create_connection(address, SECONDS_MAX) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def converse(address: Address, *turns: tuple[bytes, bytes]) -> None:
    """Send each request, and expect exactly its answer."""
    with socket.create_connection(address, SECONDS_MAX) as connection:
        for request, expected in turns:
            connection.sendall(request)
            answer = b""
            while len(answer) < len(expected):
                chunk = connection.recv(65536)
                assert chunk, f"closed after {answer!r}, expected {expected!r}"
                answer += chunk
            assert answer == expected


def test_inline_commands_are_understood(address: Address, key: str) -> None:
    line = b"SET %s 'a value'\r\n" % key.encode()
    converse(
        address,
        (line, b"+OK\r\n"),
        (b"GET %s\r\n" % key.encode(), b"$7\r\na value\r\n"),
        (b"\r\nPING\r\n", b"+PONG\r\n"),
    )


def test_a_command_may_arrive_byte_by_byte(address: Address) -> None:
    request = b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n"
    silent = [(request[i : i + 1], b"") for i in range(len(request) - 1)]
    converse(address, *silent, (request[-1:], b"$2\r\nhi\r\n"))


def test_null_has_its_own_form_in_each_protocol(address: Address, key: str) -> None:
    get = b"GET %s\r\n" % key.encode()
    with socket.create_connection(address, SECONDS_MAX) as connection:
        file = connection.makefile("rwb")
        file.write(get)
        file.flush()
        assert file.readline() == b"$-1\r\n"
        file.write(b"HELLO 3\r\nECHO done\r\n" + get)
        file.flush()
        while file.readline() != b"done\r\n":
            pass
        assert file.readline() == b"_\r\n"
        file.close()


def test_an_aborted_exec_is_a_null_array(address: Address, key: str) -> None:
    name = key.encode()
    converse(
        address,
        (b"WATCH %s\r\n" % name, b"+OK\r\n"),
        (b"SET %s 1\r\n" % name, b"+OK\r\n"),
        (b"MULTI\r\n", b"+OK\r\n"),
        (b"GET %s\r\n" % name, b"+QUEUED\r\n"),
        (b"EXEC\r\n", b"*-1\r\n"),
    )


def test_exec_and_discard_without_multi_are_errors(address: Address) -> None:
    converse(
        address,
        (b"EXEC\r\n", b"-ERR EXEC without MULTI\r\n"),
        (b"DISCARD\r\n", b"-ERR DISCARD without MULTI\r\n"),
        (b"MULTI\r\n", b"+OK\r\n"),
        (b"MULTI\r\n", b"-ERR MULTI calls can not be nested\r\n"),
        (b"WATCH a\r\n", b"-ERR WATCH inside MULTI is not allowed\r\n"),
        (b"DISCARD\r\n", b"+OK\r\n"),
    )


def test_quit_says_ok_and_closes(address: Address) -> None:
    assert exchange(address, b"QUIT\r\n") == b"+OK\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "error"),
    [
        (b"*1\r\n!4\r\n", b"-ERR Protocol error: expected '$', got '!'\r\n"),
        (b"*100000000000\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$600000000\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"SET k 'unbalanced\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n"),
        (b"x" * 70_000, b"-ERR Protocol error: too big inline request\r\n"),
    ],
    ids=["no-dollar", "huge-array", "no-number", "huge-bulk", "negative", "quotes", "long-line"],
)
def test_a_protocol_error_is_named_and_closes(
    address: Address, request_bytes: bytes, error: bytes
) -> None:
    with socket.create_connection(address, SECONDS_MAX) as connection:
        connection.sendall(request_bytes)
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass  # closed with our bytes unread: the answer came before
    assert answer == error


def test_other_clients_do_not_notice_a_protocol_error(address: Address) -> None:
    with socket.create_connection(address, SECONDS_MAX) as bystander:
        exchange(address, b"*1\r\n!4\r\n")
        bystander.sendall(b"PING\r\n")
        assert bystander.recv(7) == b"+PONG\r\n"


def test_a_web_browser_is_shown_the_door(address: Address) -> None:
    assert b"PONG" not in exchange(address, b"POST / HTTP/1.1\r\nHost: x\r\n\r\nPING\r\n")
