"""Records as a table in a file: CSV or Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dqm.cli.output import writing_file
from dqm.errors import ConfigError

__all__ = ["write_records"]


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write records with the same keys, one in each row; lists and objects in them become JSON.

    Parameters
    ----------
    path : Path
        With the suffix .csv or .parquet; it replaces a file that exists.
    records : sequence of dict
        At least one.

    Raises
    ------
    ConfigError
        If the suffix is another one, or there are no records.
    FileError
        If the file cannot be written.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(
            f"{path.suffix or 'a name without suffix'} is not a kind of table", where=str(path),
            fix="Name the file .csv or .parquet",
        )  # fmt: skip
    if not records:
        raise ConfigError("there is nothing to write", where=str(path), fix="Ask for other runs or streams")
    import pyarrow as pa
    from pyarrow import csv, parquet

    table = pa.Table.from_pylist([{name: _flat(value) for name, value in one.items()} for one in records])
    of_nothing = [
        name for name, kind in zip(table.column_names, table.schema.types, strict=True) if kind == pa.null()
    ]
    for name in of_nothing:  # readers expect numbers
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(place).cast(pa.float64()))
    with writing_file(path) as unfinished:
        if path.suffix == ".csv":
            csv.write_csv(table, unfinished)
        else:
            parquet.write_table(table, unfinished)


def _flat(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict | list | tuple) else value
