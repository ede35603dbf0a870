"""redis-cli, the tool that everybody reaches for first, against every node."""

from __future__ import annotations

import shutil
import subprocess

import pytest

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed"),
]

Address = tuple[str, int]
SECONDS_MAX = 30


def cli(address: Address, *arguments: str, stdin: bytes | None = None) -> str:
    command = ["redis-cli", "-h", address[0], "-p", str(address[1]), *arguments]
    done = subprocess.run(
        command, input=stdin, capture_output=True, check=True, timeout=SECONDS_MAX
    )
    return done.stdout.decode()


def test_set_and_get(address: Address, key: str) -> None:
    assert cli(address, "SET", key, "value") == "OK\n"
    assert cli(address, "GET", key) == "value\n"


def test_an_absent_key_prints_an_empty_line(address: Address, key: str) -> None:
    assert cli(address, "GET", key) == "\n"


def test_resp3_on_demand(address: Address, key: str) -> None:
    assert cli(address, "-3", "SET", key, "value") == "OK\n"


def test_a_script_of_commands_with_a_transaction(address: Address, key: str) -> None:
    script = f"MULTI\nSET {key} 1\nINCR {key}\nEXEC\n".encode()
    assert cli(address, stdin=script) == "OK\nQUEUED\nQUEUED\nOK\n2\n"


def test_select_lasts_for_the_connection(address: Address, key: str) -> None:
    script = f"SELECT 7\nSET {key} seven\nSELECT 0\nGET {key}\nSELECT 7\nGET {key}\n".encode()
    assert cli(address, stdin=script) == "OK\nOK\nOK\n\nOK\nseven\n"


def test_an_error_is_printed_with_redis_words(address: Address) -> None:
    assert "ERR wrong number of arguments for 'get' command" in cli(address, "GET")


def test_mass_insertion(address: Address, key: str) -> None:
    commands = b"".join(b"SET %s:%d %d\r\n" % (key.encode(), i, i) for i in range(1000))
    assert "errors: 0, replies: 1000" in cli(address, "--pipe", stdin=commands)
    assert cli(address, "GET", f"{key}:999") == "999\n"


def test_scan_lists_keys(address: Address, key: str) -> None:
    for number in range(3):
        cli(address, "SET", f"{key}:{number}", "x")
    lines = cli(address, "--scan", "--pattern", f"{key}:*").split()
    assert sorted(lines) == [f"{key}:{number}" for number in range(3)]
