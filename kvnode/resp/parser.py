"""Bytes of a client become argument lists, at the speed of C and within limits we can defend.

A request is an array of bulk strings (`*2 $3 GET $1 k`, each part ended by CR LF) or an *inline*
line (`GET k`), as the Redis protocol specification describes them. hiredis parses arrays nine times
faster than Python can, but it was written for the replies of a trusted server. As a reader of
requests it

* breaks for good on an inline command,
* allocates the whole list as soon as it reads `*100000000`,
* accepts nested arrays, sets, numbers and simple strings where only bulk strings may stand.

So two parsers share the work, and hiredis only ever sees what cannot hurt:

* **Fast.** A chunk that begins at a request boundary and that `_is_plain` finds harmless (it has
  room for all elements that it announces, and no other types) goes to hiredis as a whole.
  `has_data()` right after a request tells exactly whether the chunk ended with it. If the chunk
  ends *inside* a request, the half-read state of hiredis is thrown away and the tail, found by
  adding up the sizes of the finished requests, goes to the careful parser.
* **Careful.** A small state machine in Python for everything else: the one request that is cut by
  a chunk's end, inline commands, announcements that the chunk does not cover, violations (with
  Redis' own words for them), and all input of a client that is not authenticated yet. It checks
  each header before it believes it and holds at most one request.

Well-formed traffic thus pays for the safety once per chunk (a few memchr) and not per command.

Neither reads more at once than takes a millisecond or two: a quarter megabyte of line ends would
take a fifth of a second. What is left of a chunk is read by `feed(b"")`, when the caller has time.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import hiredis

from kvnode.errors import CommandError
from kvnode.limits import (
    ARGUMENTS_BEFORE_AUTH_MAX,
    ARGUMENTS_MAX,
    BULK_BYTES_BEFORE_AUTH_MAX,
    COMMAND_BYTES_MAX,
    INLINE_BYTES_MAX,
    KIB,
    PARSE_REQUESTS_MAX,
    PARSE_STEPS_MAX,
    VALUE_BYTES_MAX,
)

Arguments: TypeAlias = "list[bytes] | CommandError"
"""A request, or the error that answers one whose arguments were too large to keep."""

Request: TypeAlias = tuple[Arguments, int]
"""A request and the bytes of its arguments."""

HEADER_BYTES_MAX: Final = 32
"""`*` or `$`, a 64-bit number and the line's end; more digits than that are no number."""

BULK_BYTES_MIN: Final = len(b"$0\r\n\r\n")
"""An array of so many elements takes at least so many times this; less is a promise, or a lie."""


ARGUMENT_OVERHEAD_BYTES: Final = 40
"""What Python keeps for an argument besides its bytes: an object, and its places in two lists. It
is most of the memory of a command with a hundred thousand short ones."""

KEPT_BYTES_MAX: Final = 16 * KIB
"""hiredis keeps the room of a chunk until the next one comes, twice its size. A thousand clients
that once sent a large chunk would hold it for ever: behind one there is a new reader."""

_ASTERISK = ord("*")
_NUMBER = re.compile(rb"0|-?[1-9]\d{0,18}")
# Of a number too long to be honest the first digits tell enough.
_find_wide_arrays = re.compile(rb"\*(\d{3,19})\d*\r\n").findall
_find_impostor = re.compile(rb"\n[+=(>~|]").search

# One inline argument: quoted and plain parts without space between; a closing quote must end it.
# No byte fits two alternatives, so that a hostile line cannot make the match backtrack for long.
_DOUBLE = rb'"(?:\\.|[^"\\])*"'
_SINGLE = rb"'(?:\\'|\\(?!')|[^'\\])*'"
_INLINE_ARGUMENT = re.compile(
    rb"\s*(?:$|((?:%b(?=\s|$)|%b(?=\s|$)|[^\s\"'])+))" % (_DOUBLE, _SINGLE), re.DOTALL
)
_INLINE_PART = re.compile(rb"(%b)|(%b)|([^\"']+)" % (_DOUBLE, _SINGLE), re.DOTALL)
_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})|\\(.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


class ProtocolViolation(Exception):
    """The stream can no longer be understood; the text is what Redis would say."""


def _is_plain(data: bytes) -> bool:
    """Whether hiredis may see `data`: nothing in it allocates ahead or poses as a bulk string."""
    size = len(data)
    if size > VALUE_BYTES_MAX:
        return False
    wide = _find_wide_arrays(data)
    if wide and sum(map(int, wide)) > min(size // BULK_BYTES_MIN, ARGUMENTS_MAX):
        return False
    # `43 in data` is one memchr; `b"+" in data` would cost ten times as much.
    if 43 in data or 61 in data or 40 in data or 62 in data or 126 in data or 124 in data:
        return not _find_impostor(data)
    return True


def _wire_bytes(arguments: list[bytes]) -> int:
    """Bytes of a request as it was sent (hiredis accepts numbers in their shortest form only)."""
    total = 3 + len(str(len(arguments)))
    for argument in arguments:
        size = len(argument)
        total += 5 + size + len(str(size))
    return total


def _new_reader() -> hiredis.Reader:
    return hiredis.Reader(notEnoughData=Ellipsis)


class Parser:
    """Turns the chunks of one connection into requests.

    Attributes:
        restricted: the client is a stranger: ten arguments, bulks of 16 KiB, and `feed` returns
            after each request, so that a login takes effect on the very next one.
        is_behind: there are bytes that were not looked at; `feed(b"")` goes on with them.
        held_bytes: bytes kept for a request that is not complete.
        violation: why the stream cannot be read further; set once, for good.
    """

    __slots__ = (
        "_announced",
        "_arguments",
        "_at",
        "_body",
        "_body_bytes",
        "_command_bytes_max",
        "_data",
        "_reader",
        "_refusal",
        "_size",
        "_skip",
        "_steps",
        "held_bytes",
        "is_behind",
        "restricted",
        "violation",
    )

    def __init__(
        self, *, restricted: bool = False, command_bytes_max: int = COMMAND_BYTES_MAX
    ) -> None:
        self.restricted = restricted
        self._command_bytes_max = command_bytes_max
        self.held_bytes = 0
        self.is_behind = False
        self.violation: str | None = None
        self._reader = _new_reader()
        # The chunk being read, and how far. Between chunks: the start of a header or of an inline
        # line; in restricted mode all that follows the request that was returned.
        self._data = b""
        self._at = 0
        # The request being read: its arguments so far (None: between requests), how many its
        # header announced, their bytes, and the error that replaces it if it is too large.
        self._arguments: list[bytes] | None = None
        self._announced = 0
        self._size = 0
        self._refusal: CommandError | None = None
        # The bulk string being read, with its line end, or the bytes of it still to be skipped.
        self._body: bytearray | None = None
        self._body_bytes = 0
        self._skip = 0
        # What the careful parser may still read in this call.
        self._steps = 0

    @property
    def missing_bytes(self) -> int:
        """What is still to come of the argument that is being kept."""
        return 0 if self._body is None else self._body_bytes - len(self._body)

    def feed(self, data: bytes) -> list[Request]:
        """Take a chunk; return the requests that it completes. Never raises.

        After a violation the requests before it are still returned and `violation` is set.
        In restricted mode at most one request is returned; `feed(b"")` asks for the next, as long
        as the parser `is_behind`.
        """
        requests: list[Request] = []
        if self.violation is not None:
            return requests
        if self._data:
            if data:
                self._data = self._data[self._at :] + data
                self._at = 0
            self._read_rest(requests, fast=not self.restricted)
        elif self._arguments is None and not self.restricted:
            # Between requests, and nothing left over: nearly always.
            at = self._read_fast(data, 0, requests)
            if at < len(data):
                self._data = data
                self._at = at
                self._read_rest(requests, fast=False)
        else:
            self._data = data
            self._at = 0
            self._read_rest(requests, fast=not self.restricted)
        return requests

    def put_off(self, data: bytes) -> None:
        """Take a chunk and look at it later: the parser `is_behind`."""
        if self.violation is not None:
            return
        self._data = self._data[self._at :] + data
        self._at = 0
        self.held_bytes += len(data)
        self.is_behind = True

    def _read_rest(self, requests: list[Request], *, fast: bool) -> None:
        """Read the chunk carefully, except for what `fast` may take after the first request."""
        self._steps = PARSE_STEPS_MAX
        try:
            if fast and self._read_request(requests):
                self._at = self._read_fast(self._data, self._at, requests)
            while not (self.restricted and requests) and self._read_request(requests):
                pass
        except ProtocolViolation as violation:
            self.violation = str(violation)
            self._at = len(self._data)
            self._body = self._arguments = None
            self._size = 0
        # Else it is the end of a request that is missing.
        self.is_behind = self._at < len(self._data) and (
            self._steps < 0 or (self.restricted and bool(requests))
        )
        rest = len(self._data) - self._at
        if not rest:
            self._data = b""
        elif not self.restricted:
            self._data = self._data[self._at :]
            self._at = 0
        body = self._body
        self.held_bytes = rest + self._size + (0 if body is None else len(body))
        if self._arguments:
            self.held_bytes += ARGUMENT_OVERHEAD_BYTES * len(self._arguments)

    # --- fast -------------------------------------------------------------------------------------

    def _read_fast(self, data: bytes, at: int, requests: list[Request]) -> int:
        """Read all requests from the boundary `at` that end in this chunk; return their end."""
        if data[at : at + 1] != b"*" or not _is_plain(data):
            return at
        first = len(requests)
        reader = self._reader
        gets = reader.gets
        has_data = reader.has_data
        join = b"".join
        reader.feed(data, at, len(data) - at)
        try:
            while type(arguments := gets()) is list and arguments:
                # The join proves that all are bytes, and measures them.
                requests.append((arguments, len(join(arguments))))
                if not has_data():
                    if len(data) > KEPT_BYTES_MAX:
                        self._reader = _new_reader()
                    return len(data)
                if len(requests) >= PARSE_REQUESTS_MAX:
                    break
        except (hiredis.ProtocolError, TypeError):
            pass  # the careful parser will find the words for it
        self._reader = _new_reader()
        return at + sum(_wire_bytes(done) for done, _ in requests[first:] if type(done) is list)

    # --- careful ----------------------------------------------------------------------------------

    def _read_request(self, requests: list[Request]) -> bool:
        """Read up to the end of one request; False when the bytes, or the steps, do not suffice."""
        self._steps -= 1
        if self._steps < 0:
            return False
        if self._arguments is None:
            if self._at == len(self._data):
                return False
            if self._data[self._at] != _ASTERISK:
                return self._read_inline(requests)
            if not self._read_array_header():
                return False
            if self._arguments is None:
                return True
        while self._skip or len(self._arguments) < self._announced:
            self._steps -= 1
            if self._steps < 0:
                return False
            if self._body is None and not self._skip:
                complete = self._read_bulk_header()
            else:
                complete = self._read_body()
            if not complete:
                return False
        requests.append((self._refusal or self._arguments, self._size))
        self._arguments = self._refusal = None
        self._size = 0
        return True

    def _read_number(self, what: str) -> int | None:
        """Read a header line; None while its end has not come."""
        data = self._data
        start = self._at + 1
        end = data.find(b"\r\n", start, start + HEADER_BYTES_MAX)
        if end < 0:
            if len(data) - start >= HEADER_BYTES_MAX:
                raise ProtocolViolation(f"Protocol error: invalid {what} length")
            return None
        number = data[start:end]
        if not _NUMBER.fullmatch(number):
            raise ProtocolViolation(f"Protocol error: invalid {what} length")
        self._at = end + 2
        return int(number)

    def _read_array_header(self) -> bool:
        count = self._read_number("multibulk")
        if count is None:
            return False
        if count > ARGUMENTS_MAX:
            raise ProtocolViolation("Protocol error: invalid multibulk length")
        if self.restricted and count > ARGUMENTS_BEFORE_AUTH_MAX:
            raise ProtocolViolation("Protocol error: unauthenticated multibulk length")
        if count > 0:  # an empty array asks for nothing
            self._arguments = []
            self._announced = count
        return True

    def _read_bulk_header(self) -> bool:
        kind = self._data[self._at : self._at + 1]
        if not kind:
            return False
        if kind != b"$":
            raise ProtocolViolation(f"Protocol error: expected '$', got '{kind.decode('latin-1')}'")
        size = self._read_number("bulk")
        if size is None:
            return False
        if size < 0 or size > COMMAND_BYTES_MAX:
            raise ProtocolViolation("Protocol error: invalid bulk length")
        if self.restricted and size > BULK_BYTES_BEFORE_AUTH_MAX:
            raise ProtocolViolation("Protocol error: unauthenticated bulk length")
        if size > VALUE_BYTES_MAX:
            self._refuse(f"ERR value is larger than {VALUE_BYTES_MAX} bytes")
        elif self._size + size > self._command_bytes_max:
            self._refuse(f"ERR command is larger than {self._command_bytes_max} bytes")
        if self._refusal is None:
            self._body = bytearray()
            self._body_bytes = size + 2
        else:
            self._skip = size + 2
        return True

    def _refuse(self, text: str) -> None:
        """Decide to answer with an error; what the request sent so far is let go at once."""
        assert self._arguments is not None
        self._refusal = CommandError(text)
        self._announced -= len(self._arguments)
        self._arguments = []
        self._size = 0

    def _read_body(self) -> bool:
        """Read, or skip, a bulk string. Like Redis, the two bytes of its line end go unchecked."""
        data = self._data
        at = self._at
        if self._skip:
            step = min(self._skip, len(data) - at)
            self._at += step
            self._skip -= step
            if not self._skip:
                self._announced -= 1
            return not self._skip
        body = self._body
        assert body is not None
        assert self._arguments is not None
        end = at + self._body_bytes - len(body)
        if not body and end <= len(data):
            argument = data[at : end - 2]
        else:
            body += data[at:end]
            if end > len(data):
                self._at = len(data)
                return False
            argument = bytes(memoryview(body)[:-2])
        self._at = end
        self._arguments.append(argument)
        self._size += len(argument)
        self._body = None
        return True

    def _read_inline(self, requests: list[Request]) -> bool:
        data = self._data
        at = self._at
        end = data.find(b"\n", at, at + INLINE_BYTES_MAX)
        if end < 0:
            if len(data) - at >= INLINE_BYTES_MAX:
                raise ProtocolViolation("Protocol error: too big inline request")
            return False
        self._at = end + 1
        line = data[at:end]
        arguments = split_inline(line.removesuffix(b"\r"))
        if arguments:
            requests.append((arguments, len(line)))
        return True


def split_inline(line: bytes) -> list[bytes]:
    """Split an inline command at white space, honouring Redis' two kinds of quotes.

    Raises:
        ProtocolViolation: a quote is not closed, or something follows its end at once.
    """
    if b'"' not in line and b"'" not in line:
        return line.split()
    arguments: list[bytes] = []
    at = 0
    while at < len(line):
        found = _INLINE_ARGUMENT.match(line, at)
        if found is None:
            raise ProtocolViolation("Protocol error: unbalanced quotes in request")
        at = found.end()
        if found[1] is not None:
            arguments.append(_unquote(found[1]))
    return arguments


def _unquote(argument: bytes) -> bytes:
    """Join the parts of one inline argument, with the escapes of its quoted ones resolved."""
    parts: list[bytes] = []
    for double, single, plain in _INLINE_PART.findall(argument):
        if double:
            parts.append(_ESCAPE.sub(_resolve_escape, double[1:-1]))
        elif single:
            parts.append(single[1:-1].replace(b"\\'", b"'"))
        else:
            parts.append(plain)
    return b"".join(parts)


def _resolve_escape(escape: re.Match[bytes]) -> bytes:
    if escape[1]:
        return bytes.fromhex(escape[1].decode())
    return _ESCAPED.get(escape[2], escape[2])
