"""Virtual time: one world, and in it one event loop per process.

The world holds all that is to be done: callbacks that are due now, in the order in which they were
asked for, and timers in the order of their time. Nothing else orders anything, so a run repeats
itself exactly. Time stands still while callbacks run and jumps to the next timer when none is due.

Each simulated process has an event loop of its own, because a process can be killed or stopped as a
whole: the callbacks of a dead loop are dropped, those of a paused one wait. `asyncio`'s own tasks,
events and timeouts run on it unchanged, and so does all of kvnode.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sim.machine import Machine
    from tests.sim.network import Network

STEPS_MAX = 20_000_000
"""A run that takes more callbacks than this does not end."""

CLOSE_TRIES = 10


class Handle:
    """A callback that will run, unless it is cancelled."""

    __slots__ = ("_at", "_cancelled", "args", "callback", "context", "is_input", "loop")

    def __init__(
        self,
        loop: ProcessLoop,
        at: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self.loop = loop
        self._at = at
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context
        self._cancelled = False
        self.is_input = False
        """It hands over what came from outside."""

    def cancel(self) -> None:
        """Never run."""
        self._cancelled = True
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    def when(self) -> float:
        """The time at which it is due, in seconds."""
        return self._at


class World:
    """Everything that happens, in order.

    Attributes:
        now: seconds since the beginning of the run.
        steps: callbacks that have run.
        is_over: nothing more happens.
        after_step: called after every callback with the loop in which it ran.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.is_over = False
        self.after_step: Callable[[ProcessLoop], None] = _nothing
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._number = 0

    def soon(self, handle: Handle) -> None:
        """Run it behind all that is due."""
        self._ready.append(handle)

    def at(self, time: float, handle: Handle) -> None:
        """Run it at a time, behind what was asked for the same time before."""
        self._number += 1
        heapq.heappush(self._timers, (time, self._number, handle))

    def run(self, until: float) -> None:
        """Let things happen until `is_over` or the time has come.

        Raises:
            RuntimeError: too many callbacks ran.
        """
        running: ProcessLoop | None = None
        try:
            while not self.is_over and (handle := self._next(until)) is not None:
                callback, loop = handle.callback, handle.loop
                if callback is None or loop.is_dead:
                    continue
                if loop.is_paused:
                    loop.backlog.append(handle)
                    continue
                if loop is not running:
                    events._set_running_loop(loop)
                    running = loop
                self._do(loop, handle, callback)
        finally:
            events._set_running_loop(None)

    def _next(self, until: float) -> Handle | None:
        """What comes next, and the time at which it does; None if it would be too late."""
        if self._ready:
            return self._ready.popleft()
        if not self._timers or self._timers[0][0] > until:
            self.now = until
            return None
        time, _, handle = heapq.heappop(self._timers)
        if handle.callback is not None:
            self.now = max(self.now, time)
        return handle

    def _do(self, loop: ProcessLoop, handle: Handle, callback: Callable[..., object]) -> None:
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise RuntimeError("the simulation does not end")
        try:
            if handle.context is None:
                callback(*handle.args)
            else:
                handle.context.run(callback, *handle.args)
        except Exception as error:  # noqa: BLE001 - the process is judged by it, not we
            loop.on_error(error)
        if not loop.is_dead:
            self.after_step(loop)


def _nothing(_loop: ProcessLoop) -> None:
    """Nobody looks."""


class ProcessLoop(asyncio.AbstractEventLoop):
    """The event loop of one simulated process.

    Args:
        world: where it runs.
        name: of the process.
        network: where its sockets are.
        on_error: told of an exception that nobody caught.
        io_seconds: how long the next job in a thread of the executor takes.
    """

    def __init__(
        self,
        world: World,
        name: str,
        network: Network,
        *,
        on_error: Callable[[BaseException], None],
        io_seconds: Callable[[], float] = lambda: 0.001,
    ) -> None:
        self.world = world
        self.name = name
        self.on_error = on_error
        self.is_dead = False
        self.is_paused = False
        self.backlog: list[Handle] = []
        self.owner: Machine | None = None
        """The machine whose process this is."""
        self._network = network
        self._io_seconds = io_seconds
        self._tasks: list[asyncio.Task[Any]] = []

    # --- life and death ---------------------------------------------------------------------------

    def kill(self) -> None:
        """The process is gone: nothing of it runs any more, not even a `finally`."""
        self.is_dead = True
        self.backlog.clear()

    def pause(self) -> None:
        """Stop it, as SIGSTOP does."""
        self.is_paused = True

    def resume(self, rng: Random | None = None) -> None:
        """Let it go on with what has gathered.

        With `rng` its sockets are read in any order: after a stop nothing says which comes first.
        What came on one of them stays in its order.
        """
        backlog, self.backlog = self.backlog, []
        self.is_paused = False
        if rng is not None:
            places = [number for number, handle in enumerate(backlog) if handle.is_input]
            by_socket: dict[int, list[Handle]] = {}
            for number in places:
                owner = getattr(backlog[number].callback, "__self__", None)
                by_socket.setdefault(id(owner), []).append(backlog[number])
            sockets = list(by_socket.values())
            rng.shuffle(sockets)
            inputs = [handle for socket in sockets for handle in socket]
            for number, handle in zip(places, inputs, strict=True):
                backlog[number] = handle
        for handle in backlog:
            self.world.soon(handle)

    def bury(self) -> None:
        """Take down the tasks of a dead process, so that Python does not complain of them."""
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            # A `finally` that awaits refuses to be closed, once.
            for _ in range(0 if task.done() else CLOSE_TRIES):
                with contextlib.suppress(RuntimeError, ValueError, BaseExceptionGroup):
                    coroutine.close()
                    break
        self._tasks.clear()

    # --- what asyncio asks of a loop --------------------------------------------------------------

    def time(self) -> float:
        return self.world.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(self, self.world.now, callback, args, context)
        if not self.is_dead:
            self.world.soon(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Handle:
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Handle:
        handle = Handle(self, when, callback, args, context)
        if not self.is_dead:
            self.world.at(when, handle)
        return handle

    def input_at(self, when: float, callback: Callable[..., object], *args: Any) -> None:
        """Something from outside arrives then."""
        self.call_at(when, callback, *args).is_input = True

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(
            coro, loop=self, name=name or "task", context=context
        )
        self._tasks.append(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        """A task that nobody waits for must not fail in silence."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.on_error(error)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.is_dead

    def is_closed(self) -> bool:
        return self.is_dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not self.is_dead:
            self.on_error(error)

    async def run_in_executor(  # type: ignore[override]
        self, _executor: None, func: Callable[..., Any], *args: Any
    ) -> Any:
        """A thread: it takes its time, and then all at once."""
        await asyncio.sleep(self._io_seconds())
        return func(*args)

    async def create_server(  # type: ignore[override]
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> object:
        return self._network.listen(self, factory, host)

    async def create_connection(  # type: ignore[override]
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[object, asyncio.Protocol]:
        return await self._network.connect(self, factory, host)
