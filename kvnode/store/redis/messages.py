"""Error texts of commands, in one place: Redis' own words, since tools match them."""

from __future__ import annotations

from typing import Final

WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"
OVERFLOW: Final = "ERR increment or decrement would overflow"
STRING_TOO_LONG: Final = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
INVALID_EXPIRE_IN_SET: Final = "ERR invalid expire time in 'set' command"
INVALID_EXPIRE_IN_EXPIRE: Final = "ERR invalid expire time in 'expire' command"
INVALID_CURSOR: Final = "ERR invalid cursor"
PATTERN_TOO_LONG: Final = "ERR pattern exceeds maximum allowed size"
