"""A bank: money moves between the fields of a hash, in transactions.

MULTI, HINCRBY of one account down and of another up, a line in the book, EXEC. All accounts
together are worth nothing, always, and whoever reads them sees that. At the end they are what the
book says, and the book has every acknowledged transfer and no refused one.
"""

from __future__ import annotations

import random
from typing import ClassVar

from tests.chaos.checks.exactly_once import check_ledger
from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.money import check_balances
from tests.chaos.client import Connection, Reply
from tests.chaos.record import Json, Record
from tests.chaos.workloads.protocol import Client, Endpoint, Workload, fetch, read_keys, texts
from tests.support.history import Outcome

ACCOUNTS = 12
AMOUNT_MAX = 100
READ_ODDS = 0.25


class Bank(Workload):
    """See the module."""

    name: ClassVar[str] = "bank"
    clients_per_node: ClassVar[int] = 1

    def client(self, number: int, node: Endpoint, rng: random.Random, record: Record) -> Client:
        """A teller."""
        return Teller(self, number, node, rng, record)

    @property
    def accounts(self) -> str:
        """The hash with all balances."""
        return self.key("accounts")

    @property
    def book(self) -> str:
        """The hash with a line for each transfer."""
        return self.key("book")

    async def look(self, node: str, connection: Connection, record: Record) -> None:
        """The balances, and the line of each transfer."""
        (reply,) = await fetch(connection, ("HGETALL", self.accounts))
        record.final(node, self.accounts, balances(reply))
        transfers = [entry.key for entry in record.of(self.name) if entry.is_change]
        await read_keys(node, connection, record, transfers, ("HMGET", self.book))

    def check(self, record: Record) -> Judgement:
        """The book has all transfers, and the sums are right."""
        judgement = Judgement()
        entries = list(record.of(self.name))
        transfers = [entry for entry in entries if entry.is_change]
        finals = self.finals(record)
        check_ledger(transfers, finals, judgement)
        check_balances(
            [entry for entry in entries if not entry.is_change],
            transfers,
            {node: (found[self.accounts], found) for node, found in finals.items()},
            judgement,
        )
        return judgement


class Teller(Client):
    """Moves money, and looks at all accounts now and then."""

    def __init__(
        self, workload: Bank, number: int, node: Endpoint, rng: random.Random, record: Record
    ) -> None:
        super().__init__(workload.name, number, node, rng, record)
        self.bank = workload

    async def step(self) -> None:
        """A look, or a transfer."""
        if self.random.random() < READ_ODDS:
            entry = self.begin("read", self.bank.accounts)
            replies = await self.ask(entry, ("HGETALL", self.bank.accounts))
            if replies is not None:
                entry.finish(Outcome.DONE, balances(replies[0]))
            return
        debtor, creditor = self.random.sample(range(ACCOUNTS), 2)
        amount = self.random.randint(1, AMOUNT_MAX)
        line = f"{debtor} {creditor} {amount}"
        entry = self.begin("transfer", self.bank.key(self.unique()), line)
        replies = await self.ask(
            entry,
            ("MULTI",),
            ("HINCRBY", self.bank.accounts, debtor, -amount),
            ("HINCRBY", self.bank.accounts, creditor, amount),
            ("HSETNX", self.bank.book, entry.key, line),
            ("EXEC",),
        )
        if replies is not None:
            entry.finish(Outcome.DONE)


def balances(reply: Reply) -> dict[str, Json]:
    """HGETALL's reply."""
    found = texts(reply)
    return {account: int(balance) for account, balance in zip(found[::2], found[1::2], strict=True)}
