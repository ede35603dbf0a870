"""The report of a run: one HTML file that needs nothing from elsewhere.

What was found comes first, with the operations that show it; then the figures, what happened when,
how long operations took while it did, and what came of every fault.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path

from tests.chaos import charts
from tests.chaos.charts import COLOURS, Bar, Span
from tests.chaos.checks.judgement import Judgement, Window
from tests.chaos.digest import Bin, Digest, quantile, spread
from tests.chaos.record import Disturbance, Entry

CURVE_HEIGHT = 160.0
ROWS_SHOWN_MAX = 400
WINDOWS_SHOWN_MAX = 20
WINDOW_SHOWN_MAX = 60
"""Operations of one window."""
EPOCHS_SHOWN_MAX = 60
LOG_MS_TOP = 5
"""The latency plot ends at 10⁵ ms."""
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1240px; color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; } td, th { padding: 2px 10px; text-align: left;
  border-bottom: 1px solid #ddd; vertical-align: top; } td.n { text-align: right; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: #555; }
pre { background: #f5f5f5; padding: 8px; overflow-x: auto; white-space: pre-wrap; }
.bad { color: #b00020; } .good { color: #1a7f37; } .void { color: #9a6700; }
"""


@dataclass(slots=True)
class Chronicle:
    """All epochs of a run.

    Attributes:
        facts: what is told in the table at the top.
        command: how to run it again.
    """

    facts: dict[str, object] = field(default_factory=dict)
    command: str = ""
    digests: list[Digest] = field(default_factory=list)

    @property
    def disturbances(self) -> list[Disturbance]:
        """All faults that were injected."""
        return [one for digest in self.digests for one in digest.disturbances]

    @property
    def pauses_ms(self) -> list[float]:
        """After kills of a leader."""
        return [pause for digest in self.digests for pause in digest.pauses_ms]

    def figures(self) -> dict[str, object]:
        """What was done, in numbers."""
        outcomes: Counter[str] = Counter()
        workloads: Counter[str] = Counter()
        for digest in self.digests:
            for (workload, outcome), number in digest.operations.items():
                outcomes[outcome] += number
                if outcome == "done":
                    workloads[workload] += number
        killed: Counter[str] = Counter()
        for one in self.disturbances:
            if one.kills:
                killed[one.fault] += len(one.targets)
        return {
            "outcomes": dict(outcomes),
            "checked_by_workload": dict(sorted(workloads.items())),
            "checked_per_s": [round(digest.rate) for digest in self.digests],
            "processes_killed": dict(killed),
            "elections_seen": sum(max(0, len(digest.leaders) - 1) for digest in self.digests),
            "errors_told_to_clients": sum(len(digest.incidents) for digest in self.digests),
            "pauses_after_leader_kill": spread(self.pauses_ms),
        }


def publish(
    directory: Path, chronicle: Chronicle, judgement: Judgement, logs: Iterable[Path] = ()
) -> Path:
    """Write the page, and what goes with it; returns where the page is.

    For each violation that operations show there is a file with all that happened around them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    page = directory / "report.html"
    page.write_text(render(chronicle, judgement))
    for log in logs:
        if log.exists():
            shutil.copy(log, directory / log.name)
    stories = [story for digest in chronicle.digests for story in digest.stories]
    for number, story in enumerate(stories, 1):
        (directory / f"window-{number}.txt").write_text("\n".join(story) + "\n")
    return page


def render(chronicle: Chronicle, judgement: Judgement) -> str:
    """The page."""
    figures = {**chronicle.facts, **chronicle.figures()}
    parts = [
        *_verdict(judgement),
        "<h2>Run it again</h2>",
        f"<pre>{escape(chronicle.command)}</pre>",
        "<h2>Figures</h2>",
        _table([[name.replace("_", " "), _words(value)] for name, value in figures.items()]),
        *_faults(chronicle),
    ]
    for number, digest in enumerate(chronicle.digests):
        # Of a long run the last ones, and those in which something was found.
        is_late = number >= len(chronicle.digests) - EPOCHS_SHOWN_MAX
        if not is_late and not digest.judgement.exit_code:
            continue
        parts += [f"<h2>Epoch {number}</h2>", _timeline(digest), _latencies(digest)]
    parts += ["<h2>Every fault</h2>", _every_fault(chronicle)]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<title>kvnode chaos</title><style>{STYLE}</style></head><body>{''.join(parts)}"
        "</body></html>\n"
    )


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(part) for part in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _table(body: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = [
        "".join(f"<td{' class=n' if cell.isdigit() else ''}>{escape(cell)}</td>" for cell in row)
        for row in body
    ]
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


# --- what was found -------------------------------------------------------------------------------


def _verdict(judgement: Judgement) -> list[str]:
    words = {
        0: ("good", "Nothing found: every promise was kept"),
        1: ("bad", f"{len(judgement.violations)} violations"),
        3: ("void", "Void, or undecided"),
    }
    kind, title = words[judgement.exit_code]
    parts = [f"<h1 class='{kind}'>{title}</h1>"]
    for kind, findings in (
        ("bad", judgement.violations),
        ("void", judgement.undecided),
        ("void", judgement.void),
    ):
        for finding, times in Counter(findings).items():
            often = f" ({times} times)" if times > 1 else ""
            parts.append(f"<pre class='{kind}'>{escape(finding)}{often}</pre>")
    return parts + [_window(window) for window in judgement.windows[:WINDOWS_SHOWN_MAX]]


def _window(window: Window) -> str:
    """The operations of a violation as bars, one row for each client, and in words."""
    entries = sorted(window.entries, key=lambda entry: entry.invoked_ns)[:WINDOW_SHOWN_MAX]
    since = entries[0].invoked_ns
    until = max(entry.ended_ns or entry.invoked_ns for entry in entries)
    margin = max(1, (until - since) // 20)
    span = Span(since - margin, until + margin)
    bars = [
        Bar(
            f"client {entry.client}",
            entry.invoked_ns,
            entry.ended_ns or span.until_ns,
            str(entry),
            _colour(entry),
        )
        for entry in entries
    ]
    parts, height = charts.rows(span, bars)
    lines = "\n".join(str(entry) for entry in entries)
    first = escape(window.title.splitlines()[0][:200])
    return f"<h3>{first}</h3>{charts.svg(height, parts, first)}<pre>{escape(lines)}</pre>"


def _colour(entry: Entry) -> str:
    return {"done": COLOURS[2], "refused": COLOURS[6], "unknown": COLOURS[3]}[entry.outcome.value]


# --- what happened when ---------------------------------------------------------------------------


def _fault_bars(digest: Digest) -> list[Bar]:
    families = sorted({one.family for one in digest.disturbances})
    return [
        Bar(
            one.family,
            one.since_ns,
            one.healed_ns or digest.until_ns,
            f"{one.fault} on {', '.join(one.targets)}: {one.evidence or 'did not take hold'}",
            COLOURS[families.index(one.family) % len(COLOURS)],
        )
        for one in digest.disturbances
    ]


def _leader_bars(digest: Digest) -> list[Bar]:
    nodes = sorted({one.node for one in digest.leaders})
    ends = [later.at_ns for _, later in pairwise(digest.leaders)] + [digest.until_ns]
    return [
        Bar(
            f"{one.node} leads",
            one.at_ns,
            end,
            f"{one.node} in term {one.term}",
            COLOURS[nodes.index(one.node) % len(COLOURS)],
        )
        for one, end in zip(digest.leaders, ends, strict=False)  # nobody: one end too many
    ]


def _timeline(digest: Digest) -> str:
    """Operations per second, faults as bars, who leads."""
    span = Span(digest.since_ns, digest.until_ns)
    seconds = _per_second(digest.bins)
    top = charts.nice(max([value for _, value, _ in seconds] or [1]))
    curve = [
        *charts.shades(span, _fault_bars(digest), CURVE_HEIGHT),
        *charts.scale(CURVE_HEIGHT, top, "/s"),
        charts.curve(span, [(at, ok) for at, ok, _ in seconds], CURVE_HEIGHT, top, COLOURS[0]),
        charts.curve(span, [(at, bad) for at, _, bad in seconds], CURVE_HEIGHT, top, COLOURS[1]),
    ]
    bars, height = charts.rows(span, [*_fault_bars(digest), *_leader_bars(digest)])
    below = CURVE_HEIGHT + 12
    return charts.svg(
        below + height + 40,
        [
            charts.shifted(curve, 10),
            charts.shifted(bars, below + 4),
            *charts.clock(span, below + height + 20),
            charts.text(charts.LEFT, below + height + 36, "blue: done, red: refused or unknown"),
        ],
        "operations per second, faults and leaders",
    )


def _per_second(bins: Sequence[Bin]) -> list[tuple[int, float, float]]:
    """Moments, and what was done and not done in the second that begins there."""
    done: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    for one in bins:
        second = one.at_ns // 1_000_000_000
        done[second] += one.done
        failed[second] += one.refused + one.unknown
    if not done:
        return []
    return [
        (second * 1_000_000_000, float(done[second]), float(failed[second]))
        for second in range(min(done), max(done) + 1)
    ]


def _latencies(digest: Digest) -> str:
    """p50, p99 and maximum of each tenth of a second, on a logarithmic scale."""
    span = Span(digest.since_ns, digest.until_ns)
    parts = [
        *charts.shades(span, _fault_bars(digest), CURVE_HEIGHT),
        *charts.scale(CURVE_HEIGHT, LOG_MS_TOP, "ms", logarithmic=True),
    ]
    for colour, name in ((COLOURS[6], "max_ms"), (COLOURS[3], "p99_ms"), (COLOURS[0], "p50_ms")):
        points = [(one.at_ns, math.log10(max(1.0, getattr(one, name)))) for one in digest.bins]
        parts.append(charts.curve(span, points, CURVE_HEIGHT, LOG_MS_TOP, colour))
    return charts.svg(
        CURVE_HEIGHT + 50,
        [
            charts.shifted(parts, 10),
            *charts.clock(span, CURVE_HEIGHT + 26),
            charts.text(
                charts.LEFT,
                CURVE_HEIGHT + 42,
                "blue: p50, yellow: p99, grey: max; by when it began",
            ),
        ],
        "latency of operations",
    )


# --- what came of the faults ----------------------------------------------------------------------


def _faults(chronicle: Chronicle) -> list[str]:
    """A table of faults and outcomes."""
    names = sorted({(one.family, one.fault) for one in chronicle.disturbances})
    body = []
    for family, fault in names:
        ours = [one for one in chronicle.disturbances if one.fault == fault]
        well = sorted(
            (one.until_ns - one.healed_ns) / 1e6
            for one in ours
            if one.until_ns is not None and one.healed_ns is not None
        )
        errors = sum(
            one.covers(incident.node, incident.since_ns, incident.until_ns)
            for digest in chronicle.digests
            for one in digest.disturbances
            if one.fault == fault
            for incident in digest.incidents
        )
        body.append(
            [
                family,
                fault,
                str(len(ours)),
                str(sum(one.evidence is not None for one in ours)),
                str(sum(one.was_leader for one in ours)),
                str(errors),
                f"{quantile(well, 0.5):.0f} / {well[-1]:.0f} ms" if well else "never",
            ]
        )
    head = (
        *("family", "fault", "times", "took hold", "on a leader"),
        *("errors at its nodes", "all well again after healing, p50 / max"),
    )
    return ["<h2>Faults</h2>", _table(body, head)]


def _every_fault(chronicle: Chronicle) -> str:
    start = min((digest.since_ns for digest in chronicle.digests), default=0)
    body = [
        [
            f"{(one.since_ns - start) / 1e9:.1f} s",
            one.fault,
            ", ".join(one.targets) + (" (leads)" if one.was_leader else ""),
            "-" if one.healed_ns is None else f"{(one.healed_ns - one.since_ns) / 1e9:.1f} s",
            one.evidence or "did not take hold",
        ]
        for one in chronicle.disturbances[:ROWS_SHOWN_MAX]
    ]
    return _table(body, ("at", "fault", "nodes", "for", "evidence"))
