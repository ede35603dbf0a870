"""Error texts of commands, in one place: Redis' own words, since tools match them."""

from __future__ import annotations

from typing import Final

from kvnode.limits import (
    BULK_ROWS_AT_ONCE_MAX,
    OUTPUT_BYTES_MAX,
    POPPED_BYTES_MAX,
    VALUE_BYTES_MAX,
)

WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"
NOT_A_FLOAT: Final = "ERR value is not a valid float"
NAN_OR_INFINITY: Final = "ERR increment would produce NaN or Infinity"
OUT_OF_RANGE: Final = "ERR value is out of range"
VALUE_NAN_OR_INFINITY: Final = "ERR value is NaN or Infinity"
HASH_NOT_AN_INTEGER: Final = "ERR hash value is not an integer"
HASH_NOT_A_FLOAT: Final = "ERR hash value is not a float"
SYNTAX: Final = "ERR syntax error"
OVERFLOW: Final = "ERR increment or decrement would overflow"
BUSY_KEY: Final = "BUSYKEY Target key name already exists."
INVALID_TTL: Final = "ERR Invalid TTL value, must be >= 0"
BAD_CHECKSUM: Final = "ERR DUMP payload version or checksum are wrong"
BAD_DATA: Final = "ERR Bad data format"
TOO_LARGE_TO_RESTORE: Final = (
    f"ERR the value is too large for RESTORE: more than {BULK_ROWS_AT_ONCE_MAX} elements, or more "
    f"than {VALUE_BYTES_MAX} bytes in a string or in all that are compressed"
)
TOO_LARGE_TO_DUMP: Final = "ERR the value is too large for DUMP"
SYNTAX_ERROR: Final = "ERR syntax error"
BIT_OFFSET: Final = "ERR bit offset is not an integer or out of range"
NO_HYPERLOGLOG: Final = "WRONGTYPE Key is not a valid HyperLogLog string value."
CORRUPTED_HYPERLOGLOG: Final = "INVALIDOBJ Corrupted HLL object detected"
STRING_TOO_LONG: Final = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
INVALID_EXPIRE_IN_SET: Final = "ERR invalid expire time in 'set' command"
INVALID_EXPIRE_IN_EXPIRE: Final = "ERR invalid expire time in 'expire' command"
INVALID_EXPIRE_IN_GETEX: Final = "ERR invalid expire time in 'getex' command"
SCORE_IS_NAN: Final = "ERR resulting score is not a number (NaN)"
NO_SUCH_KEY: Final = "ERR no such key"
POPS_TOO_MUCH: Final = (
    f"ERR what would be popped is larger than {POPPED_BYTES_MAX} bytes, pop fewer elements"
)
INDEX_OUT_OF_RANGE: Final = "ERR index out of range"
INVALID_ID: Final = "ERR Invalid stream ID specified as stream command argument"
ID_TOO_SMALL: Final = (
    "ERR The ID specified in XADD is equal or smaller than the target stream top item"
)
STREAM_IS_FULL: Final = (
    "ERR The stream has exhausted the last possible ID, unable to add more items"
)
ID_BELOW_NEWEST: Final = "ERR The ID specified in XSETID is smaller than the target stream top item"
ADDED_BELOW_LENGTH: Final = (
    "ERR The entries_added specified in XSETID is smaller than the target stream length"
)
UNSEEN_WITHOUT_GROUP: Final = (
    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> "
    "option."
)
NEWEST_OF_GROUP: Final = (
    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of "
    "this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would "
    "just return an empty result set."
)
XGROUP_NEEDS_KEY: Final = (
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use "
    "the MKSTREAM option to create an empty stream automatically."
)
GROUP_IS_THERE: Final = "BUSYGROUP Consumer Group name already exists"
NO_SUCH_GROUP: Final = "NOGROUP No such consumer group '{group}' for key name '{key}'"
NO_KEY_OR_GROUP: Final = "NOGROUP No such key '{key}' or consumer group '{group}'"
NO_GROUP_TO_READ: Final = NO_KEY_OR_GROUP + " in XREADGROUP with GROUP option"
NO_FREQUENCY: Final = (
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that "
    "when switching between policies at runtime LRU and LFU data will take some time to adjust."
)
LCS_NEEDS_STRINGS: Final = "ERR The specified keys must contain string values"
LCS_TOO_LARGE: Final = (
    "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
)
INVALID_CURSOR: Final = "ERR invalid cursor"
PATTERN_TOO_LONG: Final = "ERR pattern exceeds maximum allowed size"
SORT_NOT_A_FLOAT: Final = "ERR One or more scores can't be converted into double"
SORT_FINDS_TOO_MUCH: Final = f"ERR what SORT finds is larger than {OUTPUT_BYTES_MAX} bytes"
SORT_TOO_LARGE: Final = (
    f"ERR SORT with BY or GET stores at most {BULK_ROWS_AT_ONCE_MAX} elements; nothing was stored"
)


def reply_too_large(most_bytes: int) -> str:
    """A read would answer more than this node may hold for a client."""
    return f"ERR reply is larger than {most_bytes} bytes"
