"""The kvnode command: its exit codes, its one-line errors, and what it shows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kvnode import cli
from kvnode.config.serve import ServeConfig
from kvnode.errors import FatalError, LogCorrupt, MemoryPressure

CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("KVNODE_")}


def run(*arguments: str, **environment: str) -> Result:
    unset = {key: None for key in os.environ if key.startswith("KVNODE_")}
    return CliRunner().invoke(cli.program, arguments, prog_name="kvnode", env=unset | environment)


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvnode.cli", *arguments],
        capture_output=True,
        text=True,
        env=CLEAN | environment,
        timeout=60,
        check=False,
    )


# --- usage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "kvnode: a command is missing (see kvnode --help)"),
        (["config"], "kvnode: a command is missing (see kvnode config --help)"),
        (["bogus"], "kvnode: No such command 'bogus'. (see kvnode --help)"),
        (["--bogus"], "kvnode: No such option '--bogus'. (see kvnode --help)"),
        (["serve", "--bogus"], "kvnode: No such option '--bogus'. (see kvnode serve --help)"),
        (
            ["serve", "extra"],
            "kvnode: Got unexpected extra argument (extra) (see kvnode serve --help)",
        ),
        (["serve", "--node"], "kvnode: Option '--node' requires an argument. (see kvnode --help)"),
        (["serve", "--node", "a b"], "kvnode: --node: 'a b' is not a name: "),
        (["config", "show", "--listen", "x"], "kvnode: --listen: 'x' is not HOST:PORT"),
        (["status", "--admin", "x"], "kvnode: --admin: 'x' is not HOST:PORT"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_64(arguments: list[str], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 64
    assert result.stderr.count("\n") == 1
    assert _without_quotes(result.stderr).startswith(_without_quotes(sentence))
    assert result.stdout == ""


def _without_quotes(text: str) -> str:
    # Versions of click differ in how they quote the option.
    return re.sub(r"[':]", "", text)


@pytest.mark.parametrize("arguments", [[], ["serve", "--node", ""], ["bogus"]])
def test_a_real_process_does_not_leave_with_2_on_wrong_usage(arguments: list[str]) -> None:
    assert process(*arguments).returncode == 64


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["serve", "--help"], ["status", "--help"], ["config", "show", "--help"]],
)
def test_help_is_no_error(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: kvnode")


@pytest.mark.parametrize("code", ["0", "1", "2", "10", "64", "65", "69", "74", "75", "78"])
def test_help_lists_the_exit_codes(code: str) -> None:
    assert re.search(rf"^ +{code} +\w", run("--help").stdout, re.MULTILINE)


def test_the_version_is_told() -> None:
    from kvnode import __version__

    assert run("--version").stdout == f"kvnode {__version__}\n"


# --- serve --------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Stands for kvnode.server; `run` may be replaced."""
    module = ModuleType("kvnode.server")
    module.seen = []  # type: ignore[attr-defined]

    def serve(config: ServeConfig) -> int:
        module.seen.append(config)
        return 0

    module.run = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kvnode.server", module)
    return module


def test_serve_runs_the_server_with_the_checked_configuration(server: ModuleType) -> None:
    result = run(
        "serve", "--node", "n1", "--no-insecure", KVNODE_INSECURE="1", KVNODE_ADMIN="[::1]:1"
    )
    assert result.exit_code == 0
    (config,) = server.seen
    assert (config.node, config.insecure, str(config.admin)) == ("n1", False, "[::1]:1")


@pytest.mark.parametrize("code", [0, 1, 2, 75])
def test_the_exit_code_of_the_server_is_the_one_of_the_process(
    server: ModuleType, code: int
) -> None:
    server.run = lambda config: code  # type: ignore[attr-defined]
    assert run("serve").exit_code == code


@pytest.mark.parametrize("error", [LogCorrupt("segment 3 is damaged"), MemoryPressure("full")])
def test_a_fatal_error_is_one_line_and_its_exit_code(server: ModuleType, error: FatalError) -> None:
    def fail(config: ServeConfig) -> int:
        raise error

    server.run = fail  # type: ignore[attr-defined]
    result = run("serve")
    assert result.exit_code == error.exit_code
    assert result.stderr == f"kvnode: {error}\n"


def test_a_bug_shows_its_traceback_and_exits_with_1(tmp_path: Path) -> None:
    program = (
        "import sys, types; from kvnode import cli\n"
        "module = sys.modules['kvnode.server'] = types.ModuleType('kvnode.server')\n"
        "module.run = lambda config: 1 // 0\n"
        "sys.argv[1:] = ['serve']; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=CLEAN, check=False
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_an_interrupt_outside_the_server_exits_with_130(server: ModuleType) -> None:
    def interrupt(config: ServeConfig) -> int:
        raise KeyboardInterrupt

    server.run = interrupt  # type: ignore[attr-defined]
    assert run("serve").exit_code == 130


def test_a_wrong_variable_or_file_exits_with_78(server: ModuleType, tmp_path: Path) -> None:
    assert run("serve", KVNODE_HEARTBEAT="x").exit_code == 78
    (tmp_path / "kvnode.toml").write_text("nodes = 1")
    result = run("serve", "--config", str(tmp_path / "kvnode.toml"))
    assert result.exit_code == 78
    assert result.stderr.count("\n") == 1
    assert server.seen == []


def test_a_wrong_configuration_can_be_held_with_its_reason() -> None:
    port = _free_port()
    environment = {"KVNODE_HOLD_ON_FATAL": "1", "KVNODE_HEARTBEAT": "x"}
    child = subprocess.Popen(
        [sys.executable, "-m", "kvnode.cli", "serve", "--admin", f"127.0.0.1:{port}"],
        env=CLEAN | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        status = _poll(f"http://127.0.0.1:{port}/status", child)
        assert status["fatal"]["exit_code"] == 78
        assert status["fatal"]["reason"].startswith("KVNODE_HEARTBEAT: ")
        child.send_signal(signal.SIGTERM)
        _, stderr = child.communicate(timeout=30)
        assert child.returncode == 78
        assert stderr.startswith("kvnode: KVNODE_HEARTBEAT: ")
    finally:
        child.kill()
        child.wait()


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _poll(url: str, child: subprocess.Popen[str]) -> dict[str, Any]:
    while child.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return dict(json.load(answer))
        except OSError:
            threading.Event().wait(0.02)
    raise AssertionError("it did not stay")


def test_wrong_usage_is_never_held() -> None:
    assert process("serve", "--heartbeat", "x", KVNODE_HOLD_ON_FATAL="1").returncode == 64


# --- config show --------------------------------------------------------------------------------


def test_the_configuration_is_shown_with_origins() -> None:
    result = run("config", "show", "--node", "n1", KVNODE_MAX_CLIENTS="7")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["node", "n1", "--node"] in lines
    assert ["max_clients", "7", "KVNODE_MAX_CLIENTS"] in lines
    assert ["heartbeat", "100ms", "default"] in lines


def test_the_configuration_is_shown_as_json() -> None:
    document = json.loads(run("config", "show", "--json", "--node", "n1", KVNODE_X="1").stdout)
    assert document["options"]["node"] == {"value": "n1", "origin": "--node"}
    assert document["warnings"] == ["KVNODE_X: unknown variable, ignored"]


def test_a_wrong_configuration_is_not_shown() -> None:
    assert run("config", "show", KVNODE_LISTEN="0.0.0.0:1").exit_code == 78


# --- status -------------------------------------------------------------------------------------


class FakeNode:
    """An admin port that answers /status with whatever it is given."""

    def __init__(self, answer: object, code: int = 200) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(code)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def nodes() -> Iterator[list[FakeNode]]:
    started: list[FakeNode] = []
    yield started
    for node in started:
        node.close()


def asked(nodes: list[FakeNode], answer: object, code: int = 200) -> str:
    nodes.append(FakeNode(answer, code))
    return nodes[-1].address


def document(role: str, leader: str | None, lag: int | None = None) -> dict[str, object]:
    members = [
        {"name": "n1", "role": "leader", "match": 9, "lag": 0, "peer_address": "h:1"},
        {"name": "n2", "role": "follower", "match": None, "lag": lag, "recovering": True},
    ]
    return {
        "node": "n1" if role == "leader" else "n2",
        "role": role,
        "leader": leader,
        "cluster_id": "demo",
        "term": 3,
        "commit": 9,
        "members": members,
    }


def test_a_cluster_with_a_leader_is_healthy(nodes: list[FakeNode]) -> None:
    result = run("status", "--admin", asked(nodes, document("leader", "n1", lag=4)))
    assert result.exit_code == 0
    head, *table = [line.split() for line in result.stdout.splitlines()]
    assert head[:6] == ["cluster", "demo", "term", "3", "leader", "n1"]
    assert table[1:] == [
        ["n1", "leader", "9", "0", "ok", "h:1"],
        ["n2", "follower", "-", "4", "recovering", "-"],
    ]


def test_without_a_leader_it_exits_with_1(nodes: list[FakeNode]) -> None:
    result = run("status", "--admin", asked(nodes, document("candidate", None)))
    assert result.exit_code == 1
    assert "leader none" in result.stdout


def test_a_node_that_does_not_answer_exits_with_69() -> None:
    result = run("status", "--admin", f"127.0.0.1:{_free_port()}")
    assert result.exit_code == 69
    assert result.stderr.count("\n") == 1
    assert "is unreachable" in result.stderr


@pytest.mark.parametrize(
    ("answer", "code"), [(b"not json", 200), ([], 200), (b"\xff", 200), ({}, 500), (b"", 404)]
)
def test_a_stranger_on_the_port_counts_as_unreachable(
    nodes: list[FakeNode], answer: object, code: int
) -> None:
    assert run("status", "--admin", asked(nodes, answer, code)).exit_code == 69


def test_among_several_the_leaders_view_is_shown(nodes: list[FakeNode]) -> None:
    follower = asked(nodes, document("follower", "n1"))
    leader = asked(nodes, document("leader", "n1", lag=4))
    result = run("status", "--admin", f"{follower},{leader}")
    assert result.exit_code == 0
    assert "(seen by n1)" in result.stdout


def test_all_that_are_asked_must_answer(nodes: list[FakeNode]) -> None:
    leader = asked(nodes, document("leader", "n1"))
    result = run("status", "--admin", leader, "--admin", f"127.0.0.1:{_free_port()}")
    assert result.exit_code == 69
    assert "seen by n1" in result.stdout


def test_all_that_are_asked_must_know_a_leader(nodes: list[FakeNode]) -> None:
    leader = asked(nodes, document("leader", "n1"))
    cut_off = asked(nodes, document("pre-candidate", None))
    assert run("status", "--admin", leader, "--admin", cut_off).exit_code == 1


def test_status_as_json_keeps_what_each_node_said(nodes: list[FakeNode]) -> None:
    leader = asked(nodes, document("leader", "n1"))
    gone = f"127.0.0.1:{_free_port()}"
    result = run("status", "--json", "--admin", leader, "--admin", gone)
    assert result.exit_code == 69
    told = json.loads(result.stdout)
    assert told["healthy"] is False
    assert told["nodes"][0]["status"] == document("leader", "n1")
    assert told["nodes"][0]["admin"] == leader
    assert "refused" in told["nodes"][1]["error"]


def test_a_held_node_tells_its_reason(nodes: list[FakeNode]) -> None:
    held = {"node": "n1", "leader": None, "fatal": {"exit_code": 65, "reason": "damaged"}}
    result = run("status", "--admin", asked(nodes, held))
    assert result.exit_code == 1
    assert result.stdout == "n1 is held: damaged\n"


def test_a_node_whose_start_is_delayed_tells_why(nodes: list[FakeNode]) -> None:
    delayed = {"node": "n1", "start_delayed": "memory"}
    result = run("status", "--admin", asked(nodes, delayed))
    assert (result.exit_code, result.stdout) == (1, "n1 is not started: memory\n")


def test_status_asks_where_this_node_listens(nodes: list[FakeNode]) -> None:
    address = asked(nodes, document("leader", "n1"))
    assert run("status", KVNODE_ADMIN=address).exit_code == 0


# --- start-up -----------------------------------------------------------------------------------


@pytest.mark.parametrize("heavy", ["asyncio", "uvloop", "prometheus_client", "h11", "http.client"])
def test_the_command_line_loads_nothing_heavy(heavy: str) -> None:
    program = f"import sys, kvnode.cli; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# --- status --get -------------------------------------------------------------------------------


def test_single_values_come_one_per_line_in_the_order_asked(nodes: list[FakeNode]) -> None:
    told = document("leader", "n1", lag=4) | {
        "memory": {"rung": "calm"},
        "ready": True,
        "seconds": 0.000125,
        "whole": 2.0,
        "text": "two\nlines",
    }
    paths = ("leader", "memory.rung", "ready", "commit", "heals_at", "memory.x.y", "leader.x")
    result = run("status", "--admin", asked(nodes, told), "--get", *paths)
    assert (result.exit_code, result.stdout) == (0, "n1\ncalm\ntrue\n9\n\n\n\n")
    address = asked(nodes, told)
    result = run("status", "--get", "seconds", "--get", "whole", "text", KVNODE_ADMIN=address)
    assert result.stdout == "0.000125\n2\ntwo lines\n"


def test_single_values_of_a_member_are_found_by_its_name(nodes: list[FakeNode]) -> None:
    address = asked(nodes, document("leader", "n1", lag=4))
    result = run("status", "--admin", address, "--get", "members.n2.lag", "members.0.role")
    assert result.stdout == "4\nleader\n"
    result = run("status", "--admin", address, "--get", "members.n2", "--json")
    assert json.loads(result.stdout)["members.n2"]["lag"] == 4


def test_asking_for_single_values_changes_no_exit_code(nodes: list[FakeNode]) -> None:
    result = run("status", "--admin", asked(nodes, document("x", None)), "--get", "leader", "term")
    assert (result.exit_code, result.stdout) == (1, "\n3\n")
    result = run("status", "--admin", f"127.0.0.1:{_free_port()}", "--get", "leader")
    assert (result.exit_code, result.stdout) == (69, "")


@pytest.mark.parametrize(
    "arguments", [["--admin", "h:1,h:2", "--get", "leader"], ["leader"], ["--get"]]
)
def test_single_values_are_of_one_node_and_asked_for_by_get(arguments: list[str]) -> None:
    assert run("status", *arguments).exit_code == 64


def test_the_admin_port_of_this_environment_is_asked_by_loopback(nodes: list[FakeNode]) -> None:
    port = asked(nodes, document("leader", "n1")).rpartition(":")[2]
    assert run("status", KVNODE_ADMIN=f"0.0.0.0:{port}").exit_code == 0


def test_a_stop_is_heard_before_the_event_loop_listens(tmp_path: Path) -> None:
    """The first process of a container has no default action to fall back to: SIGTERM would go
    unheard, and the whole grace of the stop be waited for."""
    program = (
        "import os, signal, sys, kvnode.server\n"
        "from kvnode import cli\n"
        "kvnode.server.run = lambda settings: os.kill(os.getpid(), signal.SIGTERM)\n"
        "cli.main()\n"
        "raise AssertionError('it went on')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "serve", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        env=CLEAN,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
