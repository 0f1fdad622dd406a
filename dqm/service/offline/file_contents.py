"""What is in a file: its tables or trees with their columns."""

from __future__ import annotations

from pathlib import Path

from dqm.config import check_call, find_plugin, label_of, plugin_errors
from dqm.errors import PluginError
from dqm.events import FileTable

__all__ = ["describe_file"]

READER = ("dqm.collectors", "replay")
"""Collector that reads files of features, and describes them."""


def describe_file(path: Path) -> tuple[FileTable, ...]:
    """List the tables of a file with their columns: all trees of a ROOT file, one table of CSV or Parquet.

    Parameters
    ----------
    path : Path
        ``.root``, ``.parquet``, or CSV with a header, plain or ``.gz``.

    Returns
    -------
    tuple of FileTable
        A column has its name in the file, the name that it has as a feature, and its type.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    label = label_of(*READER)
    describe = getattr(find_plugin(*READER), "describe", None)
    if describe is None:
        raise PluginError(f"{label} does not describe files", fix="Install dqm again: it comes with it")
    check_call(label, describe, "CLASS.describe(path)", 1)
    with plugin_errors(label):
        return tuple(describe(path))
