"""What operators do to a data directory whose node does not run, when it cannot go on as it is."""
