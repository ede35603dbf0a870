"""`kvnode wal verify | inspect | repair`: looking at a log, and mending it, without a node.

`examine` reads a log as a start would and says what it found; `explain` puts that into words;
`records` lists what is in it; `mend` does the repair of a start. Only `mend` writes: the others use
a file system that cannot, so that they are safe on the directory of a running node.
"""
