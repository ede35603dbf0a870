"""The serialisation of DUMP and RESTORE: what Redis calls an RDB payload, without a store."""
