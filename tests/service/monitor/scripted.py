"""Jobs that say what a worker does with them; light, since every worker loads this module."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dqm.errors import BundleError


@dataclass(frozen=True)
class Job:
    """Says that it has begun, then dies or fails if told to, else sleeps and answers."""

    stream: str = "a"
    seq: int = 0
    begun: str = ""  # path of a file that is made
    die: str = ""  # "always", or the path of a file that is made at the first death and prevents another
    fail: str = ""
    seconds: float = 0.0
    load: object = b""
    answer_bytes: int = 0


@dataclass(frozen=True)
class Answer:
    pid: int
    n_threads: str
    load: bytes = b""


class Unloadable:
    """Can be sent, but whoever receives it runs out of memory."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return run_out_of_memory, ()


def run_out_of_memory() -> None:
    raise MemoryError


def do(job: Job) -> Answer:
    if job.begun:
        Path(job.begun).touch()
    if job.die == "always" or (job.die and is_first(Path(job.die))):
        os.kill(os.getpid(), signal.SIGKILL)
    if job.fail:
        raise ZeroDivisionError(job.fail)
    time.sleep(job.seconds)
    return Answer(os.getpid(), os.environ["OMP_NUM_THREADS"], bytes(job.answer_bytes))


def is_first(mark: Path) -> bool:
    """Whether nobody was here before."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def prepare() -> Callable[[Job], Answer]:
    return do


def prepare_nothing() -> Callable[[Job], Answer]:
    raise BundleError("no reference bundle", where="lost.dqmref")


def prepare_for_ever() -> Callable[[Job], Answer]:
    time.sleep(1000.0)
    return do


def die_at_once() -> Callable[[Job], Answer]:
    os._exit(7)


def prepare_once(mark: Path, afterwards: Callable[[], Callable[[Job], Answer]]) -> Callable[[Job], Answer]:
    """Start as usual the first time, and otherwise `afterwards`."""
    return do if is_first(mark) else afterwards()
