"""Three nodes in containers, on one engine that plays three hosts: a roll is tried on for real.

The script's transport is `engine/ssh`, which runs the command here; the `docker` that it finds
first gives each host containers, a volume and a network of its own. A host's network is that of a
container that does nothing else: so the address outlives the node that was there, and who connects
while there is none is refused at once, as on a real host.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import redis

from tests.rolling.stage import SCRIPT, Roll
from tests.support.docker import CLIENT_PORT, PASSWORD, Container, Containers, docker, until

ENGINE = Path(__file__).parent / "engine"
NODES = {"n1": "host1", "n2": "host2", "n3": "host3"}

ROLL_SECONDS_MAX = 280.0
"""Half a minute for three nodes, unless the machine does ten other things."""

UPDATE = """\
FROM {image}
USER root
RUN cd /opt/kvnode/lib/python*/site-packages \\
    && sed -i 's/^Version: .*/Version: {version}/' kvnode-*/METADATA
USER 10001:10001
{more}
"""
MUTE = 'ENTRYPOINT ["sh", "-c", "[ $0 = serve ] || exec kvnode $0; exec sleep 1000"]\nCMD ["serve"]'
"""Tells its version, and then does nothing."""
HELD = 'ENV KVNODE_HEARTBEAT="soon"'
"""Holds a fatal error: the heartbeat is no duration."""


def derived_image(containers: Containers, suffix: str, version: str, more: str = "") -> str:
    """Make an image that says that it is of another version."""
    tag = f"{containers.name(suffix)}:{version}"
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", tag, "-"],
        input=UPDATE.format(image=containers.image, version=version, more=more),
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    containers.will_remove_image(tag)
    return tag


class Fleet:
    """Three hosts with a node each, started by the lines of a dry run."""

    def __init__(self, containers: Containers) -> None:
        self.directory = containers.directory
        self._containers = containers
        self._name = containers.name("fleet")
        self.network = containers.network()
        containers.password_flags()
        (self.directory / "faults").mkdir()
        (self.directory / "locks").mkdir()
        self._machines = {node: self._machine(host) for node, host in NODES.items()}
        for host in NODES.values():
            containers.volume(f"fleet-{host}-data")
            for name in ("kvnode", "kvnode-previous"):
                containers.will_remove(f"{self._name}-{host}-{name}")

    def _machine(self, host: str) -> Container:
        return self._containers.run(
            f"fleet-{host}-machine",
            *("--network", self.network, "--network-alias", host),
            *("--init", "--no-healthcheck", "--entrypoint", "sleep"),
            command=["infinity"],
        )

    def environment(self, image: str, **variables: str) -> dict[str, str]:
        """What the script is told."""
        return {
            "PATH": os.environ["PATH"],
            "FLEET": str(self.directory),
            "FLEET_NAME": self._name,
            "REAL_DOCKER": str(shutil.which("docker")),
            "SSH": str(ENGINE / "ssh"),
            "NODES": ",".join(f"{node}={host}" for node, host in NODES.items()),
            "IMAGE": image,
            "PULL": "never",
            "PASSWORD_FILE": str(self.directory / "password"),
            "LOCK_DIR": str(self.directory / "locks"),
            "CONTAINER_MEMORY_LIMIT": "512m",
            "DEFAULT_EXTRA_ENV": "MALLOC_ARENA_MAX=2",
            # The machine that tests run on may have a full disk; one test is about that.
            "DISK_FREE_PERCENT_MIN": "1",
            "STABLE_SECONDS": "1",
            "CANARY_SECONDS": "1",
            "ROLLING_DELAY_SECONDS": "0",
            "POLL_SECONDS": "0.2",
            "SSH_RETRY_SECONDS": "0.1",
            "DRAIN_TIMEOUT_SECONDS": "1",
            "SETTLE_TIMEOUT_SECONDS": "20",
            "HEALTH_TIMEOUT_SECONDS": "40",
        } | variables

    def begin(self, **variables: str) -> None:
        """Start the cluster as an operator would: by pasting the lines of a dry run."""
        environment = self.environment(self._containers.image, **variables)
        plan = subprocess.run(
            [str(SCRIPT), "--dry-run"], env=environment, capture_output=True, text=True, check=True
        )
        lines = [line for line in plan.stdout.splitlines() if line.startswith("docker run")]
        for host, line in zip(NODES.values(), lines, strict=True):
            subprocess.run(
                [str(ENGINE / "ssh"), host, line], env=environment, capture_output=True, check=True
            )
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until all three serve."""
        for node in NODES:
            until(self.container(node).is_ready, f"{node} is not ready")

    def roll(self, image: str, *arguments: str, **variables: str) -> Roll:
        """Run the script."""
        with self.start_roll(image, *arguments, **variables) as process:
            out, err = process.communicate(timeout=ROLL_SECONDS_MAX)
        return Roll(process.returncode, out, err)

    def start_roll(self, image: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Begin to run the script."""
        return subprocess.Popen(
            [str(SCRIPT), *arguments],
            env=self.environment(image, **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def fault(self, name: str) -> None:
        """Spoil something, such as `host2.ssh`."""
        (self.directory / "faults" / name).touch()

    def heal(self, name: str) -> None:
        """Take a fault back."""
        (self.directory / "faults" / name).unlink()

    def give(self, node: str, image: str) -> None:
        """From now on its host has this image under the name that is rolled out."""
        (self.directory / f"{NODES[node]}.image").write_text(image + "\n")

    def forget_orders(self) -> None:
        """Begin to note anew which host is told to stop a container."""
        (self.directory / "orders").write_text("")

    def orders(self) -> list[tuple[float, str]]:
        """When (wall clock, seconds) which node was ordered to stop."""
        nodes = {host: node for node, host in NODES.items()}
        lines = (line.split() for line in (self.directory / "orders").read_text().splitlines())
        return [(float(at), nodes[host]) for at, host in lines]

    # --- asking ---

    def container(self, node: str, name: str = "kvnode") -> Container:
        """A container of a node's host."""
        return Container(f"{self._name}-{NODES[node]}-{name}")

    def client(self, node: str) -> redis.Redis:
        """A client with redis-py's own retries."""
        return redis.Redis(host=self.address(node), port=CLIENT_PORT, password=PASSWORD)

    def address(self, node: str) -> str:
        """Where its host is reached from here."""
        networks = self._machines[node].inspect()["NetworkSettings"]["Networks"]
        return str(networks[self.network]["IPAddress"])

    def cut_off(self, node: str) -> None:
        """Take its host from the network."""
        docker("network", "disconnect", self.network, self._machines[node].name)

    def reconnect(self, node: str) -> None:
        """Put its host back, perhaps with another address."""
        machine = self._machines[node].name
        docker("network", "connect", "--alias", NODES[node], self.network, machine)

    def leader(self) -> str:
        """Who leads, by n1's word."""
        return str(self.container("n1").status().get("leader"))

    def container_ids(self) -> dict[str, str]:
        """Which container each node is in; "" for none that runs."""
        ids = {}
        for node in NODES:
            found = self.container(node).inspect()
            ids[node] = str(found["Id"]) if found["State"]["Running"] else ""
        return ids

    def versions(self) -> list[str]:
        """What the nodes say that they are."""
        return [str(self.container(node).status().get("version")) for node in NODES]

    def leftovers(self) -> list[str]:
        """Locks, and containers that were set aside."""
        names = docker("ps", "--all", "--filter", f"name={self._name}", "--format", "{{.Names}}")
        aside = [name for name in names.split() if name.endswith("-previous")]
        return aside + [path.name for path in (self.directory / "locks").iterdir()]
