"""What commands have in common: options, tables, JSON, and complaints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

data_argument = click.argument("data", metavar="DIR", type=click.Path(path_type=Path))


def complain(sentence: str) -> None:
    """Say what is wrong on stderr, in one line."""
    click.echo(f"kvnode: {sentence}", err=True)


def print_json(document: object) -> None:
    """Print a document for scripts."""
    import json

    click.echo(json.dumps(document, indent=2))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns; the first is the header."""
    for line in table_lines(rows):
        click.echo(line)


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay rows out in columns, a line each."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
