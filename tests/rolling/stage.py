"""A stage for rolling-update.sh: hosts that are directories, an ssh and a docker that are scripts.

`tests/rolling/fake/host/docker` tells what lies where. A test writes faults, rolls, and reads what
was done to whom, in order.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "rolling-update.sh"
FAKES = Path(__file__).parent / "fake"

OLD, NEW = "kvnode:old", "kvnode:new"
NODES = {"n1": "host1", "n2": "host2", "n3": "host3"}

SCRIPT_SECONDS_MAX = 110.0


@dataclass(frozen=True)
class Roll:
    """How one run of the script ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that it printed, without the times."""
        return re.sub(r"(?m)^[0-9:]{8}Z ", "", self.out + self.err)


def run_script(environment: Mapping[str, str], *arguments: str) -> Roll:
    """Run the script with nothing in its environment but what is given, and a PATH."""
    done = subprocess.run(
        [str(SCRIPT), *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS_MAX,
        check=False,
    )
    return Roll(done.returncode, done.stdout, done.stderr)


class Stage:
    """Three hosts, each with a node of the old image; n1 leads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("faults", "images", "containers", "locks", "draining"):
            (directory / name).mkdir(parents=True)
        self.image(OLD, "0.1.0")
        self.image(NEW, "0.2.0")
        self.write("leader", "n1")
        self.write("term", "3")
        self.write("commit", "100")
        self.write("nodes", "\n".join(f"{node} {host}" for node, host in NODES.items()))
        self.write("log", "", end="")
        for node, host in NODES.items():
            self.container(host, node)

    def write(self, name: str, text: str, end: str = "\n") -> None:
        """Write a fact."""
        (self.directory / name).write_text(text + end)

    def read(self, name: str) -> str:
        """Read a fact."""
        return (self.directory / name).read_text().strip()

    def image(self, name: str, version: str, manners: str = "good") -> None:
        """Put an image into the registry; see the fake docker for its manners."""
        self.write("images/" + re.sub("[/:]", "_", name), f"sha256:{name} {version} {manners}")

    def container(self, host: str, node: str) -> None:
        """A container that somebody started by other means: it has no fingerprint."""
        place = self.directory / "containers" / host / "kvnode"
        place.mkdir(parents=True)
        facts = {
            "image": OLD,
            "print": "",
            "source": "/var/lib/kvnode",
            "node": node,
            "state": "running",
            "restarts": "0",
            "exit": "0",
            "env": "",
        }
        for name, text in facts.items():
            (place / name).write_text(text + "\n")

    def fault(self, name: str, text: str = "") -> None:
        """Spoil something, such as `host2.ssh`."""
        self.write(f"faults/{name}", text)

    def heal(self, name: str) -> None:
        """Take a fault back."""
        (self.directory / "faults" / name).unlink()

    def environment(self, **variables: str) -> dict[str, str]:
        """What the script is told on this stage; it waits for no one."""
        return {
            "STAGE": str(self.directory),
            "SSH": str(FAKES / "ssh"),
            "NODES": ",".join(f"{node}={host}" for node, host in NODES.items()),
            "IMAGE": NEW,
            "PASSWORD_FILE": "",
            "LOCK_DIR": str(self.directory / "locks"),
            "STABLE_SECONDS": "0",
            "CANARY_SECONDS": "0",
            "ROLLING_DELAY_SECONDS": "0",
            "POLL_SECONDS": "0.05",
            "SSH_RETRY_SECONDS": "0.05",
            "SETTLE_TIMEOUT_SECONDS": "0",
            "HEALTH_TIMEOUT_SECONDS": "1",
        } | variables

    def roll(self, *arguments: str, **variables: str) -> Roll:
        """Run the script."""
        return run_script(self.environment(**variables), *arguments)

    def roll_one(self, *arguments: str, **variables: str) -> Roll:
        """Run the script for n2 alone, which follows."""
        return self.roll(*arguments, ROLLING_ORDER="n2", **variables)

    # --- what came of it ---

    @property
    def log(self) -> list[str]:
        """What changed something, in order."""
        return self.read("log").splitlines()

    def done_to(self, host: str) -> list[str]:
        """The same for one host, without its name."""
        return [line.partition(" ")[2] for line in self.log if line.startswith(host + " ")]

    @property
    def stopped(self) -> list[str]:
        """The hosts whose node was stopped, in order."""
        return [line.split()[0] for line in self.log if line.split()[1] == "stop"]

    def images(self) -> list[str]:
        """The image of each host's node, and what else there is."""
        return [
            " ".join(
                f"{place.name}={self.read(f'containers/{host}/{place.name}/image')}"
                f" {self.read(f'containers/{host}/{place.name}/state')}"
                for place in sorted((self.directory / "containers" / host).iterdir())
            )
            for host in NODES.values()
        ]

    def locks(self) -> list[str]:
        """Locks that are there."""
        return sorted(path.name for path in (self.directory / "locks").iterdir())

    def forget(self) -> None:
        """Empty the log, so that the next roll's can be read alone."""
        self.write("log", "", end="")
