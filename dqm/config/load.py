"""Load a configuration from file, environment and command line; report all mistakes at once."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dqm.config.collector import CollectorConfig
from dqm.config.daemon import DaemonConfig
from dqm.errors import ConfigError

__all__ = [
    "find_problems",
    "load_collector",
    "load_daemon",
    "parse_value",
    "read_toml",
    "set_key",
    "validate",
]

Model = TypeVar("Model", bound=BaseModel)

_LARGEST_FILE_BYTES = 2**22
_NAME_ONE = "Correct it, or name the TOML file of the daemon or the collector"
_PREFIX = "DQM_"
_NESTING = "__"


def load_daemon(
    path: Path, overrides: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> DaemonConfig:
    """Load the configuration of ``dqm run``.

    The command line overrides the ``DQM_*`` environment, that overrides the file, that overrides defaults.

    Parameters
    ----------
    path : Path
        TOML file; relative paths in it start from its directory.
    overrides : mapping of str to object, optional
        Values from the command line by dotted key, such as ``{"daemon.http": "127.0.0.1:8080"}``.
    environ : mapping of str to str, optional
        Environment; that of the process by default. ``DQM_DAEMON__HTTP`` sets ``daemon.http``.

    Returns
    -------
    DaemonConfig
        Checked configuration.

    Raises
    ------
    ConfigError
        Its text lists every mistake and where it is.
    """
    return _load(DaemonConfig, path, overrides, environ)


def load_collector(
    path: Path, overrides: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> CollectorConfig:
    """Load the configuration of ``dqm collect``; parameters as in `load_daemon`.

    ``options`` are not checked here: each collector has its own model, see `validate`.
    """
    return _load(CollectorConfig, path, overrides, environ)


def find_problems(
    path: Path, overrides: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> list[str]:
    """List every mistake in a configuration; a ``[collector]`` table makes it one of a collector.

    Parameters
    ----------
    path, overrides, environ
        As in `load_daemon`.

    Returns
    -------
    list of str
        One line for each mistake, with file and key.
    """
    try:
        data = read_toml(path)
        model = CollectorConfig if "collector" in data else DaemonConfig
        return _check(model, path, data, overrides or {}, os.environ if environ is None else environ)[1]
    except ConfigError as error:
        return [str(error)]


def validate(model: type[Model], data: object, where: str, base: Path | None = None) -> Model:
    """Check data against any pydantic model, with the same messages as for configuration files.

    Parameters
    ----------
    model : type of BaseModel
        Model of the data.
    data : object
        Parsed data, usually a dict.
    where : str
        File and table of the data, for the messages.
    base : Path, optional
        Directory from which relative paths in the values start; paths are not changed by default.

    Returns
    -------
    BaseModel
        Instance of `model`.

    Raises
    ------
    ConfigError
        Its text lists every mistake.
    """
    try:
        checked = model.model_validate(data)
    except ValidationError as error:
        raise _gather([f"{where}: {line}" for _, line in _describe(model, error)]) from error
    if base is None:
        return checked
    return checked.model_copy(update={name: _start_from(base, value) for name, value in checked})


def parse_value(text: str) -> object:
    """Parse a value written as in TOML; return the text itself if it is not TOML.

    Parameters
    ----------
    text : str
        Such as ``500``, ``0.01``, ``["a", "b"]``, ``tcp://127.0.0.1:5565``.

    Returns
    -------
    object
        Parsed value.
    """
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if len(table) == 1 else text


def set_key(data: dict[str, Any], key: str, value: object) -> bool:
    """Set a dotted key of parsed data; tables on the way are created.

    Parameters
    ----------
    data : dict
        Parsed TOML; changed.
    key : str
        Such as ``daemon.http``.
    value : object
        Value to set.

    Returns
    -------
    bool
        False if a part of the key is not a table; then nothing is set.
    """
    *path, last = key.split(".")
    table: object = data
    for part in path:
        if not isinstance(table, dict):
            return False
        table = table.setdefault(part, {})
    if not isinstance(table, dict):
        return False
    table[last] = value
    return True


def _start_from(base: Path, value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_start_from(base, part) for part in value)
    return base / value.expanduser() if isinstance(value, Path) else value


def _load(
    model: type[Model],
    path: Path,
    overrides: Mapping[str, object] | None,
    environ: Mapping[str, str] | None,
) -> Model:
    environ = os.environ if environ is None else environ
    data = read_toml(path)
    _refuse_other_kind(model, path, data)
    config, problems = _check(model, path, data, overrides or {}, environ)
    if config is None:
        raise _gather(problems)
    return config


def _refuse_other_kind(model: type[BaseModel], path: Path, data: Mapping[str, object]) -> None:
    """Refuse the file of a collector where that of a daemon is meant, and the other way round."""
    is_of_collector = "collector" in data and "daemon" not in data
    is_of_daemon = "collector" not in data and ("daemon" in data or isinstance(data.get("streams"), list))
    if model is DaemonConfig and is_of_collector:
        raise ConfigError("is the file of a collector", where=str(path), fix="Name that of the daemon")
    if model is CollectorConfig and is_of_daemon:
        raise ConfigError("is the file of a daemon", where=str(path), fix="Name that of a collector")


def _gather(problems: list[str]) -> ConfigError:
    if len(problems) == 1:
        return ConfigError(problems[0])
    return ConfigError(f"{len(problems)} mistakes in the configuration:\n  " + "\n  ".join(problems))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises `ConfigError` if it is not TOML, not readable or larger than 4 MiB."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE_BYTES + 1)
        if len(content) > _LARGEST_FILE_BYTES:
            raise ConfigError(
                f"more than {_LARGEST_FILE_BYTES} bytes", where=str(path), fix="Give a configuration of dqm"
            )
        return tomllib.loads(content.decode())
    except RecursionError as error:
        raise ConfigError(
            "not valid TOML: nested too deeply", where=str(path), fix="Give a configuration of dqm"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", where=str(path), fix=_NAME_ONE) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"not a text file in UTF-8: {error}", where=str(path), fix=_NAME_ONE) from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), fix=_NAME_ONE) from error


def _check(
    model: type[Model],
    path: Path,
    data: dict[str, Any],
    overrides: Mapping[str, object],
    environ: Mapping[str, str],
) -> tuple[Model | None, list[str]]:
    """Return the model and no problems, or None and the problems."""
    places: dict[str, str] = {}
    problems: list[str] = []
    for place, key, value in [*_from_environment(model, environ), *_from_command_line(overrides)]:
        if set_key(data, key, value):
            places[key] = place
        else:
            problems.append(f"{place}: {key} is not a key that can be set outside the file")
    try:
        config = model.model_validate(data, context={"base": path.resolve().parent, "environ": environ})
    except ValidationError as error:
        problems += [f"{_place_of(key, places, path)}: {line}" for key, line in _describe(model, error)]
        return None, problems
    return (None if problems else config), problems


def _from_environment(
    model: type[BaseModel], environ: Mapping[str, str]
) -> Iterator[tuple[str, str, object]]:
    """Yield place, dotted key and value of each variable that belongs to this model."""
    others = {*DaemonConfig.model_fields, *CollectorConfig.model_fields} - {*model.model_fields}
    for name, text in sorted(environ.items()):
        parts = name.removeprefix(_PREFIX).lower().split(_NESTING)
        if name.startswith(_PREFIX) and len(parts) > 1 and parts[0] not in others:
            yield f"environment {name}", ".".join(parts), parse_value(text)


def _from_command_line(overrides: Mapping[str, object]) -> Iterator[tuple[str, str, object]]:
    for key, value in overrides.items():
        yield "command line", key, value


def _place_of(key: str, places: Mapping[str, str], path: Path) -> str:
    for known, place in places.items():
        if key == known or key.startswith((known + ".", known + "[")) or known.startswith(key + "."):
            return place
    return str(path)


def _describe(model: type[BaseModel], error: ValidationError) -> Iterator[tuple[str, str]]:
    """Yield dotted key and message of each mistake."""
    problems = error.errors(include_url=False)
    found: dict[str, list[str]] = {}
    for problem in problems:
        loc = problem["loc"]
        # pydantic also reports a list as too short when its items were refused
        if problem["type"] == "too_short" and any(p["loc"][: len(loc)] == loc != p["loc"] for p in problems):
            continue
        key = _join(tuple(part for part in loc if not _KIND_OF_VALUE.match(str(part))))
        found.setdefault(key, []).append(_explain(model, problem))
    for key, reasons in found.items():
        if any(_KIND_OF_VALUE.match(str(part)) for problem in problems for part in problem["loc"]):
            reasons = ["; or: ".join(reasons)]  # one for each kind of value that the key may have
        for reason in reasons:
            yield key, f"{key}: {reason}" if key else reason


_KIND_OF_VALUE = re.compile(r"literal\[|constrained-")
"""What pydantic puts behind a key that may have values of several kinds."""


def _join(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _explain(model: type[BaseModel], problem: ErrorDetails) -> str:
    if problem["type"] == "extra_forbidden":
        return _explain_unknown(model, problem["loc"])
    if problem["type"] == "missing":
        return "must be given"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message
    given = repr(problem["input"])
    said = _explain_table(model, problem) or _OWN_WORDS.get(problem["type"])
    said = said or f"{message[:1].lower()}{message[1:]}"
    return f"{said}, got {given if len(given) <= 80 else given[:77] + '...'}"


def _explain_table(model: type[BaseModel], problem: ErrorDetails) -> str:
    """Say how a table is written, if one is missing; empty otherwise."""
    loc = problem["loc"]
    is_one = problem["type"] in {"model_type", "dict_type"}
    if not (is_one or (problem["type"] == "tuple_type" and _names_at(model, loc) and loc)):
        return ""
    if not issubclass(model, DaemonConfig | CollectorConfig):
        return "must be a table, as in {a = 1}"  # where its header is, only who asks knows
    path = ".".join(part for part in loc if isinstance(part, str))
    is_list = not is_one or isinstance(loc[-1], int)
    return f"must be tables: [[{path}]]" if is_list else f"must be a table: [{path}]"


_OWN_WORDS = {
    "tuple_type": 'must be a list, as in ["a", "b"]',
    "list_type": 'must be a list, as in ["a", "b"]',
}
"""What pydantic says in words of Python."""


def _explain_unknown(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    names = _names_at(model, loc[:-1])
    near = difflib.get_close_matches(str(loc[-1]), names, n=1, cutoff=0.5)
    known = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(names)) or 'nothing'}"
    return f"unknown key; {known}"


def _names_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the table at `loc`; positions in lists are skipped."""
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            inner = _model_in(model.model_fields[part].annotation)
            if inner is None:
                return []
            model = inner
    return list(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Find the model in an annotation such as ``tuple[StreamSection, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
