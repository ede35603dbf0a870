"""Logs on disk: nothing was repaired away past its witness, and what is left can be read.

A node that cuts its log says so, and keeps the bytes as they were. So the harness can look for
itself: every record header in those bytes that is good says how far the log was known to be durable
when it was written. A cut below the farthest of these is the worst that a log can do.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from scripts.local_cluster import kvnode_command
from tests.chaos.checks.judgement import Judgement
from wal.format import ALIGNMENT, decode_record_header, decode_segment_header

CLEAN = 0
REPAIRABLE = 3
"""What `kvnode wal verify` says of a torn tail, which a killed node may leave."""
VERIFY_SECONDS_MAX = 60.0
_REPAIR = re.compile(r'msg="WAL tail truncated, repairing".*')
_FIELD = re.compile(r'\b(segment|offset|evidence)=("?)([^" ]+)\2')
_BUGS = re.compile(
    r"Task exception was never retrieved|Task was destroyed but it is pending|was never awaited"
)


def check_logs(logs: Mapping[str, Path], judgement: Judgement) -> None:
    """Judge what nodes have written down, by name: cuts below a witness, and tasks that died."""
    for node, path in logs.items():
        text = path.read_text(errors="replace") if path.exists() else ""
        judgement.violations += [
            f"{node} logged: {line.strip()}" for line in text.splitlines() if _BUGS.search(line)
        ]
        for line in _REPAIR.findall(text):
            fields = {name: value for name, _, value in _FIELD.findall(line)}
            evidence = Path(fields["evidence"])
            if evidence.exists():
                known = witness(evidence.read_bytes())
                if known > int(fields["offset"]):
                    judgement.violate(
                        f"{node} cut segment {fields['segment']} at {fields['offset']}, though "
                        f"{known} bytes of it were known to be durable: {line}"
                    )


def witness(segment: bytes) -> int:
    """How far a segment was known to be durable by any good header in it; 0 if there is none."""
    header = decode_segment_header(segment)
    if header is None:
        return 0
    found = (
        decode_record_header(segment, at, at, header.salt)
        for at in range(0, len(segment), ALIGNMENT)
    )
    return max((one.synced_upto for one in found if one is not None), default=0)


def verify(node: str, directory: Path) -> str | None:
    """What `kvnode wal verify` finds wrong with a node's directory; None: nothing."""
    done = subprocess.run(
        [*kvnode_command(), "wal", "verify", str(directory)],
        capture_output=True,
        text=True,
        timeout=VERIFY_SECONDS_MAX,
        check=False,
    )
    if done.returncode in (CLEAN, REPAIRABLE):
        return None
    return f"{node}: kvnode wal verify ended with {done.returncode}: {done.stdout}"
