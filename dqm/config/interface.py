"""Does an object have what a Protocol asks for? Errors of plugins, in our words.

A plugin is checked once, where it is loaded. `check_members` reads from the Protocol what it must have: an
attribute with its type, a method with the arguments that it is certain to be called with. What may be left
out is in a Protocol of its own and is asked for with `optional`.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Annotated, Any, get_args, get_origin

from dqm.errors import DqmError, PluginError

__all__ = ["accepts", "check_call", "check_members", "members_of", "place_of", "plugin_errors"]

_OF_PROTOCOLS = {"__init__", "__subclasshook__"}
"""Functions that every Protocol has in its own dictionary."""


def members_of(protocol: type) -> dict[str, Any]:
    """List what a Protocol asks for.

    Parameters
    ----------
    protocol : type
        Subclass of `typing.Protocol`.

    Returns
    -------
    dict
        Functions and properties by their name, and annotations of attributes.
    """
    found: dict[str, Any] = {}
    for base in reversed(protocol.__mro__):
        if base is typing.Protocol or not getattr(base, "_is_protocol", False):
            continue
        for name, value in vars(base).items():
            is_member = inspect.isfunction(value) or isinstance(value, property)
            if is_member and name not in _OF_PROTOCOLS:
                found[name] = value
    return found | typing.get_type_hints(protocol, include_extras=True)


def check_members(label: str, plugin: object, protocol: type, *, optional: bool = False) -> None:
    """Compare an object with a Protocol.

    Parameters
    ----------
    label : str
        Name of the plugin in messages.
    plugin : object
        What was loaded or made.
    protocol : type
        Subclass of `typing.Protocol`.
    optional : bool
        Whether the object may have none of the members; if it has one it must have all.

    Raises
    ------
    PluginError
        Names plugin and member, and says what it must be. It lists everything that is wrong.
    """
    members = members_of(protocol)
    if optional and not any(hasattr(plugin, name) for name in members):
        return
    problems = [_find_fault(plugin, name, member) for name, member in members.items()]
    found = [problem for problem in problems if problem]
    if found:
        raise PluginError(
            f"{label} {'; it '.join(found)}",
            fix="docs/plugins.md has the interface and complete examples",
        )


def check_call(label: str, function: object, call: str, n_positional: int, *names: str) -> None:
    """Refuse what cannot be called with this number of positional arguments and these keywords.

    Parameters
    ----------
    label : str
        Name of the plugin in messages.
    function : object
        What shall be called.
    call : str
        How, for the message.
    n_positional : int
        Arguments by place.
    *names : str
        Arguments by name.

    Raises
    ------
    PluginError
        If it is not a function or class, or takes other arguments.
    """
    fault = _find_call_fault(function, n_positional, names)
    if fault:
        raise PluginError(
            f"{label} cannot be called as {call}: {fault}",
            fix="docs/plugins.md has the interface and complete examples",
        )


def accepts(function: Callable[..., object], name: str) -> bool:
    """Tell whether a function takes an argument by name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return True
    return name in parameters and parameters[name].kind is not inspect.Parameter.POSITIONAL_ONLY


@contextmanager
def plugin_errors(label: str) -> Iterator[None]:
    """Say which plugin raised; errors of dqm pass as they are.

    Parameters
    ----------
    label : str
        Name of the plugin, the subject of the sentence.

    Raises
    ------
    PluginError
        In place of any other exception, except a lack of memory.
    """
    try:
        yield
    except (DqmError, MemoryError):
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        said = f"{type(error).__name__}: {words}" if words else type(error).__name__
        raise PluginError(f"{label} raised {said}{_place(error)}") from error


def place_of(function: object) -> str:
    """Give file and first line of a function, in brackets after a space; empty if they are not known."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return f" ({Path(code.co_filename).name}, line {code.co_firstlineno})" if code else ""


def _place(error: Exception) -> str:
    """Give file and line, the deepest in the file that was called first."""
    frames = extract_tb(error.__traceback__)[2:]  # without `plugin_errors`, and without who called the plugin
    inside = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({Path(inside[-1].filename).name}, line {inside[-1].lineno})" if inside else ""


def _find_fault(plugin: object, name: str, member: object) -> str:
    """Say what is wrong with a member; empty if nothing is."""
    with plugin_errors(f"reading {name!r} of {type(plugin).__name__}"):
        is_there = hasattr(plugin, name)
    if not is_there:
        return f"has no {name!r}, which must be {_describe(name, member)}"
    value = getattr(plugin, name)
    if isinstance(member, property):
        return ""
    if inspect.isfunction(member):
        fault = _find_call_fault(value, *_required(member))
        must = _describe(name, member)
        return f"has a {name!r} that cannot be called as it must be ({fault}): {must}" if fault else ""
    if not _is_of(value, member):
        return f"has {value!r} as {name!r}, which must be {_describe(name, member)}"
    return ""


def _required(member: Callable[..., object]) -> tuple[int, list[str]]:
    """Count the arguments that are always given by place, and list those that are by name."""
    parameters = list(inspect.signature(member).parameters.values())[1:]
    needed = [one for one in parameters if one.default is one.empty]
    by_name = [one.name for one in needed if one.kind is one.KEYWORD_ONLY]
    return sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in needed), by_name


def _find_call_fault(function: object, n_positional: int, names: typing.Iterable[str]) -> str:
    if not callable(function):
        return f"it is {function!r}, no function"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function without a signature that Python knows
        return ""
    try:
        signature.bind(*[None] * n_positional, **dict.fromkeys(names))
    except TypeError as error:
        return str(error)
    return ""


def _describe(name: str, member: object) -> str:
    """Say what a member must be: its call and the first line of its docstring, or its type in words."""
    if isinstance(member, property):
        return _first_line(member.fget)
    if inspect.isfunction(member):
        n, names = _required(member)
        given = [*list(inspect.signature(member).parameters)[1 : n + 1], *(f"{one}=..." for one in names)]
        return f"a method {name}({', '.join(given)}): {_first_line(member)}"
    if get_origin(member) is Annotated:
        return str(get_args(member)[1])
    return getattr(member, "__name__", str(member))


def _first_line(function: object) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")


def _is_of(value: object, hint: Any) -> bool:
    """Tell whether a value is of a type, as far as this can be seen."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) is type:
        return isinstance(value, type) and issubclass(value, get_args(hint)[0])
    return isinstance(value, hint) if isinstance(hint, type) else True
