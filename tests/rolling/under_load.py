"""Rolls in a row under load: what clients notice of them.

Three machines (`hosts`), sixteen redis-py clients with their default retries (`load`), and the real
script, which rolls from one image to another and back: the same program, so that each roll has all
three nodes to replace.

**Who is on the restarting node.** A client stays at its node for good. A call counts as made *on
the restarting node* if it was made at that node and was under way at any moment between

- the order to stop it: the moment when `docker stop` is called on its machine, noted there. The
  drain before that is no excuse: a node that is drained serves on, and
- the line in which the script says that it is back: ready, caught up, and a write and a read have
  gone through it. From then on there is no excuse, though the script still looks whether it stays
  so. (Its report tells whole seconds only; times are those at which its lines come.)

All other calls are made *elsewhere*, those of the same clients a moment later included. Elsewhere
no call may fail, and none may take longer than a second. On the restarting node calls may fail and
take as long as the node is away; what was acknowledged must be there all the same, and nothing may
be done twice.

After each roll the clients pause, everything that was acknowledged is read back through other nodes
than it was written through, and the state hashes of all nodes must be equal.

With a broken image (`Break`) the second node of the roll gets one that cannot serve. The roll must
stop there with exit code 1: the first node stays updated, the second has its old image back, the
third was never touched, and the cluster is well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.rolling.fleet import MUTE, NODES, Fleet, derived_image
from tests.rolling.load import CLIENTS, Call, Load
from tests.support.docker import Containers, until

PAUSE_SECONDS_MAX = 1.0
"""The longest that a call elsewhere may take."""
WORST_CALLS = 3
"""Calls elsewhere that are shown with what the script was doing."""
DONE, FAILED = 0, 1

ENDS = 'ENTRYPOINT ["sh", "-c", "[ $0 = serve ] || exec kvnode $0; exit 1"]\nCMD ["serve"]'
"""Tells its version, and ends at once when it is to serve."""
BROKEN = {"ends": ENDS, "mute": MUTE}
"""How a new image can be broken so that nothing shows before it is started."""

READ_HASH = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8379/hash", timeout=5).read().decode())
"""


class Heard(NamedTuple):
    """A line of the script, and when it came (wall clock, seconds)."""

    at: float
    node: str
    text: str


@dataclass(frozen=True)
class Rolled:
    """One run of the script; `orders` tells when which node was ordered to stop."""

    code: int
    begun: float
    ended: float
    lines: list[Heard]
    orders: list[tuple[float, str]]
    complaints: str = ""


# --- judging --------------------------------------------------------------------------------------


class Window(NamedTuple):
    """When a node was restarted: from the order to stop until it was back (wall clock, seconds)."""

    node: str
    begun: float
    ended: float

    def covers(self, call: Call) -> bool:
        """Whether a call was made on the restarting node."""
        return call.node == self.node and call.begun < self.ended and call.ended > self.begun


def windows(rolled: Rolled) -> list[Window]:
    """One for each node that was stopped; a node that never came back: to the end of the roll."""
    first: dict[str, float] = {}
    for at, node in rolled.orders:
        first.setdefault(node, at)
    return [
        Window(node, begun, max(_backs(rolled.lines, node, begun), default=rolled.ended))
        for node, begun in first.items()
    ]


def _backs(lines: Iterable[Heard], node: str, since: float) -> Iterable[float]:
    return (
        line.at
        for line in lines
        if line.node == node and line.at > since and line.text.startswith("back:")
    )


@dataclass
class Side:
    """What the clients on one side met."""

    done: int = 0
    failed: int = 0
    worst: Call | None = None
    lost: int = 0
    twice: int = 0
    errors: dict[str, int] = field(default_factory=dict)

    def add(self, call: Call) -> None:
        """Count a call."""
        if call.error:
            self.failed += 1
            self.errors[call.error] = self.errors.get(call.error, 0) + 1
        else:
            self.done += 1
        if self.worst is None or call.seconds > self.worst.seconds:
            self.worst = call
        self.lost += call.lost
        self.twice += call.twice

    @property
    def pause(self) -> float:
        """The longest call, in seconds."""
        return self.worst.seconds if self.worst else 0.0

    def __str__(self) -> str:
        """For people."""
        return f"{self.done:,} done, {self.failed} failed, worst pause {self.pause:.2f} s"


@dataclass
class Verdict:
    """What came of one roll; `wrong` says what should not have."""

    rolled: Rolled
    elsewhere: Side
    restarting: Side
    lost: int
    twice: int
    state: str
    slowest: list[Call]
    wrong: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of the script."""
        return self.rolled.ended - self.rolled.begun

    def judge(self, code: int) -> None:
        """Note what is wrong whatever the roll was; `code` is the exit code that it should have."""
        if self.rolled.code != code:
            self.wrong.append(f"exit code {self.rolled.code}: {self.rolled.complaints}")
        if self.elsewhere.failed:
            self.wrong.append(f"calls elsewhere failed: {self.elsewhere.errors}")
        if not self.elsewhere.done or not self.restarting.done + self.restarting.failed:
            self.wrong.append("nobody called")
        if self.lost:
            self.wrong.append(f"{self.lost} acknowledged operations are lost")
        if self.twice:
            self.wrong.append(f"{self.twice} operations were done twice")

    @property
    def losses(self) -> str:
        """For people."""
        return f"lost {self.lost}, done twice {self.twice}"

    @property
    def is_quick(self) -> bool:
        """Whether nobody elsewhere waited too long; depends on what else the machine does."""
        return self.elsewhere.pause <= PAUSE_SECONDS_MAX

    @property
    def away(self) -> str:
        """For people: how many seconds each node was away."""
        spans = (f"{span.node} {span.ended - span.begun:.1f}" for span in windows(self.rolled))
        return f"seconds away: {', '.join(spans)}"

    def __str__(self) -> str:
        """A few lines for people."""
        lines = [
            f"exit {self.rolled.code} after {self.seconds:.0f} s; {self.losses}; {self.state}",
            f"    {self.away}",
            f"    elsewhere:             {self.elsewhere}",
            f"    on the restarting node: {self.restarting}",
            *(f"        {count} x {error}" for error, count in self.restarting.errors.items()),
        ]
        lines += [f"    slow: {_place(call, self.rolled)}" for call in self.slowest]
        lines += [f"    WRONG: {text}" for text in self.wrong]
        return "\n".join(lines)


def _place(call: Call, rolled: Rolled) -> str:
    """A call, and where in the roll it was."""
    before = [line for line in rolled.lines if line.at <= call.begun]
    where = "before the first step"
    if before:
        where = f"{call.begun - before[-1].at:.2f} s after {before[-1].node} {before[-1].text}"
    return f"{call.what} at {call.node} took {call.seconds:.2f} s, begun {where}"


def sides(calls: Iterable[Call], spans: Sequence[Window]) -> tuple[Side, Side, list[Call]]:
    """Elsewhere, on the restarting node, and the slowest calls elsewhere."""
    elsewhere, restarting, others = Side(), Side(), []
    for call in calls:
        if any(span.covers(call) for span in spans):
            restarting.add(call)
        else:
            elsewhere.add(call)
            others.append(call)
    slowest = sorted(others, key=lambda call: -call.seconds)[:WORST_CALLS]
    return elsewhere, restarting, slowest


# --- rolling --------------------------------------------------------------------------------------


class Stage:
    """A cluster in containers, its clients, and two images to roll between."""

    def __init__(
        self, containers: Containers, seed: int, clients: int = CLIENTS, **variables: str
    ) -> None:
        """Starts the cluster with the first image; `variables` are the script's, for every roll."""
        self._containers = containers
        self._variables = variables
        self.fleet = Fleet(containers)
        self.fleet.begin(**variables)
        present = self.fleet.versions()[0]
        self._versions = [present, f"{present}.1"]
        self._images = [containers.image, derived_image(containers, "next", self._versions[1])]
        self._present = 0
        self._report = containers.directory / "report.json"
        self.load = Load({node: self.fleet.address(node) for node in NODES}, seed, clients)

    def roll(self) -> Verdict:
        """Roll all nodes to the other image, under load."""
        self._present = 1 - self._present
        verdict = self._roll(self._images[self._present], DONE)
        self._expect(verdict, dict.fromkeys(NODES, self._versions[self._present]))
        return verdict

    def roll_broken(self, how: str) -> Verdict:
        """The same with an image that is broken on the host of the second node."""
        leader = self.fleet.leader()
        first, second, *_ = [*(node for node in NODES if node != leader), leader]
        old, new = self._versions[self._present], self._versions[1 - self._present]
        broken = derived_image(self._containers, how, new, BROKEN[how])
        self.fleet.give(second, broken)
        wanted = self._images[1 - self._present]
        verdict = self._roll(wanted, FAILED, HEALTH_TIMEOUT_SECONDS="10")
        self._expect(verdict, dict.fromkeys(NODES, old) | {first: new})
        outcomes = [node["outcome"] for node in self._read_report()["nodes"]]
        if outcomes != ["updated", "rolled back"]:
            verdict.wrong.append(f"the report says {outcomes}")
        return verdict

    def _expect(self, verdict: Verdict, versions: dict[str, str]) -> None:
        found = dict(zip(NODES, self.fleet.versions(), strict=True))
        if found != versions:
            verdict.wrong.append(f"{found} run, and {versions} should")

    def _read_report(self) -> Any:
        return json.loads(self._report.read_text())

    def _roll(self, image: str, code: int, **variables: str) -> Verdict:
        self.load.begin()
        rolled = self._run(image, variables)
        elsewhere, restarting, slowest = sides(self.load.pause(), windows(rolled))
        lost, twice = self.load.read_back()
        lost += elsewhere.lost + restarting.lost
        twice += elsewhere.twice + restarting.twice
        state = self._wait_equal()
        verdict = Verdict(rolled, elsewhere, restarting, lost, twice, state, slowest)
        verdict.judge(code)
        if self._read_report()["exit"] != rolled.code:
            verdict.wrong.append("the report tells another exit code")
        if leftovers := self.fleet.leftovers():
            verdict.wrong.append(f"the script left {leftovers}")
        return verdict

    def _run(self, image: str, variables: dict[str, str]) -> Rolled:
        self._report.unlink(missing_ok=True)
        self.fleet.forget_orders()
        begun = time.time()
        # Clients stay connected, so a drain waits for its timeout. The rest is the script's own.
        defaults = {
            "POLL_SECONDS": "1",
            "SETTLE_TIMEOUT_SECONDS": "30",
            "ROLLING_DELAY_SECONDS": "2",
        }
        variables = defaults | {"DRAIN_TIMEOUT_SECONDS": "2"} | self._variables | variables
        with self.fleet.start_roll(image, "--report", str(self._report), **variables) as script:
            assert script.stdout is not None
            assert script.stderr is not None
            lines = [heard(line, time.time()) for line in script.stdout]
            complaints = script.stderr.read()
        orders = self.fleet.orders()
        return Rolled(script.returncode, begun, time.time(), lines, orders, complaints)

    def _wait_equal(self) -> str:
        """All nodes are ready, agree on the leader, and have the same state at the same index."""
        told: set[str] = set()

        def is_equal() -> bool:
            told.clear()
            for node in NODES:
                container = self.fleet.container(node)
                status = container.exec("kvnode", "status", "--get", "ready", "leader").stdout
                told.add(status + container.exec("python", "-c", READ_HASH).stdout)
            return len(told) == 1

        until(is_equal, "the nodes do not get to agree")
        ready, leader, *page = told.pop().split("\n")
        assert ready == "true"
        found = json.loads("".join(page))
        return f"{leader} leads; states equal at {found['index']}: {found['hash']}"


def heard(line: str, at: float) -> Heard:
    """A line of the script: the time of day, a node, and what it says; or anything else."""
    words = line.rstrip("\n").split(maxsplit=2)
    if len(words) == 3 and words[0].endswith("Z"):
        return Heard(at, words[1], words[2])
    return Heard(at, "", line.rstrip("\n"))
