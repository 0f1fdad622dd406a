"""What is read from files and how: keys that `replay`, `files` and the offline commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from dqm.errors import ConfigError
from dqm_collectors.inputs.expression import Expression, parse_expression
from dqm_collectors.inputs.names import is_feature_name
from dqm_collectors.inputs.run_files import names_root

__all__ = ["GROUPS", "MOST_FEATURES", "ColumnChoice", "FileOptions", "Reduction", "TransformationChoice"]

Reduction = Literal["first", "last", "count", "sum", "mean", "min", "max"]
"""How the list of a row is used."""

GROUPS = ("run", "run_type", "part")
"""Named groups of `name_pattern`."""

MOST_FEATURES = 1000


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ColumnChoice(_Options):
    """``[options.columns.FEATURE]``: a feature that is a column, in another unit or a part of its lists."""

    column: str = Field(min_length=1, description="name of the column or branch in the file")
    scale: float | None = Field(
        None, description="factor of its values, not 0, as 1e-9 of ns to s; default: they stay as they are"
    )
    take: Reduction | Annotated[int, Field(ge=0, le=10_000)] | None = Field(
        None,
        description="what is taken of a list: first, last, count, sum, mean, min, max, or the place of an "
        "element "
        "from 0; default: the column has no lists, or rows = element",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scale == 0:
            raise ValueError("scale must not be 0")
        return self


class TransformationChoice(_Options):
    """``[[options.transform]]``: a plugin of the group ``dqm.transformations`` that changes features."""

    name: str = Field(min_length=1, description="name of the transformation: scale, shift or a plugin")
    features: tuple[str, ...] = Field(min_length=1, description="features that it gets and changes")
    nu: float = Field(description="its parameter")


def _as_choice(value: Any) -> Any:
    """Read the short form: the name of a column alone."""
    return {"column": value} if isinstance(value, str) else value


class FileOptions(_Options):
    """Keys about files and their columns."""

    inputs: tuple[Path, ...] = Field(
        min_length=1,
        description="files (.parquet, .root, CSV, plain or .gz), patterns such as run*.root, or "
        "directories, in order",
    )
    name_pattern: str | None = Field(
        None,
        min_length=1,
        description="regular expression for whole file names, with the group (?P<run>...) and perhaps "
        "(?P<run_type>...) and (?P<part>...): files belong to these runs and are read in their order; of a "
        "directory, others are left out",
    )
    tree: str | None = Field(
        None, min_length=1, description="tree of ROOT files, with its directories; default: the only one"
    )
    rows: Literal["event", "element"] = Field(
        "event",
        description="what becomes a row where a row of the file has lists: the whole (event), with "
        "columns.NAME.take, or each element of the lists",
    )
    columns: dict[str, Annotated[ColumnChoice, BeforeValidator(_as_choice)]] = Field(
        {},
        max_length=MOST_FEATURES,
        description='features that are columns under another name: NAME = "column", or a table',
    )
    derive: dict[str, str] = Field(
        {},
        max_length=MOST_FEATURES,
        description="features that are computed, in this order: NAME = expression, such as sqrt(x**2 + y**2)",
    )
    transform: tuple[TransformationChoice, ...] = Field(
        (), description="transformations of features by plugins, applied in this order after derive"
    )
    select: str | None = Field(
        None, description="expression that is true for the rows to use, such as chi2 < 5; default: all rows"
    )
    features: tuple[str, ...] | None = Field(
        None, min_length=1, description="columns to use, in this order; default: all but time and chamber"
    )
    keep_nan: bool = Field(
        False, description="whether rows with NaN are kept; false: they are errors; see largest_nan_share"
    )
    chamber: str = Field("0", description="name of the chamber if the file has no column chamber")
    separator: Literal[",", ";", "\t", "|"] | None = Field(
        None, description="character between the values of CSV; default: what the header has, of , ; and tab"
    )
    decimal: Literal[".", ","] = Field(".", description="decimal mark in CSV")
    thousands: Literal[",", ".", "'", " ", "_"] | None = Field(
        None, description="mark between groups of three digits in CSV, as in 1,234.5; default: none"
    )
    comment: str = Field(
        "#",
        max_length=1,
        description="character with which a line of CSV begins that is left out; empty: none",
    )
    encoding: Literal["utf-8", "latin-1", "cp1252"] = Field("utf-8", description="encoding of CSV")

    @field_validator("derive", "select")
    @classmethod
    def _check_expressions(cls, value: dict[str, str] | str | None) -> dict[str, str] | str | None:
        texts = {} if value is None else {"select": value} if isinstance(value, str) else value
        for name, text in texts.items():
            try:
                found = parse_expression(text, name)
            except ConfigError as error:
                raise ValueError(str(error)) from error
            if isinstance(value, str) and not found.is_condition:
                raise ValueError(f"{text!r} is a number and no condition: compare it with something")
        return value

    @field_validator("name_pattern")
    @classmethod
    def _check_pattern(cls, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            groups = re.compile(text).groupindex
        except re.error as error:
            raise ValueError(f"{text!r} is not a regular expression: {error}") from error
        if "run" not in groups or not set(groups) <= set(GROUPS):
            raise ValueError(
                rf"{text!r} has the groups {', '.join(groups) or 'none'}; it needs (?P<run>\d+) and may "
                rf"have run_type "
                "and part"
            )
        return text

    @model_validator(mode="after")
    def _check_names_and_marks(self) -> Self:
        if self.thousands == self.decimal:
            raise ValueError(f"thousands and decimal are both {self.decimal!r}")
        if self.separator is not None and self.separator in (self.decimal, self.thousands):
            raise ValueError(f"separator {self.separator!r} is also a mark within numbers")
        if both := sorted(set(self.columns) & set(self.derive)):
            raise ValueError(f"{both[0]} is in columns and in derive")
        if wrong := [name for name in (*self.columns, *self.derive) if not is_feature_name(name)]:
            raise ValueError(
                f"{wrong[0]!r} cannot be the name of a feature: 1 to 64 letters, digits, '.', '_' and '-' can"
            )
        return self

    def packages(self) -> dict[str, str]:
        """Give the packages that these keys need, and the extra of dqm that has each."""
        found: dict[str, str] = {}
        if self.tree is not None or names_root(self.inputs, self.name_pattern):
            found |= {"uproot": "root", "awkward": "root"}
        if self.derive or self.select is not None:
            found["numexpr"] = "expressions"
        return found

    def derived(self) -> dict[str, Expression]:
        """Give the checked expressions of `derive` by feature."""
        return {name: parse_expression(text, f"derive {name}") for name, text in self.derive.items()}

    def selection(self) -> Expression | None:
        """Give the checked expression of `select`."""
        return None if self.select is None else parse_expression(self.select, "select")
