"""`docker/kvnode.service`: what systemd says to it, and what kvnode's exit codes ask of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvnode.config.options import OPTIONS
from kvnode.errors import ExitCode
from kvnode.limits import STOP_SECONDS_MAX
from tests.support.docker import REPOSITORY

UNIT = REPOSITORY / "docker" / "kvnode.service"
EXPOSURE_MAX = 2.0
"""systemd's own figure, 0 to 10; a service without any restriction has 9.6."""

RESTARTED = {ExitCode.BUG, ExitCode.MEMORY, ExitCode.BUSY_RESOURCE}
"""What the README's table of exit codes wants to be started again."""

NEVER_LEFT_WITH = {ExitCode.OK, ExitCode.UNREACHABLE}


def values(name: str) -> list[str]:
    """All values of a directive."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


def test_who_must_wait_for_a_person_is_not_started_again() -> None:
    prevented = {int(code) for code in values("RestartPreventExitStatus")[0].split()}
    assert values("Restart") == ["on-failure"]
    assert prevented == {int(code) for code in ExitCode} - RESTARTED - NEVER_LEFT_WITH
    assert values("StartLimitIntervalSec") == ["0"], "the others, for ever"


def test_a_stop_has_the_time_that_it_may_take() -> None:
    (text,) = values("TimeoutStopSec")
    assert int(text.removesuffix("s")) > STOP_SECONDS_MAX


def test_every_variable_is_one_that_a_node_reads() -> None:
    names = {value.partition("=")[0] for value in values("Environment")}
    assert {name for name in names if name.startswith("KVNODE_")} <= {o.variable for o in OPTIONS}
    assert "KVNODE_HOLD_ON_FATAL" not in names, "systemd can tell exit codes apart"


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    unit = tmp_path / "kvnode.service"
    here = UNIT.read_text().replace("/opt/kvnode/bin/kvnode", sys.executable)
    unit.write_text(here)
    result = systemd_analyze("verify", str(unit))
    complaints = [line for line in result.stderr.splitlines() if "kvnode.service" in line]
    assert (result.returncode, complaints) == (0, [])


def test_the_service_is_shut_in() -> None:
    result = systemd_analyze("security", "--offline=true", "--no-pager", str(UNIT))
    found = re.search(r"exposure level for kvnode.service: ([0-9.]+)", result.stdout)
    if found is None:
        pytest.skip(f"this systemd-analyze judges no files: {result.stderr.strip()}")
    assert float(found[1]) <= EXPOSURE_MAX
