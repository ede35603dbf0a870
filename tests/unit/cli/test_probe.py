"""`kvnode probe` against nodes that answer as the tests say."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hiredis
import pytest
from click.testing import CliRunner, Result

from kvnode import cli

Answer = Callable[[list[bytes]], bytes | None]


class FakeNode:
    """Answers each command by a function; None: not at all."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[list[bytes]] = []
        node, self._closing = self, threading.Event()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                reader = hiredis.Reader()
                while received := self.request.recv(4096):
                    reader.feed(received)
                    while (command := reader.gets()) is not False:
                        node.asked.append(command)
                        reply = answer(command)
                        if reply is None:
                            node._closing.wait(30)
                            return
                        self.request.sendall(reply)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Store:
    """The commands of a probe, done as they should be."""

    def __init__(self) -> None:
        self.keys: dict[bytes, bytes] = {}

    def __call__(self, command: list[bytes]) -> bytes | None:
        match command:
            case [b"GET", key]:
                value = self.keys.get(key, b"")
                return b"$%d\r\n%s\r\n" % (len(value), value)
            case [b"SET", key, value, *_]:
                self.keys[key] = value
        return b"+OK\r\n"


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], FakeNode]]:
    started: list[FakeNode] = []

    def start(answer: Answer) -> FakeNode:
        started.append(FakeNode(answer))
        return started[-1]

    yield start
    for node in started:
        node.close()


def probe(*arguments: str, **environment: str) -> Result:
    unset = {key: None for key in os.environ if key.startswith("KVNODE_")}
    return CliRunner().invoke(
        cli.program, ["probe", *arguments], prog_name="kvnode", env=unset | environment
    )


Serve = Callable[[Answer], FakeNode]


def test_a_value_that_nobody_else_writes_is_set_for_a_minute_and_read_back(serve: Serve) -> None:
    node = serve(Store())
    first = probe("--address", f"127.0.0.1:{node.port}")
    second = probe("--address", f"127.0.0.1:{node.port}")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout.startswith("ok write_ms=")
    sets = [command for command in node.asked if command[0] == b"SET"]
    assert [command[3:] for command in sets] == [[b"PX", b"60000"]] * 2
    assert len({command[1] for command in sets}) == len({command[2] for command in sets}) == 2
    assert len([command for command in node.asked if command[0] == b"GET"]) == 2


def test_it_asks_the_node_of_this_environment_with_its_password(
    serve: Serve, tmp_path: Path
) -> None:
    node, secret = serve(Store()), tmp_path / "password"
    secret.write_text("sesame\n")
    result = probe(
        "--json", KVNODE_LISTEN=f"0.0.0.0:{node.port}", KVNODE_REQUIREPASS_FILE=str(secret)
    )
    assert node.asked[0] == [b"AUTH", b"sesame"]
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"]) == (0, True)
    assert document["address"] == f"127.0.0.1:{node.port}"
    assert document["write_ms"] >= 0
    assert document["read_ms"] >= 0


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (b"-NOAUTH Authentication required.\r\n", "NOAUTH Authentication required."),
        (b"-UNKNOWN no leader\r\n", "UNKNOWN no leader"),
        (b"-BUSY no leader\r\n", "BUSY no leader"),
        (None, "no answer within 0.2 s"),
    ],
)
def test_what_is_refused_or_not_answered_is_1(
    serve: Serve, reply: bytes | None, sentence: str
) -> None:
    node = serve(lambda command: reply)
    result = probe("--address", f"127.0.0.1:{node.port}", "--timeout", "200ms")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"kvnode: 127.0.0.1:{node.port}: {sentence}\n"


def test_another_value_than_the_one_written_is_1(serve: Serve) -> None:
    node = serve(lambda command: b"+OK\r\n" if command[0] == b"SET" else b"$3\r\nold\r\n")
    result = probe("--address", f"127.0.0.1:{node.port}", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["ok"] is False
    assert "was read as b'old'" in document["error"]


def test_nobody_there_is_69() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = probe("--address", f"127.0.0.1:{port}")
    assert result.exit_code == 69
    assert "unreachable" in result.stderr


@pytest.mark.parametrize("arguments", [["--address", "x"], ["--timeout", "x"]])
def test_wrong_usage_is_64(arguments: list[str]) -> None:
    assert probe(*arguments).exit_code == 64
