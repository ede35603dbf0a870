"""Property tests without a clock: a busy machine is no failure. A failing example is printed."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None, print_blob=True)
settings.load_profile("untimed")
