"""Observation: logs and metrics, handed to whoever needs them by the composition root."""
