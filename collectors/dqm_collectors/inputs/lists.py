"""Lists in the rows of a table: one value of each list, or a row for each element."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dqm.errors import FileError
from dqm.events import FloatArray
from dqm_collectors.inputs.names import NAME_FEATURES
from dqm_collectors.inputs.options import Reduction

__all__ = ["elements_of", "is_list", "lengths_of", "take_of"]

IntArray = NDArray[np.int64]

_REDUCTIONS = {"sum": np.add, "mean": np.add, "min": np.minimum, "max": np.maximum}


def is_list(kind: pa.DataType) -> bool:
    """Tell whether a column of this type has a list in each row."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def lengths_of(column: pa.Array, where: str) -> IntArray:
    """Give the number of elements of each list; raises `FileError` if a list is missing."""
    if column.null_count:
        missing = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise FileError(
            f"list {missing + 1} of a block of rows is missing",
            where=where,
            fix="Write an empty list where there is no element",
        )
    lengths: IntArray = pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def elements_of(column: pa.Array, kind: pa.DataType, where: str) -> pa.Array:
    """Give the elements of all lists, one after the other.

    Raises
    ------
    FileError
        If they cannot be of this type, such as lists within lists.
    """
    try:
        return pc.list_flatten(column).cast(kind)
    except pa.ArrowException as error:
        raise FileError(
            f"the elements of its lists are not plain values: {error}",
            where=where,
            fix=NAME_FEATURES,
        ) from error


def take_of(elements: FloatArray, lengths: IntArray, take: Reduction | int) -> FloatArray:
    """Take one value of each list.

    Parameters
    ----------
    elements : ndarray, shape (n_elements,)
        Elements of all lists.
    lengths : ndarray, shape (n_rows,)
        Elements of each list.
    take : str or int
        What is taken, see `ColumnChoice`.

    Returns
    -------
    ndarray, shape (n_rows,)
        NaN where there is nothing to take; count and sum of an empty list are 0.
    """
    if take == "count":
        return lengths.astype(np.float64)
    starts = np.cumsum(lengths) - lengths
    found: FloatArray = np.full(len(lengths), 0.0 if take == "sum" else np.nan)
    if take in _REDUCTIONS:
        filled = lengths > 0
        if filled.any():  # between the starts of filled lists lie no other elements
            found[filled] = _REDUCTIONS[str(take)].reduceat(elements, starts[filled])
        if take == "mean":
            found[filled] /= lengths[filled]
        return found
    place = lengths - 1 if take == "last" else np.full(len(lengths), 0 if take == "first" else take)
    there = (place >= 0) & (place < lengths)
    found[there] = elements[(starts + place)[there]]
    return found
