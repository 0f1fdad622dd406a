"""Work that is split into items and done in parallel; the result does not depend on where it is done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dqm.errors import WorkerError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = ["Processes", "Task", "Workers", "keep_busy", "one_thread", "use_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)

SILENCE_SECONDS = 2.0
"""After this time without a finished item it is checked whether the workers still work."""

_LOADED_ONCE = ("torch", "dqm.nplm.several", "dqm.nplm.kernel_test")
"""Modules that all processes need beside that of their task. One process loads them, in 2 s, and each process
begins as a copy of that one."""


class Task(Protocol[Item_contra, Result_co]):
    """What is to be done with every item: a value that can be pickled."""

    @property
    def bundle(self) -> Path:
        """Bundle that it is done with."""

    def prepare(self, bundle: Path, /) -> Callable[[Item_contra], Result_co]:
        """Do what is done once: open the bundle, perhaps at another path, and verify its identity.

        Raises
        ------
        BundleError
            If it is not.
        """


class Workers(Protocol):
    """Who does the work."""

    def run(self, task: Task[Item, Result], items: Iterable[Item], /) -> Iterator[tuple[int, Result]]:
        """Give each item's place and result, in the order they are finished.

        Items are taken as they are needed. Numbers are computed on one thread.

        Raises
        ------
        WorkerError
            If the workers are lost.
        """


class Processes:
    """Processes on this machine.

    Parameters
    ----------
    n : int, optional
        How many, one core each; 1 is this process. The cores of the machine by default.
    """

    def __init__(self, n: int | None = None) -> None:
        self._n = n or os.cpu_count() or 1

    def run(self, task: Task[Item, Result], items: Iterable[Item], /) -> Iterator[tuple[int, Result]]:
        """Give each item's place and result, see `Workers`."""
        if self._n == 1:
            yield from _run_here(task, items)
            return
        others = set(multiprocessing.active_children())
        # not forked from this process: a forked torch may hang on locks its parent's threads held
        context = multiprocessing.get_context("forkserver")
        module = type(task).__module__
        context.set_forkserver_preload([*_LOADED_ONCE, *([module] if module != "__main__" else [])])
        pool = ProcessPoolExecutor(self._n, context, initializer=_start, initargs=(task,))
        try:
            yield from keep_busy(lambda item: _submit(pool, item), items, lambda: 2 * self._n)
        except BrokenProcessPool as error:
            raise WorkerError(
                "a process ended without a result: killed, perhaps for lack of memory",
                fix="Run it again with fewer processes. A script that starts processes needs its "
                "'if __name__ == \"__main__\":'",
            ) from error
        except BaseException:  # nobody waits for the items any more
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def keep_busy(
    submit: Callable[[Item], Any],
    items: Iterable[Item],
    n_wanted: Callable[[], int],
    look: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Any]]:
    """Hand out items and give back results as they come.

    Parameters
    ----------
    submit : callable
        Hands out an item; gives a future, of the standard library or like it.
    items : iterable
        The items; taken when they can be handed out.
    n_wanted : callable
        How many items may be out.
    look : callable
        Called when nothing was finished for `SILENCE_SECONDS`; raises if nothing can be expected.

    Yields
    ------
    place : int
        Number of the item.
    result
        What became of it.
    """
    finished: SimpleQueue[Any] = SimpleQueue()
    out: dict[Any, int] = {}
    numbered = enumerate(items)
    while True:
        for place, item in islice(numbered, max(0, n_wanted() - len(out))):
            future = submit(item)
            out[future] = place
            future.add_done_callback(finished.put)
        if not out:
            return
        try:
            future = finished.get(timeout=SILENCE_SECONDS)
        except Empty:
            look()
        else:
            yield out.pop(future), future.result()


def _submit(pool: ProcessPoolExecutor, item: Any) -> Any:
    with _undisturbed():
        return pool.submit(_do, item)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block; processes that are started in it do not get it.

    In the middle of a start it would leave a process that waits for its task for ever.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    heard: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if heard:
        signal.raise_signal(signal.SIGINT)


def _run_here(task: Task[Item, Result], items: Iterable[Item]) -> Iterator[tuple[int, Result]]:
    """Work without a second process, on one thread, as the process would."""
    with one_thread():
        work = task.prepare(task.bundle)
        for place, item in enumerate(items):
            yield place, work(item)


def _libraries() -> ThreadpoolController:
    """Find the libraries of linear algebra of numpy, scipy and torch, each with threads of its own.

    They are searched each time (0.5 ms), because others may have been loaded since.
    """
    import scipy.linalg  # noqa: F401 - it is found once it is loaded
    import torch  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, as workers do: with another number of threads, rounding differs.

    Small matrices are also slower on several threads, which wait for each other, especially on a busy
    machine.
    """
    import torch

    n_threads = torch.get_num_threads()
    with _libraries().limit(limits=1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(n_threads)


def use_threads(n: int) -> None:
    """Compute on `n_threads` threads from now on."""
    import torch

    _libraries().limit(limits=n)
    torch.set_num_threads(n)


_task: Task[Any, Any] | None = None
_work: Callable[[Any], Any] | None = None
"""What a process keeps between items."""


def _start(task: Task[Any, Any]) -> None:
    global _task
    use_threads(1)
    _task = task


def _do(item: Any) -> Any:
    global _work
    if _task is None:
        raise RuntimeError("the process was not started")
    if _work is None:  # not in `_start`: what it raises would be lost there
        _work = _task.prepare(_task.bundle)
    return _work(item)
