"""Money is neither made nor lost: a transaction is done as a whole, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.chaos.checks.judgement import Judgement
from tests.chaos.record import Entry, Json


def check_balances(
    reads: Sequence[Entry],
    transfers: Sequence[Entry],
    finals: Mapping[str, tuple[Json, Mapping[str, Json]]],
    judgement: Judgement,
) -> None:
    """Judge a bank.

    Args:
        reads: of all balances at once.
        transfers: each has a line as its argument: debtor, creditor, amount.
        finals: by node, the balances and the lines in the book, at the end.
    """
    torn = [entry for entry in reads if entry.is_done and sum(_numbers(entry.result).values()) != 0]
    judgement.violate_each("reads saw a half of a transfer", torn)
    for node, (accounts, book) in finals.items():
        due: Counter[str] = Counter()
        for entry in transfers:
            if (line := book.get(entry.key)) is not None:
                debtor, creditor, amount = str(line).split()
                due[debtor] -= int(amount)
                due[creditor] += int(amount)
        found = _numbers(accounts)
        wrong = {
            account: (found.get(account, 0), due[account])
            for account in {*found, *due}
            if found.get(account, 0) != due[account]
        }
        if wrong:
            judgement.violate(f"{node}: balances are not what the book says: {wrong}")


def _numbers(balances: Json) -> dict[str, int]:
    assert isinstance(balances, dict), balances
    return {account: balance for account, balance in balances.items() if isinstance(balance, int)}
