"""Data directories of every format version, kept so that later programs open them."""
