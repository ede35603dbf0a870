"""The parts of the differential machine, without a server."""

from __future__ import annotations

import random
import shlex
from itertools import pairwise

import pytest

from tests.differential.commands import COMMANDS, COMMON, EXCLUDED, Cast, without_row
from tests.differential.compare import (
    Difference,
    Transcript,
    accepted_by,
    answers,
    differences,
)
from tests.differential.comparing import Answer
from tests.differential.families import FAMILIES
from tests.differential.generator import COMMANDS_MIN, Generator
from tests.differential.machine import chunks
from tests.differential.resp import QUEUED, NotResp, Reader, Reply
from tests.differential.rules import close_in_time
from tests.differential.sequence import (
    SECOND,
    Held,
    Release,
    Send,
    Sequence,
    quoted,
    redis_cli_lines,
)
from tests.differential.shrink import shrink
from tests.differential.templates import BadTemplate, compile_template
from tests.differential.words import ATOMS

OK = Reply(b"+", b"OK")
STREAM = (
    b"+OK\r\n-ERR no\r\n:-5\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n_\r\n,1.5\r\n#t\r\n*2\r\n:1\r\n*0\r\n"
)
STREAM += b"%1\r\n$1\r\nk\r\n~1\r\n+v\r\n=5\r\ntxt:x\r\n"


def replies_of(stream: bytes) -> list[Reply]:
    reader = Reader()
    reader.feed(stream)
    return reader.replies()


def number(value: int) -> Reply:
    return Reply(b":", b"%d" % value)


def test_a_needless_abort_is_accepted_only_behind_two_sweeps() -> None:
    aborted = Difference("exec", (b"EXEC",), "*[+b'OK']", "*(null)", ("exec", "*", "*null"))
    passed = Difference("exec", (b"EXEC",), "*(null)", "*[+b'OK']", ("exec", "*null", "*"))
    assert accepted_by(aborted, [b"watch", b"swapdb"]) is None
    assert accepted_by(aborted, [b"swapdb", b"swapdb"]) is not None
    assert accepted_by(passed, [b"swapdb", b"swapdb"]) is None


# --- resp -----------------------------------------------------------------------------------------


def test_replies_keep_their_types_apart() -> None:
    nulls = replies_of(b"$-1\r\n*-1\r\n_\r\n")
    assert [reply.value for reply in nulls] == [None, None, None]
    assert len(set(nulls)) == 3
    assert len(set(replies_of(b"+1\r\n:1\r\n$1\r\n1\r\n,1\r\n(1\r\n"))) == 5


def test_a_map_has_two_elements_per_entry() -> None:
    (reply,) = replies_of(b"%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n")
    assert len(reply.elements) == 4


def test_replies_do_not_depend_on_how_the_bytes_are_cut() -> None:
    whole = replies_of(STREAM)
    for at in range(len(STREAM)):
        reader = Reader()
        reader.feed(STREAM[:at])
        found = reader.replies()
        reader.feed(STREAM[at:])
        assert found + reader.replies() == whole


@pytest.mark.parametrize("stream", [b"hello\r\n", b"$x\r\n", b"$1\r\nabc\r\n"])
def test_what_is_no_reply_is_refused(stream: bytes) -> None:
    with pytest.raises(NotResp):
        replies_of(stream)


# --- templates and commands -----------------------------------------------------------------------


def rendered(template: str) -> set[bytes]:
    render = compile_template(template, {"key": lambda _rng: b"k"})
    return {b" ".join(render(random.Random(seed))) for seed in range(100)}


def test_templates_render_what_they_say() -> None:
    assert rendered("GET key 'key") == {b"GET k key"}
    assert rendered("A {B|C key}") == {b"A B", b"A C k"}
    assert rendered("A [B]") == {b"A", b"A B"}
    assert rendered("A {key B}+") == {b"A k B", b"A k B k B", b"A k B k B k B"}
    assert rendered("A|B") == {b"A", b"B"}


@pytest.mark.parametrize("template", ["GET kye", "A {B", "A }", "+ A", "A [B}"])
def test_a_template_with_a_mistake_is_refused(template: str) -> None:
    with pytest.raises(BadTemplate):
        compile_template(template, ATOMS)


def test_every_row_renders_the_command_that_it_is_about() -> None:
    rng = random.Random(1)
    cast = Cast(tuple(FAMILIES.values()), COMMANDS)
    for name in COMMANDS:
        words = name.split("|")
        for _ in range(20):
            line = [word.decode("latin-1").lower() for word in cast.render(name, rng)]
            assert line[: len(words)] == words or line[1] == "foo"


def test_no_command_has_both_a_row_and_a_reason_for_none() -> None:
    assert COMMANDS.keys() & EXCLUDED.keys() == set()
    assert without_row({"get", "shutdown", "object|help", "nosuch"}) == {"nosuch"}


# --- generator ------------------------------------------------------------------------------------


def test_a_sequence_depends_on_nothing_but_its_seed_and_number() -> None:
    first, again = Generator(7, COMMANDS), Generator(7, COMMANDS)
    assert [first.sequence(n) for n in (0, 1, 2)] == [again.sequence(n) for n in (0, 1, 2)]
    assert first.sequence(0) != first.sequence(1) != Generator(8, COMMANDS).sequence(1)


def test_a_sequence_has_at_least_twenty_commands() -> None:
    for at in range(200):
        steps = Generator(7, COMMANDS).sequence(at).steps
        assert sum(isinstance(step, Send) for step in steps) >= COMMANDS_MIN


def test_only_commands_that_both_servers_know_are_used() -> None:
    generator = Generator(7, {"get", "ping"})
    assert sorted(generator.names) == ["get", "ping"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_sequence_about_one_family_sends_its_commands_mostly(name: str) -> None:
    generator = Generator(7, COMMANDS, [name])
    family = FAMILIES[name]
    own = {command.partition("|")[0] for command in family.commands}
    templates = [part for form in family.waits for part in (form.held, *form.meanwhile, *form.last)]
    own |= {line.partition(" ")[0].lower() for line in (*family.furniture, *templates)}
    others = {row for each in FAMILIES.values() if each.name != name for row in each.commands}
    sent = [
        step.name.decode()
        for number in range(20)
        for step in generator.sequence(number).steps
        if isinstance(step, Send)
    ]
    assert sum(word in own for word in sent) > 0.35 * len(sent)
    of_shapes = {"set", "incr", "get"}
    strangers = {row.partition("|")[0] for row in others} - own - of_shapes
    assert not strangers & set(sent)


def test_a_client_that_waits_is_released_and_only_the_other_speaks_meanwhile() -> None:
    generator, waits = Generator(7, COMMANDS, ["blocking"]), 0
    for number in range(40):
        for unit in generator.sequence(number).units:
            for at, step in enumerate(unit):
                if isinstance(step, Held):
                    waits += 1
                    assert unit[-1] == Release(step)
                    between = unit[at + 1 : -1]
                    assert all(isinstance(other, Send) and other.connection for other in between)
    assert waits > 20


def test_no_word_command_or_type_belongs_to_two_families() -> None:
    for parts in ("commands", "atoms", "companions", "listings"):
        names = [name for family in FAMILIES.values() for name in getattr(family, parts)]
        assert len(names) == len(set(names)), parts
    assert not COMMON.keys() & {name for each in FAMILIES.values() for name in each.commands}


# --- sequences ------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", [b"", b"a b", b"plain", b'"\\', b"\x00\r\n\xff", b"'", b"#"])
def test_arguments_are_quoted_so_that_redis_cli_reads_them_back(argument: bytes) -> None:
    if b"\\x" in quoted(argument).encode():
        assert quoted(argument) == r'"\x00\x0d\x0a\xff"'
    else:
        assert [word.encode() for word in shlex.split(quoted(argument))] == [argument]


def test_lines_tell_connections_and_writes_apart() -> None:
    steps = (
        Send((b"MULTI",)),
        Send((b"EXEC",), joined=True),
        Send((b"GET", b"a"), SECOND),
    )
    lines = redis_cli_lines(Sequence((2, 3), tuple((step,) for step in steps)))
    assert [line for line in lines if not line.startswith("#")] == ["MULTI", "EXEC", "GET a"]
    assert sum("connection" in line for line in lines) == 2


def test_joined_commands_of_one_connection_are_one_write() -> None:
    steps = (
        Send((b"A",)),
        Send((b"QUIT",), joined=True),
        Send((b"B",), joined=True),
        Send((b"C",), SECOND, joined=True),
        Send((b"D",), SECOND),
    )
    cut = [
        [step.name for step in chunk]
        for chunk in chunks(Sequence((2, 2), tuple((step,) for step in steps)))
        if isinstance(chunk, list)
    ]
    assert cut == [[b"a", b"quit"], [b"b"], [b"c"], [b"d"]]


# --- comparison -----------------------------------------------------------------------------------


def transcript(*exchanges: tuple[bytes, Reply]) -> Transcript:
    return Transcript([(Send(tuple(line.split())), reply) for line, reply in exchanges])


def different(line: bytes, redis: Reply, kvnode: Reply) -> bool:
    return bool(differences(transcript((line, redis)), transcript((line, kvnode))))


def test_types_and_bytes_must_be_the_same() -> None:
    assert not different(b"GET a", Reply(b"$", b"1"), Reply(b"$", b"1"))
    assert different(b"GET a", Reply(b"$", b"1"), Reply(b"$", b"2"))
    assert different(b"GET a", Reply(b"$", None), Reply(b"_", None))
    assert different(b"GET a", Reply(b"-", b"ERR a"), Reply(b"-", b"ERR b"))


def test_a_rule_never_covers_an_error() -> None:
    assert not different(b"CLIENT ID", number(1), number(2))
    assert different(b"CLIENT ID", number(1), Reply(b"-", b"ERR"))
    assert different(b"CLIENT ID", Reply(b"-", b"ERR a"), Reply(b"-", b"ERR b"))


def test_keys_may_come_in_any_order_but_must_be_the_same() -> None:
    one, other = Reply(b"$", b"a"), Reply(b"$", b"b")
    assert not different(b"KEYS *", Reply(b"*", (one, other)), Reply(b"*", (other, one)))
    assert different(b"KEYS *", Reply(b"*", (one, other)), Reply(b"*", (one, one)))


def bulks(*texts: bytes) -> Reply:
    return Reply(b"*", tuple(Reply(b"$", text) for text in texts))


def test_pairs_may_come_in_any_order_but_stay_together() -> None:
    line, one = b"HGETALL h", bulks(b"a", b"1", b"b", b"2")
    assert not different(line, one, bulks(b"b", b"2", b"a", b"1"))
    assert different(line, one, bulks(b"b", b"1", b"a", b"2"))
    assert different(line, one, bulks(b"a", b"1"))
    assert different(line, one, Reply(b"%", one.value))
    assert different(line, bulks(), Reply(b"*", None))


def test_what_is_drawn_must_be_as_much_and_from_the_collection() -> None:
    def drew(line: bytes, drawn: Reply) -> Transcript:
        return transcript((line, drawn), (b"HGETALL h", bulks(b"a", b"1", b"b", b"2")))

    fields, pairs = b"HRANDFIELD h -2", b"HRANDFIELD h -2 WITHVALUES"
    assert not differences(drew(fields, bulks(b"a", b"a")), drew(fields, bulks(b"b", b"a")))
    assert differences(drew(fields, bulks(b"a", b"a")), drew(fields, bulks(b"a")))
    assert differences(drew(fields, bulks(b"a", b"a")), drew(fields, bulks(b"a", b"1")))
    one, other = Reply(b"$", b"a"), Reply(b"$", b"1")
    assert not differences(drew(b"HRANDFIELD h", one), drew(b"HRANDFIELD h", one))
    assert differences(drew(b"HRANDFIELD h", one), drew(b"HRANDFIELD h", other))
    assert not differences(
        drew(pairs, bulks(b"a", b"1", b"a", b"1")), drew(pairs, bulks(b"b", b"2", b"a", b"1"))
    )
    assert differences(
        drew(pairs, bulks(b"a", b"1", b"a", b"1")), drew(pairs, bulks(b"b", b"1", b"a", b"1"))
    )
    nested = Reply(b"*", (bulks(b"a", b"1"),))
    wrong = Reply(b"*", (bulks(b"a", b"2"),))
    assert not differences(drew(pairs, nested), drew(pairs, nested))
    assert differences(drew(pairs, nested), drew(pairs, wrong))


def test_what_a_waiting_reader_is_told_first_must_be_what_redis_tells() -> None:
    def news(kind: bytes, *entries: bytes) -> Reply:
        stream = (Reply(b"$", b"x"), bulks(*entries))
        return Reply(kind, stream if kind == b"%" else (Reply(b"*", stream),))

    waits, asks = b"XREAD BLOCK 0 STREAMS x $", b"XREAD STREAMS x 0"
    for kind in (b"*", b"%"):
        assert not different(waits, news(kind, b"1-1"), news(kind, b"1-1", b"2-1"))
        assert different(waits, news(kind, b"1-1"), news(kind, b"2-1"))
        assert different(waits, news(kind, b"1-1", b"2-1"), news(kind, b"1-1"))
        assert different(asks, news(kind, b"1-1"), news(kind, b"1-1", b"2-1"))
    assert different(waits, news(b"*", b"1-1"), Reply(b"*", None))


def test_a_range_by_member_may_differ_only_over_different_scores() -> None:
    listing, line = b"ZRANGE z 0 -1 WITHSCORES", b"ZRANGEBYLEX z - +"

    def ranged(found: Reply, *scores: bytes) -> Transcript:
        listed = bulks(*(word for score in scores for word in (b"m", score)))
        return transcript((listing, listed), (line, found))

    one, other = bulks(b"a"), bulks(b"b")
    assert not differences(ranged(one, b"1", b"2"), ranged(other, b"1", b"2"))
    assert differences(ranged(one, b"1", b"1"), ranged(other, b"1", b"1"))
    assert different(line, one, other)


def test_figures_of_the_server_are_compared_by_what_tools_look_for() -> None:
    info = b"id=7 addr=1.2.3.4:5 name=n db=%d sub=0 psub=0 ssub=0 %b user=default redir=-1 resp=2"

    def told(db: int, rest: bytes) -> Reply:
        return Reply(b"$", info % (db, rest))

    assert not different(b"CLIENT INFO", told(1, b"fd=8 cmd=x"), told(1, b"cmd=x"))
    assert different(b"CLIENT INFO", told(1, b"cmd=x"), told(2, b"cmd=x"))
    assert different(b"CLIENT LIST", told(1, b"cmd=x fd=8"), told(1, b"fd=8 cmd=x"))
    figures = Reply(b"%", (Reply(b"$", b"keys.count"), number(1), Reply(b"$", b"a"), number(2)))
    assert not different(b"MEMORY STATS", figures, Reply(b"%", figures.elements[:2]))
    assert different(b"MEMORY STATS", Reply(b"%", figures.elements[:2]), figures)


def test_a_random_choice_is_followed_by_the_listing_that_judges_it() -> None:
    generator = Generator(7, COMMANDS, ["hashes"])
    steps = [step for number in range(30) for step in generator.sequence(number).steps]
    drawn = 0
    for step, behind in pairwise(steps):
        if isinstance(step, Send) and step.name == b"hrandfield" and len(step.arguments) > 1:
            drawn += 1
            assert isinstance(behind, Send)
            assert behind.arguments == (b"HGETALL", step.arguments[1])
            assert behind.joined
            assert behind.connection == step.connection
    assert drawn > 5


def test_lifetimes_are_close_but_none_is_not_some() -> None:
    assert close_in_time(number(10_000), number(9_990), 1000)
    assert not close_in_time(number(10_000), number(20_000), 1000)
    assert not close_in_time(number(-1), number(1), 1000)
    assert not close_in_time(number(-1), number(-2), 1)


def test_a_deadline_that_was_given_must_be_exact() -> None:
    assert not different(b"EXPIRETIME a", number(1_800_000_000), number(1_800_000_005))
    assert different(b"EXPIRETIME a", number(4_000_010_000), number(4_000_010_001))


def test_only_a_condition_on_lifetimes_may_be_a_matter_of_milliseconds() -> None:
    assert not different(b"EXPIRE a 10000 GT", number(0), number(1))
    assert different(b"EXPIRE a 10000", number(0), number(1))
    assert different(b"EXPIREAT a 4000010000 GT", number(0), number(1))


def test_a_random_key_must_be_one_of_the_keys() -> None:
    def said(key: bytes) -> Transcript:
        keys = Reply(b"*", (Reply(b"$", b"a"), Reply(b"$", b"b")))
        return transcript((b"RANDOMKEY", Reply(b"$", key)), (b"KEYS *", keys))

    assert not differences(said(b"a"), said(b"b"))
    assert differences(said(b"a"), said(b"c"))


def test_a_page_of_all_keys_is_compared_as_a_set() -> None:
    def page(cursor: bytes, *keys: bytes) -> Reply:
        found = Reply(b"*", tuple(Reply(b"$", key) for key in keys))
        return Reply(b"*", (Reply(b"$", cursor), found))

    whole, part = b"SCAN 0 COUNT 1000", b"SCAN 0 COUNT 1"
    assert not different(whole, page(b"0", b"a", b"b"), page(b"0", b"b", b"a"))
    assert different(whole, page(b"0", b"a"), page(b"0"))
    assert not different(part, page(b"17", b"a"), page(b"99", b"b"))
    assert different(part, page(b"17", b"a"), page(b"-1", b"b"))


def test_results_inside_exec_are_compared_by_the_rules_of_their_commands() -> None:
    def ran(lifetime: int, value: bytes) -> Transcript:
        results = Reply(b"*", (number(lifetime), Reply(b"$", value)))
        return transcript(
            (b"MULTI", OK), (b"TTL a", QUEUED), (b"GET a", QUEUED), (b"EXEC", results)
        )

    assert not differences(ran(10_000, b"x"), ran(9_999, b"x"))
    assert differences(ran(10_000, b"x"), ran(10_000, b"y"))
    listed = answers(ran(10_000, b"x").exchanges)
    assert Answer((b"TTL", b"a"), number(10_000)) in listed


def test_the_data_at_the_end_must_be_the_same() -> None:
    row = (Reply(b"+", b"string"), Reply(b"$", b"v"), number(-1))
    mortal = (*row[:2], number(10_000_000))
    assert not differences(Transcript(dump={(0, b"a"): row}), Transcript(dump={(0, b"a"): row}))
    for other in ({}, {(1, b"a"): row}, {(0, b"a"): mortal}):
        assert differences(Transcript(dump={(0, b"a"): row}), Transcript(dump=other))


# --- shrinking ------------------------------------------------------------------------------------


def test_a_sequence_is_shrunk_to_what_is_needed() -> None:
    units = tuple((Send((b"%d" % at,)),) for at in range(30))
    needed = {b"4", b"5", b"29"}

    def fails(candidate: Sequence) -> bool:
        return needed <= {step.name for step in candidate.steps if isinstance(step, Send)}

    found = shrink(Sequence((3, 3), units), fails)
    assert {step.name for step in found.steps if isinstance(step, Send)} == needed
    assert found.protocols == (2, 2)
