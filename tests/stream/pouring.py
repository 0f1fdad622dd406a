"""A collector without a detector, to be killed: sends numbered windows and notes those it was done with."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from dqm.stream import Sender, Spool
from tests.stream.windows import window_of

MOST_KEPT = 900
"""A collector that is faster than its daemon for long drops its oldest windows; this one waits instead."""


def pour(folder: Path, address: str, pause_seconds: float, *, drain: bool) -> None:
    with Spool(folder / "spool") as spool, Sender(address, spool=spool, ack_timeout_seconds=1.0) as sender:
        seq = spool.next_numbers(591).get("chamber-1", 0)
        if drain:
            sys.exit(not sender.confirm(30.0))
        with (folder / "taken").open("a", buffering=1) as taken:
            while True:
                while sender.n_kept >= MOST_KEPT:
                    sender.confirm(0.01)
                sender.send(window_of(np.full((3, 2), float(seq)), seq=seq))
                taken.write(f"{seq}\n")
                seq += 1
                time.sleep(pause_seconds)


if __name__ == "__main__":
    pour(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), drain=sys.argv[4] == "drain")
