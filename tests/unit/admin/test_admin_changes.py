"""Changes of the membership over the admin port: who may ask, what is read, what comes back."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode import limits
from kvnode.address import Address
from kvnode.admin import AdminServer, Check, HeldSource
from kvnode.admin_changes import BadRequest, Gate, action_of, read_change
from kvnode.errors import LogCorrupt
from kvnode.service import Action, ChangeAnswer, ChangeRequest, Verdict

LOOPBACK = Address("127.0.0.1", 0)
CHANGES = set(Action) - {Action.JOIN, Action.DRAIN, Action.UNDRAIN, Action.SPARE}
DONE = ChangeAnswer(Verdict.DONE, "n4 is a voter", node_id=0xABC)


class FakeSource:
    """A node that keeps what it was asked, and answers when the test says so."""

    def __init__(self, password: bytes | None = None) -> None:
        self.password = password
        self.answer: ChangeAnswer | None = DONE
        self.asked: list[ChangeRequest] = []
        self.withdrawn = asyncio.Event()

    def change(
        self, request: ChangeRequest, done: Callable[[ChangeAnswer], None], /
    ) -> Callable[[], None]:
        self.asked.append(request)
        if self.answer is not None:
            asyncio.get_running_loop().call_soon(done, self.answer)
        return self.withdrawn.set

    def checks(self) -> list[Check]:
        return []

    def status(self) -> dict[str, Any]:
        return {}

    def hash(self, _index: int | None, /) -> tuple[int, str] | None:
        return None

    def metrics(self) -> bytes:
        return b""


@pytest.fixture
async def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
async def at(source: FakeSource) -> AsyncIterator[Address]:
    server = AdminServer(source)
    yield await server.start(LOOPBACK)
    server.close()


def request(path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: x",
        f"content-length: {len(body)}",
        *(headers or ("content-type: application/json",)),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def exchange(address: Address, sent: bytes) -> tuple[int, bytes, bytes]:
    """Send a request; return the status, the head and the body of the answer."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(sent)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), head, body


# --- what is understood ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "action"),
    [
        *((f"/members/{action}", action) for action in Action if action in CHANGES),
        ("/drain", Action.DRAIN),
        ("/drain/undo", Action.UNDRAIN),
        ("/drain/check", Action.SPARE),
        *((path, None) for path in ("/members/join", "/members", "/members/", "/members/add/")),
        *((path, None) for path in ("/members/drain", "/members/spare", "/drain/", "/drain/x")),
    ],
)
def test_every_change_has_one_path_and_joining_none(path: str, action: Action | None) -> None:
    assert action_of(path) is action


@pytest.mark.parametrize(
    ("action", "body", "expected"),
    [
        (Action.ADD, {"member": "n4"}, ChangeRequest(Action.ADD, "n4")),
        (
            Action.ADD,
            {"member": "n4", "peer_address": "[::1]:7", "client_address": "", "promote": False},
            ChangeRequest(Action.ADD, "n4", peer_address="[::1]:7", promote=False),
        ),
        (Action.PROMOTE, {"member": "n4"}, ChangeRequest(Action.PROMOTE, "n4")),
        (Action.REMOVE, {"member": "0" * 16}, ChangeRequest(Action.REMOVE, "0" * 16)),
        (Action.REPLACE, {"member": "a", "other": "b"}, ChangeRequest(Action.REPLACE, "a", "b")),
        (Action.TRANSFER, {}, ChangeRequest(Action.TRANSFER)),
        (Action.DRAIN, {}, ChangeRequest(Action.DRAIN)),
        (Action.SPARE, {}, ChangeRequest(Action.SPARE)),
        (Action.TRANSFER, {"member": "n2"}, ChangeRequest(Action.TRANSFER, "n2")),
    ],
)
def test_a_body_becomes_the_request_that_it_describes(
    action: Action, body: dict[str, Any], expected: ChangeRequest
) -> None:
    assert read_change(action, json.dumps(body).encode()) == expected


def test_leadership_may_be_handed_over_without_a_body() -> None:
    assert read_change(Action.TRANSFER, b"") == ChangeRequest(Action.TRANSFER)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "add needs the field 'member'"),
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[" * 4000, "the body is not JSON"),
        (b"[]", "the body must be a JSON object"),
        (b'{"member": 4}', "member must be a text"),
        (b'{"member": ""}', "member: '' is not a name"),
        (b'{"member": "a b"}', "member: 'a b' is not a name"),
        (b'{"member": "n4", "peer_address": "h"}', "peer_address: 'h' is not HOST:PORT"),
        (b'{"member": "n4", "promote": "no"}', "promote must be true or false"),
        (b'{"member": "n4", "other": "n5"}', "add has no field 'other'; it has member, peer_"),
        (b'{"member": "n4", "storage_id": 1}', "add has no field 'storage_id'"),
    ],
)
def test_bad_input_is_one_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_change(Action.ADD, body)
    assert str(caught.value).startswith(sentence)


@given(st.binary() | st.recursive(st.text() | st.none(), st.lists).map(json.dumps).map(str.encode))
def test_no_body_whatever_is_more_than_a_bad_request(body: bytes) -> None:
    with contextlib.suppress(BadRequest):
        read_change(Action.REMOVE, body)


# --- what comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "status"), [(Verdict.DONE, 200), (Verdict.REFUSED, 409), (Verdict.AGAIN, 503)]
)
async def test_each_verdict_has_its_status(
    source: FakeSource, at: Address, verdict: Verdict, status: int
) -> None:
    source.answer = ChangeAnswer(verdict, "a sentence", node_id=7)
    got, head, body = await exchange(at, request("/members/remove", b'{"member": "n4"}'))
    assert got == status
    assert b"content-type: application/json" in head
    assert json.loads(body) == {
        "verdict": verdict.value,
        "text": "a sentence",
        "node_id": "0000000000000007",
    }
    assert source.asked == [ChangeRequest(Action.REMOVE, "n4")]


async def test_a_change_may_arrive_byte_by_byte(source: FakeSource, at: Address) -> None:
    reader, writer = await asyncio.open_connection(at.host, at.port)
    for byte in request("/members/transfer", b'{"member": "n2"}'):
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    assert source.asked == [ChangeRequest(Action.TRANSFER, "n2")]
    writer.close()


async def test_a_client_that_asks_whether_to_go_on_is_told_so(at: Address) -> None:
    reader, writer = await asyncio.open_connection(at.host, at.port)
    whole = request(
        "/members/transfer", b"{}", "content-type: application/json", "expect: 100-continue"
    )
    writer.write(whole[:-2])
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
    writer.write(whole[-2:])
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize(
    ("path", "method", "status", "allow"),
    [
        ("/members/add", "GET", 405, b"allow: POST"),
        ("/members/add", "PUT", 405, b"allow: POST"),
        ("/members", "POST", 405, b"allow: GET, HEAD"),
        ("/members/join", "POST", 405, b"allow: GET, HEAD"),
        ("/livez", "POST", 405, b"allow: GET, HEAD"),
    ],
)
async def test_a_wrong_method_changes_nothing(
    source: FakeSource, at: Address, path: str, method: str, status: int, allow: bytes
) -> None:
    got, head, _ = await exchange(at, request(path, b'{"member": "n4"}', method=method))
    assert got == status
    assert allow in head
    assert source.asked == []


async def test_bad_input_changes_nothing(source: FakeSource, at: Address) -> None:
    status, _, body = await exchange(at, request("/members/remove", b'{"member": 4}'))
    assert (status, body) == (400, b"member must be a text\n")
    assert source.asked == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "json"])
async def test_what_a_web_page_could_send_unasked_changes_nothing(
    source: FakeSource, at: Address, kind: str
) -> None:
    sent = request("/members/remove", b'{"member": "n4"}', f"content-type: {kind}")
    status, _, _ = await exchange(at, sent)
    assert status == 415
    assert source.asked == []


async def test_a_large_body_is_refused_and_its_author_hears_why(
    source: FakeSource, at: Address
) -> None:
    reader, writer = await asyncio.open_connection(at.host, at.port)
    writer.write(request("/members/remove", b" " * 50 * limits.ADMIN_BODY_BYTES_MAX)[:-1000])
    assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
    writer.write(b" " * 1000)
    writer.close()
    assert source.asked == []


# --- waiting --------------------------------------------------------------------------------------


async def test_nobody_waits_for_ever(source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ADMIN_CHANGE_TIMEOUT_MS", 1)
    source.answer = None
    server = AdminServer(source)
    at = await server.start(LOOPBACK)
    status, _, body = await exchange(at, request("/members/transfer", b""))
    assert status == 503
    assert json.loads(body)["verdict"] == "again"
    await source.withdrawn.wait()
    server.close()


async def test_who_goes_away_waits_no_longer(source: FakeSource, at: Address) -> None:
    source.answer = None
    _, writer = await asyncio.open_connection(at.host, at.port)
    writer.write(request("/members/transfer", b""))
    while not source.asked:
        await asyncio.sleep(0)
    writer.close()
    await source.withdrawn.wait()


async def test_an_answer_inside_the_call_is_as_good_as_a_later_one(
    at: Address, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once(
        _request: ChangeRequest, done: Callable[[ChangeAnswer], None], /
    ) -> Callable[[], None]:
        done(DONE)
        return source.withdrawn.set

    monkeypatch.setattr(source, "change", at_once)
    status, _, body = await exchange(at, request("/members/transfer", b""))
    assert (status, json.loads(body)["node_id"]) == (200, "0000000000000abc")


async def test_what_follows_a_request_is_read_into_nothing(source: FakeSource, at: Address) -> None:
    source.answer = None
    _, writer = await asyncio.open_connection(at.host, at.port)
    writer.write(request("/members/transfer", b""))
    while not source.asked:
        await asyncio.sleep(0)
    writer.write(request("/members/remove", b'{"member": "n4"}') * 3)
    await exchange(at, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
    writer.close()
    await source.withdrawn.wait()
    assert source.asked == [ChangeRequest(Action.TRANSFER)]


# --- who may ask ----------------------------------------------------------------------------------


def basic(credentials: str) -> str:
    return "authorization: Basic " + base64.b64encode(credentials.encode()).decode()


@pytest.mark.parametrize("user", ["", "admin", "anybody"])
async def test_a_change_is_let_in_by_the_password_under_any_name(user: str) -> None:
    server = AdminServer(FakeSource(b"se:cret"))
    at = await server.start(LOOPBACK)
    headers = ("content-type: application/json", basic(f"{user}:se:cret"))
    status, _, _ = await exchange(at, request("/members/transfer", b"", *headers))
    assert status == 200
    server.close()


@pytest.mark.parametrize(
    "header",
    [
        "x-nothing: 1",
        basic("admin:wrong"),
        basic("secret"),
        basic("admin:"),
        basic("admin:secret "),
        "authorization: Bearer secret",
        "authorization: Basic",
        "authorization: Basic \x01",
        "authorization: Basic " + "A" * 5,
    ],
)
async def test_without_the_password_nothing_changes_and_facts_stay_open(header: str) -> None:
    source = FakeSource(b"secret")
    server = AdminServer(source)
    at = await server.start(LOOPBACK)
    headers = ("content-type: application/json", header)
    status, head, _ = await exchange(at, request("/members/transfer", b"", *headers))
    if "\x01" not in header:
        assert status == 401
        assert b'www-authenticate: Basic realm="kvnode"' in head
    assert source.asked == []
    status, _, _ = await exchange(at, b"GET /members HTTP/1.1\r\nhost: x\r\n\r\n")
    assert status == 200
    server.close()


def test_failures_are_logged_by_number_and_not_by_line(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    gate = Gate(b"secret", clock=lambda: now[0])
    for _ in range(1000):
        assert not gate.admits(b"Basic " + base64.b64encode(b"x:guess"))
    now[0] += limits.ADMIN_FAILURES_LOGGED_EVERY_MS / 1000
    assert not gate.admits(b"")
    told = [record.fields["times"] for record in caplog.records]  # type: ignore[attr-defined]
    assert told == [1, 1000]
    assert "guess" not in caplog.text


async def test_a_held_node_changes_nothing_and_names_its_reason() -> None:
    server = AdminServer(HeldSource(LogCorrupt("segment 3 is damaged"), "n1"))
    at = await server.start(LOOPBACK)
    status, _, body = await exchange(at, request("/members/remove", b'{"member": "n4"}'))
    assert status == 409
    assert "ask another member" in json.loads(body)["text"]
    assert "segment 3 is damaged" in json.loads(body)["text"]
    server.close()
