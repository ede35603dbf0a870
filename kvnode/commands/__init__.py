"""The commands of `kvnode`, one module each; they are put together in `kvnode.cli`."""
