"""redis-cli, the tool that everybody reaches for first, against every node."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time

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


def watch(address: Address, *arguments: str, lines: int) -> list[str]:
    """The first lines of a mode that prints until it is stopped, as a terminal shows them."""
    master, slave = pty.openpty()
    command = ["redis-cli", "-h", address[0], "-p", str(address[1]), *arguments]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    deadline = time.monotonic() + SECONDS_MAX
    text = ""
    try:
        while text.count("\n") <= lines and time.monotonic() < deadline:
            if select.select([master], [], [], 1.0)[0]:
                text += os.read(master, 65536).decode()
    except OSError as reason:  # how a terminal says that the other side has ended
        raise AssertionError(f"redis-cli ended by itself: {text!r}") from reason
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return [line.strip() for line in text.splitlines()]


def needs(address: Address, command: str) -> None:
    """Skip the test while the node does not offer a command."""
    if not cli(address, "COMMAND", "INFO", command).strip():
        pytest.skip(f"{command} is not offered")


def test_stat_shows_the_figures_of_the_node(address: Address, key: str) -> None:
    cli(address, "SET", key, "x")
    header, *_, row = watch(address, "--stat", "-i", "0.05", lines=4)[1:4]
    assert header.split()[:4] == ["keys", "mem", "clients", "blocked"]
    keys, _memory, clients, blocked, requests, *_ = row.split()
    assert (int(keys) > 0, int(clients) > 0, int(blocked)) == (True, True, 0)
    assert int(requests) > 0


def test_latency_measures_with_pings(address: Address) -> None:
    least, most, average, samples = map(float, cli(address, "--latency", "-i", "0.2").split())
    assert 0 <= least <= average <= most
    assert samples > 1


def test_latency_history_goes_on(address: Address) -> None:
    shown = "\n".join(watch(address, "--latency-history", "-i", "0.1", lines=2))
    assert shown.count("seconds range") >= 1


def test_bigkeys_finds_the_longest_string(address: Address, key: str) -> None:
    script = f"SELECT 11\nFLUSHDB\nMSET {key}:a 1 {key}:b {'x' * 5000}\n".encode()
    cli(address, stdin=script)
    report = cli(address, "-n", "11", "--bigkeys")
    assert "Sampled 2 keys in the keyspace!" in report
    assert f"""Biggest string found '"{key}:b"' has 5000 bytes""" in report


def test_memkeys_finds_the_largest_key(address: Address, key: str) -> None:
    needs(address, "MEMORY")
    script = f"SELECT 12\nFLUSHDB\nMSET {key}:a 1 {key}:b {'x' * 5000}\n".encode()
    cli(address, stdin=script)
    report = cli(address, "-n", "12", "--memkeys")
    assert "Sampled 2 keys in the keyspace!" in report
    assert f"""Biggest string found '"{key}:b"'""" in report


def test_scan_goes_on_over_many_pages(address: Address, key: str) -> None:
    wanted = sorted(f"{key}:{number}" for number in range(300))
    cli(address, stdin="".join(f"SET {name} x\n" for name in wanted).encode())
    assert sorted(cli(address, "--scan", "--pattern", f"{key}:*").split()) == wanted


def test_mass_insertion_reports_errors_and_goes_on(address: Address, key: str) -> None:
    commands = f"SET {key} text\r\nINCR {key}\r\nAPPEND {key} !\r\n".encode()
    command = ["redis-cli", "-h", address[0], "-p", str(address[1]), "--pipe"]
    done = subprocess.run(
        command, input=commands, capture_output=True, check=False, timeout=SECONDS_MAX
    )
    assert b"errors: 1, replies: 3" in done.stdout
    assert cli(address, "GET", key) == "text!\n"


def test_a_command_repeats(address: Address, key: str) -> None:
    assert cli(address, "-r", "5", "INCR", key).split() == ["1", "2", "3", "4", "5"]


def test_the_last_argument_may_come_from_a_file(address: Address, key: str) -> None:
    assert cli(address, "-x", "SET", key, stdin=b"from a file") == "OK\n"
    assert cli(address, "GET", key) == "from a file\n"
