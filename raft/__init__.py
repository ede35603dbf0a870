"""Raft without input or output."""
