"""Redis' data types on the ordered engine: the meaning of each command, one module per family."""
