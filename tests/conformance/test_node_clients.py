"""node-redis and ioredis with their default settings, against every node.

The tests themselves are `node/*.test.mjs`, for Node's own test runner; here the packages of
`node/package-lock.json` are put into a temporary directory once, and each file is run per node.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

Address = tuple[str, int]

SOURCES = Path(__file__).parent / "node"
NODE_MAJOR_MIN = 20
"""What both packages ask for."""
INSTALL_SECONDS_MAX = 90
RUN_SECONDS_MAX = 60


def node_major() -> int:
    """The major version of Node.js; 0 without one."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return 0
    version = subprocess.run(["node", "--version"], capture_output=True, check=True, text=True)
    return int(version.stdout.lstrip("v").partition(".")[0])


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory with the packages and the tests."""
    if node_major() < NODE_MAJOR_MIN:
        pytest.skip(f"Node.js {NODE_MAJOR_MIN} and npm are not installed")
    directory = tmp_path_factory.mktemp("node") / "clients"
    shutil.copytree(SOURCES, directory)
    install = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    try:
        subprocess.run(
            install, cwd=directory, capture_output=True, check=True, timeout=INSTALL_SECONDS_MAX
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as reason:
        said = (reason.stderr or b"").decode(errors="replace").strip()
        pytest.skip(f"npm could not fetch the clients: {said[-300:] or reason}")
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("library", ["redis", "ioredis"])
def test_a_client_of_node_works_with_its_defaults(
    packages: Path, address: Address, other_addresses: list[Address], library: str
) -> None:
    urls = [f"redis://{host}:{port}" for host, port in (address, other_addresses[0])]
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", f"{library}.test.mjs"],
        cwd=packages,
        env={**os.environ, "NODE_URL": urls[0], "OTHER_URL": urls[1]},
        capture_output=True,
        check=False,
        text=True,
        timeout=RUN_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0" not in done.stdout
