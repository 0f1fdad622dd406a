"""ROOT files with lists, as uproot writes them."""

from __future__ import annotations

from pathlib import Path

import awkward
import numpy as np
import uproot

__all__ = ["write_events", "write_lists"]

HITS = [[1.0, 5.0], [], [3.0], [4.0, 2.0, 6.0]]


def write_lists(path: Path, tree: str = "events", *, as_tree: bool = True) -> Path:
    """Write four events with lists of hits, as a TTree or an RNTuple."""
    hits = awkward.Array(HITS)
    columns = {
        "t": np.array([1.0, 2.0, 3.0, 4.0]),
        "x": hits,
        "q": hits * 10,
        "layer": awkward.values_astype(hits, "int32"),
    }
    with uproot.recreate(path) as file:
        (file.mktree if as_tree else file.mkrntuple)(tree, columns)
    return path


def write_events(path: Path, n: int, first: int = 0, *, tree: str = "events") -> Path:
    """Write events that have their numbers as values."""
    with uproot.recreate(path) as file:
        file.mktree(tree, events(n, first))
    return path


def events(n: int, first: int = 0) -> dict[str, np.ndarray]:
    number = np.arange(first, first + n, dtype=np.float64)
    return {"number": number, "half": number / 2}
