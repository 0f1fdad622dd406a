"""Conditions on many numbers: a database limits the number of single values."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Column, ColumnElement, false, or_

__all__ = ["ranges_of", "within"]


def within(column: Column[Any], numbers: Collection[int]) -> ColumnElement[bool]:
    """Write the condition that a column has one of some numbers, as ranges of neighbours."""
    return or_(false(), *(column.between(low, high) for low, high in ranges_of(numbers)))


def ranges_of(numbers: Collection[int]) -> list[tuple[int, int]]:
    """Give the ranges of neighbours that numbers consist of, ascending."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found
