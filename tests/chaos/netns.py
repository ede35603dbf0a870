"""A network namespace for each node, where the kernel loses packets when it is told to.

Nodes have an address of their own behind a virtual cable; fronts have one that all can reach, on
the loopback of the harness, which therefore sees all traffic still. What a proxy cannot do is done
here by iptables: packets of a connection that goes on are lost, and TCP has to make up for it. The
kernels that we have lack netem, so nothing is delayed here.

Needs root, `ip`, `nsenter` and `iptables`. Whatever is made is named after this process: what one
that was killed has left behind is removed by the next.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence

PROGRAMS = ("ip", "nsenter", "iptables")
_NAME = re.compile(r"kvchaos-(\d+)-\w+")


@functools.cache  # a cable is gone some time after its namespace
def missing() -> str | None:
    """Why there can be no namespaces here, or None. Tried once."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in PROGRAMS:
        if shutil.which(program) is None:
            return f"this machine has no {program}"
    trial = Namespace("trial", 255)
    try:
        trial.make()
        trial.lose("OUTPUT", ["-p", "tcp"], 0.5)
    except subprocess.CalledProcessError as error:
        return f"this machine does not let us: {error.stderr.strip()}"
    finally:
        trial.remove()
    return None


def net(number: int, host: int) -> str:
    """An address of this process's own network, one of the 64 in 10.64.0.0/10."""
    return f"10.{_own_network()}.{number}.{host}"


@functools.cache
def _own_network() -> int:
    """The first one from our process id on that nobody has: ids alone fall together at times."""
    return next(free_networks(run("ip", "-oneline", "-4", "address"), os.getpid()))


def free_networks(addresses: str, start: int) -> Iterator[int]:
    """The second bytes of 10.64.0.0/10 that are in none of the addresses, from `start` on."""
    taken = {int(second) for second in re.findall(r"inet 10\.(\d+)\.", addresses)}
    numbers = (64 + (start + step) % 64 for step in range(64))
    return (number for number in numbers if number not in taken)


def front_address() -> str:
    """Where all fronts listen; see `add_front_address`."""
    return net(0, 1)


def add_front_address() -> None:
    """Give the loopback of the harness the address of the fronts."""
    run("ip", "address", "add", f"{front_address()}/32", "dev", "lo")


def remove_front_address() -> None:
    """Take it back, if it is there."""
    with contextlib.suppress(subprocess.CalledProcessError):
        run("ip", "address", "del", f"{front_address()}/32", "dev", "lo")


class Namespace:
    """One node's network.

    Attributes:
        address: the node's.
    """

    def __init__(self, node: str, number: int) -> None:
        self.name = f"kvchaos-{os.getpid()}-{node}"
        self.address = net(number, 2)
        self._gate = net(number, 1)
        self._cable = f"kvc{os.getpid():x}-{number}"

    def make(self) -> None:
        """Make it, with a cable to the harness.

        Raises:
            subprocess.CalledProcessError: the machine does not allow it.
        """
        name, near, far = self.name, f"{self._cable}h", f"{self._cable}n"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        run("ip", "address", "add", f"{self._gate}/30", "dev", near)
        run("ip", "link", "set", near, "up")
        self.run("ip", "address", "add", f"{self.address}/30", "dev", far)
        self.run("ip", "link", "set", far, "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "route", "add", "default", "via", self._gate)

    def command(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """The command that runs `arguments` in it; mounts stay those of the harness."""
        return ("nsenter", f"--net=/run/netns/{self.name}", "--", *arguments)

    def run(self, *arguments: str) -> str:
        """Run a program in it; what it printed."""
        return run(*self.command(arguments))

    def lose(self, chain: str, packets: Sequence[str], share: float) -> None:
        """Lose a share of the packets that come ("INPUT") or go ("OUTPUT") and fit a pattern."""
        odds = ["-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}"]
        self.run("iptables", "-A", chain, *packets, *(odds if share < 1 else []), "-j", "DROP")

    def lost_packets(self) -> int:
        """How many were lost since `heal`."""
        table = self.run("iptables", "-nvxL")
        return sum(int(line.split()[0]) for line in table.splitlines() if " DROP " in line)

    def heal(self) -> None:
        """Lose none any more."""
        self.run("iptables", "-F")

    def remove(self) -> None:
        """Leave nothing of it; the cable goes with it."""
        with contextlib.suppress(subprocess.CalledProcessError):
            run("ip", "netns", "del", self.name)


def remove_leftovers() -> None:
    """Remove the namespaces of processes that are gone."""
    for line in run("ip", "netns", "list").splitlines():
        found = _NAME.match(line)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            with contextlib.suppress(subprocess.CalledProcessError):
                run("ip", "netns", "del", found[0])


def run(*arguments: str) -> str:
    """Run a program; what it printed.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
