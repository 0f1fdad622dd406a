"""Where the events of a new installation come from: a collector with its options, and files of a good run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dqm.config import find_plugin
from dqm.errors import ConfigError, FileError
from dqm.service.collector.sources import missing_inputs, open_source, refuse_missing_inputs
from dqm.service.offline.feature_files import READING_KEYS, checksum, list_inputs

__all__ = ["FIX_COUNTS", "GROUP", "REPLAY", "Detector", "required_options"]

FIX_COUNTS = "For histograms see docs/histograms.md: build the reference with --counts or --histogram"

GROUP = "dqm.collectors"
REPLAY = "replay"
INPUTS = "inputs"

_OF_PACE = {INPUTS, "rate_hz", "speed"}
"""Options that do not change what the events are."""


def required_options(collector: str) -> dict[str, str]:
    """Give the options that a collector needs, with their meaning.

    Parameters
    ----------
    collector : str
        Name of an entry point of the group ``dqm.collectors``.

    Raises
    ------
    ConfigError
        If no such collector is installed.
    """
    model = getattr(find_plugin(GROUP, collector, where="--collector"), "Options", None)
    if model is None:
        return {}
    fields = model.model_fields.items()
    return {name: one.description or "" for name, one in fields if one.is_required()}


@dataclass(frozen=True, slots=True)
class Detector:
    """A collector, and a good run of its detector.

    Parameters
    ----------
    collector : str
        Name of the collector.
    options : mapping of str to object
        Its options, as they are written in TOML; relative paths start from the working directory.
    run : tuple of Path
        Files of a good run: inputs of the collector, or Parquet files that ``dqm extract`` wrote.

    Raises
    ------
    ConfigError
        If an option is wrong or missing, or the run cannot be read by this collector.
    FileError
        If a file of the run is not there, or an input of a collector that does not wait for it.
    """

    collector: str
    options: Mapping[str, object]
    run: tuple[Path, ...]
    absolute_options: dict[str, object] = field(init=False, default_factory=dict)
    """The options with absolute paths: they are right wherever the configuration is."""
    missing_inputs: list[Path] = field(init=False, default_factory=list)
    """Inputs that the collector will wait for."""

    def __post_init__(self) -> None:
        source = open_source(self.collector, self.options)
        refuse_missing_inputs(source, "--input")
        self.missing_inputs.extend(missing_inputs(source))
        checked = getattr(source, "options", None)
        for name, value in self.options.items():
            self.absolute_options[name] = _write_path(value, getattr(checked, name, value))
        if not self.run:
            raise ConfigError("no file of a good run", where="--run", fix="Name one or several files")
        if "counts" in self.options:
            raise ConfigError("rows that stand for several events", where="counts", fix=FIX_COUNTS)
        for path in self.run_files:
            if not path.is_file():
                what = "is not a file" if path.exists() else "no such file"
                raise FileError(what, where=f"--run {path}", fix="Name a file of a good run")
        if not self.run_is_of_features and INPUTS not in self._known_options:
            raise ConfigError(
                f"the collector {self.collector!r} reads no files",
                where="--run",
                fix="Give a Parquet file of features, as 'dqm extract' writes it",
            )

    @property
    def run_is_of_features(self) -> bool:
        """Whether the files of the run are used as they are: a row for each event."""
        return self._reads_features or all(path.suffix == ".parquet" for path in self.run)

    @property
    def _reads_features(self) -> bool:
        """Whether its inputs are files of features, as for ``replay`` and ``files``."""
        return set(READING_KEYS) <= self._known_options

    @property
    def reading(self) -> dict[str, object]:
        """How files of features are read: options on columns, separators, trees and the like."""
        if not self._reads_features:
            return {}
        keys = set(READING_KEYS) - {"features", "name_pattern"}
        return {name: value for name, value in self.absolute_options.items() if name in keys}

    @property
    def run_files(self) -> tuple[Path, ...]:
        """Files of the run; for features also those of patterns and directories."""
        is_many = any(path.is_dir() or set(path.name) & set("*?[") for path in self.run)
        if is_many and self.run_is_of_features:
            return tuple(one.path for one in list_inputs(self.run, self.reading))
        return self.run

    @property
    def key_of_run(self) -> str:
        """Hash of all that determines the events of the run."""
        unpaced = {name: value for name, value in self.absolute_options.items() if name not in _OF_PACE}
        text = f"{self.collector}\n{sorted(unpaced.items())!r}\n"
        text += "\n".join(checksum(path) for path in self.run_files)
        return hashlib.sha256(text.encode()).hexdigest()

    def sending(self, features: tuple[str, ...]) -> Self:
        """Give a detector whose collector sends these features alone, if it can choose: a file has others."""
        if not self._reads_features or "features" in self.options:
            return self
        return replace(self, options={**self.options, "features": list(features)})

    @property
    def input_paths(self) -> tuple[str, ...]:
        """Files that the collector will read, absolute."""
        inputs = self.absolute_options.get(INPUTS, ())
        return tuple(map(str, inputs)) if isinstance(inputs, list | tuple) else (str(inputs),)

    @property
    def written_directories(self) -> tuple[Path, ...]:
        """Directories of files that the collector writes: paths whose option is marked as written."""
        written = {name for name, one in self._fields.items() if _extra(one).get("written")}
        paths = [Path(str(value)) for name, value in self.absolute_options.items() if name in written]
        return tuple(dict.fromkeys(path.parent for path in paths))

    def options_for_run(self) -> dict[str, object]:
        """Give the options with which the collector reads the good run, as fast as it can."""
        kept = {name: value for name, value in self.absolute_options.items() if name not in _OF_PACE}
        return kept | {INPUTS: [path.absolute() for path in self.run]}

    @property
    def _known_options(self) -> set[str]:
        return set(self._fields)

    @property
    def _fields(self) -> Mapping[str, FieldInfo]:
        model: type[BaseModel] | None = getattr(find_plugin(GROUP, self.collector), "Options", None)
        return {} if model is None else model.model_fields


def _extra(field: FieldInfo) -> Mapping[str, object]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _write_path(given: object, checked: object) -> object:
    """Give a value with absolute paths where the model of the options has paths."""
    if isinstance(checked, Path):
        return str(checked.absolute())
    if isinstance(checked, tuple | list) and checked and all(isinstance(one, Path) for one in checked):
        return [str(one.absolute()) for one in checked]
    if isinstance(given, dict) and isinstance(checked, dict):
        return {name: _write_path(value, checked.get(name, value)) for name, value in given.items()}
    return _plain(given)


def _plain(value: Any) -> object:
    """Give a value that TOML has: paths as text."""
    if isinstance(value, Path):
        return str(value.absolute())
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value
