"""COMMANDS.md and the command table say the same."""

from __future__ import annotations

from kvnode.resp.commands.refused import REFUSED
from kvnode.resp.commands.table import ROWS
from scripts.commands_md import PATH, text


def test_the_document_is_what_the_table_says() -> None:
    assert PATH.read_text() == text(), "make it anew: python -m scripts.commands_md"


def test_every_command_and_every_refusal_is_in_the_document() -> None:
    shown = text()
    names = [row.name for row in ROWS if not row.subcommands] + list(REFUSED)
    assert [name for name in names if f"`{name.upper().replace('|', ' ')}`" not in shown] == []
