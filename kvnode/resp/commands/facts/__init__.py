"""The facts of all data commands, a module per family."""
