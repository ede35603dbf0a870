"""What a run tells people: on the terminal, and as the record that is kept in the repository."""

from __future__ import annotations

from collections.abc import Iterator

from tests.differential.campaign import ALWAYS_REFUSED, Campaign, Coverage, Finding, Tally
from tests.differential.commands import EXCLUDED
from tests.differential.rules import DELIBERATE, OPEN, RULES
from tests.differential.sequence import redis_cli_lines


def print_report(campaign: Campaign, covered: Coverage, demand: int) -> None:
    """Print figures, lists and findings."""
    for line in (*_lists(campaign), *_coverage(covered), *_figures(campaign)):
        print(line)
    for finding in campaign.findings:
        print("\n".join(finding_lines(finding)))
    for signature, times in campaign.seen.items():
        print(f"DIFFERENCE, {times} times: {' / '.join(signature)}")
    if campaign.crash:
        print(f"CRASH in {campaign.crash}")
    for reason in campaign.voids[:10]:
        print(f"VOID: {reason}")
    if demand and (short := campaign.tally.short_of(campaign.generator.names, demand)):
        print(f"VOID: fewer than {demand} replies, or mostly errors: {', '.join(short)}")
    print(f"{campaign.played} sequences compared, {len(campaign.voids)} void")


def _lists(campaign: Campaign) -> Iterator[str]:
    yield "Compared by rule instead of byte for byte:"
    for rule in RULES:
        yield f"  {', '.join(rule.names)}: {rule.why}"
    for title, entries in (("Deliberate differences:", DELIBERATE), ("Open defects:", OPEN)):
        if entries:
            yield title
        for entry in entries:
            yield f"  {entry.why} (met {campaign.accepted[entry.why]} times)"


def _coverage(covered: Coverage) -> Iterator[str]:
    if covered.missing:
        yield f"Not offered by kvnode: {', '.join(covered.missing)}"
    if covered.unlisted:
        yield f"Offered but never compared: {', '.join(covered.unlisted)}"


def _figures(campaign: Campaign) -> Iterator[str]:
    tally = campaign.tally
    yield "Replies, the share that were no error, and the share that told of data:"
    cells = [
        f"{name} {tally.answered[name]} {tally.share(name):.0%}"
        for name in campaign.generator.names
    ]
    width = max(map(len, cells), default=0) + 2
    for at in range(0, len(cells), 4):
        yield "  " + "".join(cell.ljust(width) for cell in cells[at : at + 4]).rstrip()


def _fruitful(tally: Tally, name: str) -> str:
    return f"{tally.fruitful[name] / max(tally.answered[name], 1):.0%}"


def finding_lines(finding: Finding) -> list[str]:
    """A finding for people: what differs, and the lines that show it."""
    difference = finding.difference
    steady = "" if finding.steady else ", and not when it was played again"
    return [
        "",
        f"DIFFERENCE in sequence {finding.number}{steady}: {b' '.join(difference.line)!r}",
        f"  redis-server: {difference.redis}",
        f"  kvnode:       {difference.kvnode}",
        *(f"    {line}" for line in redis_cli_lines(finding.sequence)),
    ]


def record(campaign: Campaign, covered: Coverage, command: str, commit: str, seconds: float) -> str:
    """The outcome of a long run as Markdown."""
    tally = campaign.tally
    replies = sum(tally.answered.values())
    lines = [
        "# The last long run",
        "",
        f"- Run: `{command}`",
        f"- Commit: `{commit}`",
        f"- Compared: {campaign.played} sequences in {seconds:.0f} s",
        f"- Replies: {replies}, of {len(campaign.generator.names)} commands",
        f"- Not compared (a node refused or did not know): {len(campaign.voids)} sequences",
        f"- Kinds of differences beyond those listed here: {len(campaign.seen)}",
        "",
        "Every tenth sequence went through a follower of three nodes, the others to a single node.",
        "",
        "## Where the servers may differ",
        "",
        *(f"- {', '.join(rule.names)}: {rule.why}." for rule in RULES),
        "",
        "### Deliberate, and how often met",
        "",
        *(f"- {each.why}. ({campaign.accepted[each.why]})" for each in DELIBERATE),
        "",
        "### Open defects, and how often met",
        "",
        *(f"- {each.why}. ({campaign.accepted[each.why]})" for each in OPEN),
        *([] if OPEN else ["- none"]),
        "",
        "## Never compared",
        "",
        *(f"- {name}: {why}." for name, why in sorted(EXCLUDED.items())),
        "",
        "Not offered by kvnode at that commit: " + (", ".join(covered.missing) or "none") + ".",
        "",
        "## Replies of redis-server",
        "",
        "A reply tells of data if it is neither an error nor null, empty, zero or negative.",
        "",
        "| Command | Replies | No error | Tells of data |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {name.replace('|', ' ')} | {tally.answered[name]} | "
        + ("—" if name in ALWAYS_REFUSED else f"{tally.share(name):.0%}")
        + f" | {_fruitful(tally, name)} |"
        for name in campaign.generator.names
    ]
    return "\n".join(lines) + "\n"
