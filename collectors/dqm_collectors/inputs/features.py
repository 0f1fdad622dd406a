"""From the columns of a file to features: names and units, lists, derived features, selection, checks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from dqm.errors import FileError, escape_text, format_count
from dqm.events import FileColumn, FloatArray
from dqm_collectors.inputs.expression import Expression
from dqm_collectors.inputs.lists import IntArray, elements_of, is_list, lengths_of, take_of
from dqm_collectors.inputs.names import (
    CHAMBER,
    MOST_LISTED,
    NO_NUMBERS,
    TIME,
    describe_columns,
    is_feature_name,
    list_names,
    name_features,
    no_such,
    suggest_names,
)
from dqm_collectors.inputs.options import FileOptions, Reduction
from dqm_collectors.inputs.tables import InputTable
from dqm_collectors.inputs.transform import load_transformation

__all__ = ["CHAMBER", "TIME", "Block", "FeatureReader"]

LONGEST_NAME = 64

_CLOCK = re.compile(r"time\s*[\[(]\s*s(ec(onds)?)?\s*[\])]", re.IGNORECASE)
"""Names of the time with its unit; other units are also those of drift times."""

Names = np.ndarray[tuple[int], np.dtype[np.str_]]

_FIX_NAN = (
    "Leave such rows out by select, as in --read 'select=\"{0} == {0}\"' of a command (--set of extract and "
    "init): NaN is not equal to itself. 'dqm reference build' also has --drop-nan, and a collector keep_nan"
)
_FIX_INFINITE = "Leave such rows out"


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows of a file that follow each other.

    Parameters
    ----------
    names : tuple of str
        Features.
    x : ndarray, shape (n, d)
        Their values.
    times : ndarray, shape (n,), or None
        Unix seconds, ascending; None without a column ``time``.
    chambers : ndarray of str, shape (n,), or None
        None without a column ``chamber``.
    rows : ndarray, shape (n,)
        Row of the file, from 0, that each belongs to.
    end_row : int
        Rows of the file up to the end of this block, those that were left out included.
    """

    names: tuple[str, ...]
    x: FloatArray
    times: FloatArray | None
    chambers: Names | None
    rows: IntArray
    end_row: int

    def part(self, first: int, last: int) -> Block:
        """Give the rows of the block from `first` to before `last`."""
        return replace(
            self,
            x=self.x[first:last],
            times=None if self.times is None else self.times[first:last],
            chambers=None if self.chambers is None else self.chambers[first:last],
            rows=self.rows[first:last],
        )

    @staticmethod
    def join(blocks: Sequence[Block]) -> Block:
        """Join blocks that follow each other, at least one."""
        first, last = blocks[0], blocks[-1]
        if first is last:
            return first
        times = [block.times for block in blocks if block.times is not None]
        chambers = [block.chambers for block in blocks if block.chambers is not None]
        return Block(
            first.names,
            np.concatenate([block.x for block in blocks]),
            np.concatenate(times) if times else None,
            np.concatenate(chambers) if chambers else None,
            np.concatenate([block.rows for block in blocks]),
            last.end_row,
        )


@dataclass(frozen=True, slots=True)
class _Source:
    """A feature that is a column."""

    column: FileColumn
    scale: float | None = None
    take: Reduction | int | None = None


class FeatureReader:
    """Reads the features that options describe from a table.

    Parameters
    ----------
    options : FileOptions
        What is read.
    table : InputTable
        An open table.

    Attributes
    ----------
    names : tuple of str
        Features.
    layout : dict of str to str
        Columns that all files of a source must have alike, with their types: all, or those that are used if
        features are named.

    Raises
    ------
    FileError
        If a column is missing or has no numbers, or two have the same name as a feature. The message lists
        what there is.
    ConfigError
        If a transformation is not installed.
    """

    def __init__(self, options: FileOptions, table: InputTable) -> None:
        self._options = options
        self._table = table
        self._where = f"{table.path}, tree {table.name!r}" if table.name else str(table.path)
        sources = self._name_columns()
        # columns may also be asked for by their own names, as bundles of version 0.2.0 do
        self._own = {one.column.name: name for name, one in sources.items() if one.take is None}
        derived = self._check_derived(sources)
        self._selection = options.selection()
        known = [*sources, *derived]
        self.names = options.features or tuple(name for name in known if name not in (TIME, CHAMBER))
        if not self.names:
            raise FileError("no features", where=self._where, fix=f"There are: {self._list_columns()}")
        wanted = dict.fromkeys((*self.names, *(name for name in (TIME, CHAMBER) if name in known)))
        wanted |= dict.fromkeys(self._selection.columns if self._selection else ())
        wanted |= dict.fromkeys(name for one in options.transform for name in one.features)
        self._derived: dict[str, Expression] = {}
        for name in reversed(derived):  # each needs columns and those before it
            if name in wanted:
                self._derived = {name: derived[name], **self._derived}
                wanted |= dict.fromkeys(derived[name].columns)
        self._sources = {name: self._find(name, sources) for name in wanted if name not in self._derived}
        used = [source.column for source in self._sources.values()]
        chosen = table.columns if options.features is None else used
        self.layout = {column.name: column.kind for column in chosen}
        self._changes = [load_transformation(one) for one in options.transform]

    def read(self, first: int = 0, last_time: float = -np.inf) -> Iterator[Block]:
        """Yield blocks of rows from row `first` of the file on, without those that are not selected.

        Parameters
        ----------
        first : int
            Rows to skip.
        last_time : float
            Time of the row before them.

        Raises
        ------
        FileError
            If a value is missing, not a number or not finite, if lists of a row have different lengths, or
            if time goes back; the message names file, row and column.
        """
        types = {source.column.name: self._type_of(source) for source in self._sources.values()}
        row = first
        for batch in self._table.read(types, first):
            if not len(batch):
                continue
            block = self._block(batch, row, last_time)
            if block.times is not None and len(block.times):
                last_time = float(block.times[-1])
            row += len(batch)
            yield block

    def _block(self, batch: pa.RecordBatch, row: int, last_time: float) -> Block:
        index, values, chambers = self._values(batch, row)
        for name, expression in self._derived.items():
            values[name] = expression.evaluate(values)
        rows = index + row
        if self._selection is not None:
            chosen = self._selection.evaluate(values) != 0
            rows = rows[chosen]
            values = {name: column[chosen] for name, column in values.items()}
            chambers = None if chambers is None else chambers[chosen]
        for change in self._changes:
            change(values)
        for name in self.names:
            self._check_numbers(name, values[name], rows, keep_nan=self._options.keep_nan)
        times = values.get(TIME)
        if times is not None:
            self._check_numbers(TIME, times, rows, keep_nan=False)
            self._check_order(times, rows, last_time)
        if chambers is None and CHAMBER in values:
            chambers = np.array([f"{number:g}" for number in values[CHAMBER]], dtype=np.str_)
        x = np.column_stack([values[name] for name in self.names])
        return Block(self.names, x, times, chambers, rows, row + len(batch))

    def _values(
        self, batch: pa.RecordBatch, row: int
    ) -> tuple[IntArray, dict[str, FloatArray], Names | None]:
        """Give the place in the batch of each row to be, and the columns for these rows."""
        lengths = self._lengths(batch, row)
        index = np.arange(len(batch))
        if lengths is not None:
            index = np.repeat(index, lengths)
        values: dict[str, FloatArray] = {}
        chambers: Names | None = None
        for name, source in self._sources.items():
            column = batch.column(source.column.name)
            where = f"{self._where}, column {source.column.name!r}"
            is_element = is_list(column.type) and source.take is None
            if is_element:
                column = elements_of(column, self._type_of(source), where)
            if name == CHAMBER and self._type_of(source) == pa.string():
                chambers = self._check_names(column, index if is_element else np.arange(len(column)), row)
                chambers = chambers if is_element or lengths is None else chambers[index]
                continue
            if is_list(column.type) and source.take is not None:
                found = self._take(column, source.take, where)
            else:
                found = column.to_numpy(zero_copy_only=False)
            scaled = found if source.scale is None else found * source.scale
            values[name] = scaled if is_element or lengths is None else scaled[index]
        return index, values, chambers

    def _type_of(self, source: _Source) -> pa.DataType:
        """Give the type as which a column is read: text if it says the chamber and nothing else."""
        users = [name for name, one in self._sources.items() if one.column == source.column]
        return pa.string() if users == [CHAMBER] and CHAMBER not in self.names else pa.float64()

    def _take(self, column: pa.Array, take: Reduction | int, where: str) -> FloatArray:
        lengths = lengths_of(column, where)
        elements = elements_of(column, pa.float64(), where).to_numpy(zero_copy_only=False)
        longest = int(lengths.max(initial=0))
        if isinstance(take, int) and self._selection is None and len(lengths) and longest <= take:
            raise FileError(
                f"no row has an element {take}: lists have at most {format_count(longest, 'element')}, "
                "counted from 0",
                where=where,
                fix="Take another one: columns.NAME.take",
            )
        return take_of(elements, lengths, take)

    def _lengths(self, batch: pa.RecordBatch, row: int) -> IntArray | None:
        """Give the number of rows that each row of the batch becomes; None if it stays one."""
        if self._options.rows == "event":
            return None
        found: IntArray | None = None
        of = ""
        for source in self._sources.values():
            name = source.column.name
            column = batch.column(name)
            if source.take is not None or not is_list(column.type):
                continue
            lengths = lengths_of(column, f"{self._where}, column {name!r}")
            if found is not None and (lengths != found).any():
                k = int(np.flatnonzero(lengths != found)[0])
                raise FileError(
                    f"{of!r} has {found[k]} elements and {name!r} has {lengths[k]}",
                    where=f"{self._where}, row {self._table.row_number(row + k)}",
                    fix="Name features whose lists belong together, or take one value of the others: "
                    "columns.NAME.take",
                )
            found = lengths
            of = name
        return found

    def _name_columns(self) -> dict[str, _Source]:
        """Give the features that columns are: those of `columns`, and all others under their own names."""
        by_name = {column.name: column for column in self._table.columns}
        chosen: dict[str, _Source] = {}
        for name, choice in self._options.columns.items():
            if choice.column not in by_name:
                raise no_such(
                    "column", choice.column, tuple(by_name), where=self._where, listed=self._list_columns()
                )
            chosen[name] = _Source(by_name[choice.column], choice.scale, choice.take)
        taken = {source.column.name for source in chosen.values()}
        named: dict[str, _Source] = {}
        if TIME not in by_name and TIME not in chosen and (clock := self._find_clock(taken)) is not None:
            named[TIME] = _Source(clock)
            taken.add(clock.name)
        for column in self._table.columns:
            if column.name in taken:
                continue
            if column.feature in chosen or column.feature in named:
                raise FileError(
                    f"two columns are called {column.feature!r}: {column.name!r} is the second",
                    where=self._where,
                    fix=f'Give it another name: columns = {{NAME = "{escape_text(column.name)}"}}',
                )
            named[column.feature] = _Source(column)
        return named | chosen

    def _find_clock(self, taken: Collection[str]) -> FileColumn | None:
        """Find the time in seconds that has its unit in the name, as ``time [s]``, unless it is a feature."""
        options = self._options
        expressions = [*options.derived().values(), *filter(None, [options.selection()])]
        asked = {*(options.features or ()), *(name for one in expressions for name in one.columns)}
        for column in self._table.columns:
            is_asked = column.name in taken or {column.name, column.feature} & asked
            if _CLOCK.fullmatch(column.name.strip()) and not is_asked:
                return column
        return None

    def _check_derived(self, sources: dict[str, _Source]) -> dict[str, Expression]:
        """Check that derived features have names of their own, and need what is there before them."""
        known = list(sources)
        derived = self._options.derived()
        for name, expression in derived.items():
            where = f"{self._where}, derive.{name}"
            if name in sources:
                raise FileError(
                    f"there is a column {name!r} already",
                    where=where,
                    fix="Give the derived feature another name",
                )
            for column in expression.columns:
                if column not in known and column not in self._own:
                    raise no_such("column", column, known, where=where)
            known.append(name)
        return derived

    def _find(self, name: str, sources: dict[str, _Source]) -> _Source:
        """Give the column of a feature that is used, or say why there is none."""
        if name not in sources:
            name = self._own.get(name, name)
        if name not in sources:
            known = [*sources, *self._options.derive]
            listed = self._list_columns() if len(known) == len(self._table.columns) else None
            raise no_such("column", name, known, where=self._where, listed=listed)
        source = sources[name]
        column = source.column
        where = f"{self._where}, column {column.name!r}"
        if not column.is_number and (name != CHAMBER or name in self.names):
            usable = self._usable(sources)
            fix = name_features(usable) if usable else NO_NUMBERS
            raise FileError(f"holds {column.kind}, not numbers", where=where, fix=fix)
        if self._options.features is None and name in self.names and not is_feature_name(name):
            raise self._refuse_names(
                [each for each in self.names if not is_feature_name(each)], self._usable(sources)
            )
        if source.take is not None and not column.is_list:
            raise FileError(
                f"has no lists, of which {source.take!r} could be taken", where=where, fix="Leave take out"
            )
        if column.is_list and source.take is None and self._options.rows == "event":
            raise FileError(
                f"holds {column.kind}, a list in each row",
                where=where,
                fix=f"Say what to take of it, columns.{suggest_names([name])[0]} = "
                f'{{column = "{escape_text(column.name)}", '
                'take = "first"}, or make each element a row: rows = "element"',
            )
        return source

    def _usable(self, sources: dict[str, _Source]) -> list[str]:
        """Give the features that are asked for and can be read: a number in each row, and a name."""

        def has_numbers(source: _Source) -> bool:
            is_single = not source.column.is_list or source.take is not None or self._options.rows != "event"
            return source.column.is_number and is_single

        return [
            name
            for name in self.names
            if is_feature_name(name) and (name not in sources or has_numbers(sources[name]))
        ]

    def _refuse_names(self, names: Sequence[str], usable: Sequence[str]) -> FileError:
        """Make the error for columns that no feature can be called like."""
        shown = [escape_text(name) for name in names]
        what = "the name of a feature" if len(names) == 1 else "names of features"
        pairs = zip(suggest_names(names[:MOST_LISTED]), shown, strict=False)
        renamed = ", ".join(f'{new} = "{old}"' for new, old in pairs)
        return FileError(
            f"{list_names([repr(name) for name in shown])} cannot be {what}",
            where=self._where,
            fix=f"Give other names: columns = {{{renamed}}} in the options of a collector, or --read "
            f"'columns={{{renamed}}}' with a command (--set of extract and init); or leave such "
            f"columns out. {name_features(usable)}",
        )

    def _list_columns(self) -> str:
        return describe_columns(self._table.columns)

    def _check_numbers(self, name: str, values: FloatArray, rows: IntArray, *, keep_nan: bool) -> None:
        """Refuse what is not finite; NaN may be kept."""
        bad = np.flatnonzero(np.isinf(values) if keep_nan else ~np.isfinite(values))
        if bad.size:
            others = [each for each in self.names if each != name]
            leave_out = (
                f"{_FIX_INFINITE}, or this column. {name_features(others)}" if others else _FIX_INFINITE
            )
            raise FileError(
                f"{values[bad[0]]} is not a number",
                where=f"{self._where}, row {self._table.row_number(int(rows[bad[0]]))}, column "
                f"{self._column_of(name)!r}",
                fix=leave_out if np.isinf(values[bad[0]]) else _FIX_NAN.format(name),
            )

    def _check_order(self, times: FloatArray, rows: IntArray, last_time: float) -> None:
        back = np.flatnonzero(np.diff(times, prepend=last_time) < 0)
        if back.size:
            raise FileError(
                "time goes back",
                where=f"{self._where}, row {self._table.row_number(int(rows[back[0]]))}, column "
                f"{self._column_of(TIME)!r}",
                fix="Sort the rows by time; chambers may alternate. If it is not the time of the event, give "
                "the column another name: columns",
            )

    def _column_of(self, name: str) -> str:
        source = self._sources.get(name)
        return name if source is None else source.column.name

    def _check_names(self, column: pa.Array, index: IntArray, row: int) -> Names:
        """Return a column of chambers. Names are limited: in numpy, each takes the memory of the longest."""
        names = column.to_pylist()
        wrong = next((k for k, name in enumerate(names) if name is None or len(name) > LONGEST_NAME), None)
        if wrong is not None:
            long = f"a name of more than {LONGEST_NAME} characters"
            raise FileError(
                "no name" if names[wrong] is None else long,
                where=f"{self._where}, row {self._table.row_number(int(row + index[wrong]))}, "
                f"column {CHAMBER!r}",
            )
        return np.array(names, dtype=np.str_)
