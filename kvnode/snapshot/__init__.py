"""Snapshots: the state of the store at one applied index, in a file that proves itself."""
