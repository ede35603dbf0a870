"""Facts of the hash commands."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import hashes
from kvnode.resp.commands.facts.row import ONE_KEY, POINT, RANGE, WHOLE, Row
from kvnode.resp.encoder import MAP

READS: Final[tuple[Row, ...]] = (
    Row("hget", 3, "readonly fast", ONE_KEY, "2.0.0", "hash", POINT,
        hashes.parse_hget, "Returns the value of a field of a hash."),
    Row("hmget", -3, "readonly fast", ONE_KEY, "2.0.0", "hash", RANGE,
        hashes.parse_hmget, "Returns the values of several fields of a hash."),
    Row("hgetall", 2, "readonly", ONE_KEY, "2.0.0", "hash", WHOLE,
        hashes.parse_hgetall, "Returns all fields of a hash and their values.", MAP),
    Row("hkeys", 2, "readonly", ONE_KEY, "2.0.0", "hash", WHOLE,
        hashes.parse_hkeys, "Returns all fields of a hash."),
    Row("hvals", 2, "readonly", ONE_KEY, "2.0.0", "hash", WHOLE,
        hashes.parse_hvals, "Returns the values of all fields of a hash."),
    Row("hlen", 2, "readonly fast", ONE_KEY, "2.0.0", "hash", POINT,
        hashes.parse_hlen, "Returns the number of fields of a hash."),
    Row("hstrlen", 3, "readonly fast", ONE_KEY, "3.2.0", "hash", POINT,
        hashes.parse_hstrlen, "Returns the length of the value of a field in bytes."),
    Row("hexists", 3, "readonly fast", ONE_KEY, "2.0.0", "hash", POINT,
        hashes.parse_hexists, "Tells whether a hash has a field."),
    Row("hrandfield", -2, "readonly", ONE_KEY, "6.2.0", "hash", RANGE,
        hashes.parse_hrandfield, "Returns random fields of a hash, with their values if asked.",
        hashes.HRANDFIELD),
    Row("hscan", -3, "readonly", ONE_KEY, "2.8.0", "hash", RANGE,
        hashes.parse_hscan, "Walks over the fields of a hash, a page at a time."),
)  # fmt: skip

WRITES: Final[tuple[Row, ...]] = (
    Row("hset", -4, "write denyoom fast", ONE_KEY, "2.0.0", "hash", RANGE,
        hashes.parse_hset, "Sets fields of a hash and counts those that are new."),
    Row("hmset", -4, "write denyoom fast", ONE_KEY, "2.0.0", "hash", RANGE,
        hashes.parse_hmset, "Sets fields of a hash; HSET is its newer name.", hashes.HMSET),
    Row("hsetnx", 4, "write denyoom fast", ONE_KEY, "2.0.0", "hash", POINT,
        hashes.parse_hsetnx, "Sets a field of a hash that is absent."),
    Row("hdel", -3, "write fast", ONE_KEY, "2.0.0", "hash", RANGE,
        hashes.parse_hdel, "Deletes fields of a hash and counts those that were there."),
    Row("hincrby", 4, "write denyoom fast", ONE_KEY, "2.0.0", "hash", POINT,
        hashes.parse_hincrby, "Adds a number to the integer value of a field."),
    Row("hincrbyfloat", 4, "write denyoom fast", ONE_KEY, "2.6.0", "hash", POINT,
        hashes.parse_hincrbyfloat, "Adds a number to the floating point value of a field."),
)  # fmt: skip
