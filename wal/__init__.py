"""A write-ahead log that tells torn from corrupt."""
