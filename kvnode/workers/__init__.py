"""Worker processes that run heavy reads on the engine's committed state (DESIGN.md)."""
