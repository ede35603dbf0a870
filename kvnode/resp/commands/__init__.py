"""Command grammar and rendering, one module per family; the meaning is in kvnode.store.redis."""
