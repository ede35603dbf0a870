"""Where the parts of a node learn on which rung of the ladder it stands.

The sampler's thread measures; whoever has to act lives in the event loop. `Pressure` is the loop's
side: the rung as it was told last, and the callbacks of those who do something when it changes.
Without a watchdog nobody tells it anything, and all stays calm.
"""

from __future__ import annotations

from collections.abc import Callable

from kvnode.admission.ladder import Rung

Listener = Callable[[Rung], None]


class Pressure:
    """The rung, for all parts of one node. Belongs to the event loop's thread.

    Attributes:
        rung: on which the node stands.
        entered: how often each rung was entered. Who climbs over a rung enters it, too.
    """

    __slots__ = ("_listeners", "entered", "rung")

    def __init__(self) -> None:
        self.rung = Rung.CALM
        self.entered = dict.fromkeys((Rung.SHED, Rung.REFUSE, Rung.CLOSE), 0)
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the rung: now if it is not calm, and whenever it changes.

        Returns:
            what ends it.
        """
        self._listeners.append(listener)
        if self.rung:
            listener(self.rung)
        return lambda: self._listeners.remove(listener)

    def change(self, rung: Rung) -> None:
        """The ladder has another rung."""
        before, self.rung = self.rung, rung
        for each in self.entered:
            if before < each <= rung:
                self.entered[each] += 1
        if rung is not before:
            for listener in tuple(self._listeners):
                listener(rung)
