"""What a file has: its tables and their columns."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FileColumn", "FileTable"]


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A column of a table, or a branch of a tree.

    Parameters
    ----------
    name : str
        Name in the file, such as ``drift time [ns]``.
    feature : str
        Name as a feature, such as ``drift_time_ns``.
    kind : str
        Type in the words of the file, such as ``float64`` or ``std::vector<float>``; empty if the file says
        none.
    is_number : bool
        Whether its values, or the elements of its lists, are numbers, as far as the file tells.
    is_list : bool
        Whether each row has a list of values.
    """

    name: str
    feature: str
    kind: str = ""
    is_number: bool = True
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class FileTable:
    """A table of a file, or a tree.

    Parameters
    ----------
    name : str
        Name of the tree, with its directories; empty where a file is one table.
    n_rows : int or None
        Number of rows; None if it is known only after the whole file was read.
    columns : tuple of FileColumn
        The columns in the order of the file.
    """

    name: str
    n_rows: int | None
    columns: tuple[FileColumn, ...]
