"""A small language for command lines: `SET key value {NX|XX|} [GET] {EX seconds|KEEPTTL|}`.

A word in lower case is an *atom*, replaced by something random of that sort; every other word
stands for itself, as does what follows an apostrophe (`'on`). `{a|b}` is one of the alternatives,
`[a]` is a or nothing, and a `+` behind a word or a brace repeats it one to three times. Templates
make the table of commands data that can be read.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

Atoms: TypeAlias = Mapping[str, Callable[[random.Random], bytes]]
Render: TypeAlias = Callable[[random.Random], list[bytes]]

REPEATS_MAX = 3

_TOKEN = re.compile(r"[{}\[\]|+]|[^\s{}\[\]|+]+")


class BadTemplate(ValueError):
    """A template that does not follow the language, or names an unknown atom."""


def compile_template(template: str, atoms: Atoms) -> Render:
    """Make a template into a function from randomness to arguments.

    Raises:
        BadTemplate: braces do not match, or a word in lower case is no atom.
    """
    tokens = _TOKEN.findall(template)
    render, at = _alternatives(tokens, 0, atoms)
    if at != len(tokens):
        raise BadTemplate(f"{template!r}: unexpected {tokens[at]!r}")
    return render


def _alternatives(tokens: list[str], at: int, atoms: Atoms) -> tuple[Render, int]:
    choices: list[Render] = []
    while True:
        choice, at = _sequence(tokens, at, atoms)
        choices.append(choice)
        if at == len(tokens) or tokens[at] != "|":
            break
        at += 1
    return (lambda rng: rng.choice(choices)(rng)) if len(choices) > 1 else choices[0], at


def _sequence(tokens: list[str], at: int, atoms: Atoms) -> tuple[Render, int]:
    parts: list[Render] = []
    while at < len(tokens) and tokens[at] not in "|}]":
        token = tokens[at]
        if token == "+":
            if not parts:
                raise BadTemplate("nothing to repeat")
            parts[-1] = _repeated(parts[-1])
        elif token in "{[":
            inner, at = _alternatives(tokens, at + 1, atoms)
            if at == len(tokens) or tokens[at] != ("}" if token == "{" else "]"):
                raise BadTemplate(f"{token!r} is never closed")
            parts.append(inner if token == "{" else _optional(inner))
        else:
            parts.append(_word(token, atoms))
        at += 1
    return lambda rng: [word for part in parts for word in part(rng)], at


def _repeated(part: Render) -> Render:
    return lambda rng: [word for _ in range(rng.randint(1, REPEATS_MAX)) for word in part(rng)]


def _optional(part: Render) -> Render:
    return lambda rng: part(rng) if rng.random() < 0.5 else []


def _word(word: str, atoms: Atoms) -> Render:
    if not word[0].islower():
        literal = word.removeprefix("'").encode()
        return lambda _rng: [literal]
    if word not in atoms:
        raise BadTemplate(f"no atom is called {word!r}")
    atom = atoms[word]
    return lambda rng: [atom(rng)]
