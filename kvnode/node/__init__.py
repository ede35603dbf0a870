"""The node: consensus, log, store and peers glued together behind one service."""
