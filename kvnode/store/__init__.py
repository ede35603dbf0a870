"""The deterministic state machine over an ordered engine: no clock, no loop, no randomness."""
