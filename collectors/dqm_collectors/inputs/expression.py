"""Arithmetic of columns, written by users. Everything else is refused.

numexpr computes, but it runs the text that it gets as Python. So it never gets the text of a user: the text
is parsed (`ast`, which runs nothing), each node of the tree must be on a list, and a new text is written
from the tree. In it columns are called ``c0``, ``c1``, ..., constants are finite floats that were computed
here, and functions come from `FUNCTIONS`.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dqm.errors import ConfigError, escape_text, format_count
from dqm.events import FloatArray

__all__ = ["FUNCTIONS", "Expression", "parse_expression"]

FUNCTIONS = {
    "abs": 1, "arccos": 1, "arcsin": 1, "arctan": 1, "arctan2": 2, "ceil": 1, "cos": 1, "cosh": 1, "exp": 1,
    "expm1": 1, "floor": 1, "log": 1, "log10": 1, "log1p": 1, "sin": 1, "sinh": 1, "sqrt": 1, "tan": 1,
    "tanh": 1, "where": 3,
}  # fmt: skip
"""Functions and how many arguments each takes."""

LONGEST = 500
"""Most characters."""

DEEPEST = 40
"""Most operations within each other."""

MOST_NODES = 300
"""Most operations, columns and numbers."""

MOST_COLUMNS = 30
"""Most different columns: numexpr takes no more."""

_ARITHMETIC: Mapping[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**",
}  # fmt: skip
_COMPARISONS: Mapping[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_LOGIC: Mapping[type[ast.AST], str] = {ast.BitAnd: "&", ast.BitOr: "|", ast.And: "&", ast.Or: "|"}
_COMPUTE: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "**": np.power,
}  # fmt: skip
_REFUSED = {
    "Attribute": "a dot", "BitXor": "^", "Call": "a call", "Constant": "a constant", "FloorDiv": "//",
    "IfExp": "if", "Lambda": "a lambda", "MatMult": "@", "Mod": "%", "Subscript": "square brackets",
}  # fmt: skip
_ALLOWED = (
    "Columns, numbers, + - * / **, comparisons, 'and', 'or', 'not' and the functions "
    f"{', '.join(sorted(FUNCTIONS))} are possible; write a name that is not a word between backticks, as in "
    f"`a [ns]`"
)


@dataclass(frozen=True, slots=True)
class Expression:
    """Checked arithmetic.

    Parameters
    ----------
    text : str
        As it was given.
    columns : tuple of str
        Columns that it needs.
    is_condition : bool
        Whether it gives yes or no for each row.
    """

    text: str
    columns: tuple[str, ...]
    is_condition: bool
    _checked: str = field(repr=False)

    def evaluate(self, values: Mapping[str, FloatArray]) -> FloatArray:
        """Compute it for all rows.

        Parameters
        ----------
        values : mapping of str to ndarray, shape (n,)
            Values of at least `columns`.

        Returns
        -------
        ndarray, shape (n,)
            Not finite where it is not defined, as the logarithm of a negative number; 1 and 0 of a condition.

        Raises
        ------
        ConfigError
            If numexpr is not installed, or cannot compute it.
        """
        try:
            import numexpr
        except ModuleNotFoundError as error:
            raise ConfigError(
                "the package numexpr is not installed",
                where=f"the expression {self.text!r}",
                fix="Install dqm with its extra 'expressions', in its source by pip install '.[expressions]'",
            ) from error
        known = {f"c{k}": values[name] for k, name in enumerate(self.columns)}
        try:
            found = numexpr.evaluate(self._checked, local_dict=known, global_dict={})
        except (ArithmeticError, TypeError, ValueError, RuntimeError, NotImplementedError) as error:
            raise ConfigError(
                f"numexpr cannot compute {_show(self.text)}: {error}", fix="Write it in another way"
            ) from error
        result: FloatArray = np.asarray(found, dtype=np.float64)
        return result


def parse_expression(text: str, where: str) -> Expression:
    """Check arithmetic that a user wrote.

    Parameters
    ----------
    text : str
        Such as ``sqrt(x**2 + y**2)`` or ``chi2 / n < 5 and n > 2``. A column whose name is not a word is
        written between backticks: ```hits.x` * 10``.
    where : str
        Key of the text, for messages.

    Returns
    -------
    Expression

    Raises
    ------
    ConfigError
        If it is not arithmetic of columns, or too long or too deep.
    """
    if len(text) > LONGEST:
        raise ConfigError(
            f"an expression of {len(text)} characters",
            where=where,
            fix=f"Use at most {LONGEST}; divide it into several",
        )
    plain, quoted = _unquote(text, where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python about odd but valid text
            tree = ast.parse(plain.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(
            f"{_show(text)} is not an expression: {reason}", where=where, fix=_ALLOWED
        ) from error
    writer = _Writer(text, where, quoted)
    part = writer.write(tree.body, 0)
    if not writer.columns:
        raise ConfigError(f"{_show(text)} names no column", where=where, fix="Use a column in it")
    return Expression(text, tuple(writer.columns), part.is_condition, part.text)


def _show(text: str) -> str:
    return repr(escape_text(text))


def _unquote(text: str, where: str) -> tuple[str, dict[str, str]]:
    """Replace names between backticks by words that no user can write, because they begin with ``_``."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        raise ConfigError(
            f"{_show(text)} has a backtick without a second one",
            where=where,
            fix="Add it behind the name, as in `a [ns]`",
        )
    quoted: dict[str, str] = {}
    for k in range(1, len(parts), 2):
        word = f"_{k}"
        quoted[word] = parts[k]
        parts[k] = f" {word} "
    return "".join(parts), quoted


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the new text; `value` is its number if it is constant."""

    text: str
    is_condition: bool = False
    value: float | None = None


class _Writer:
    """Checks each node of a tree and writes the text for numexpr."""

    def __init__(self, text: str, where: str, quoted: Mapping[str, str]) -> None:
        self._text = text
        self._where = where
        self._quoted = quoted
        self._n_nodes = 0
        self.columns: dict[str, str] = {}

    def write(self, node: ast.expr, depth: int) -> _Part:
        self._n_nodes += 1
        if depth > DEEPEST or self._n_nodes > MOST_NODES:
            raise ConfigError(
                f"{_show(self._text)} is too deep or too long",
                where=self._where,
                fix="Divide it into several",
            )
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self._constant(value)
            case ast.Name(id=name):
                return self._column(name)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                return self._sign(sign, self._number(operand, depth))
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return _Part(f"(~{self._condition(operand, depth).text})", is_condition=True)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self._binary(
                    _ARITHMETIC[type(op)], self._number(left, depth), self._number(right, depth)
                )
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _LOGIC:
                return self._joined(_LOGIC[type(op)], [left, right], depth)
            case ast.BoolOp(op=op, values=values):
                return self._joined(_LOGIC[type(op)], values, depth)
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._comparison([left, *others], ops, depth)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
                return self._call(name, args, depth)
        raise self._refusal(node)

    def _refusal(self, node: ast.expr, why: str = "") -> ConfigError:
        found = type(node.op if isinstance(node, ast.BinOp) else node).__name__
        what = _REFUSED.get(found, found)
        return ConfigError(
            f"{_show(self._text)} is more than arithmetic: {why or what}",
            where=self._where,
            fix=_ALLOWED,
        )

    def _number(self, node: ast.expr, depth: int) -> _Part:
        part = self.write(node, depth + 1)
        if part.is_condition:
            raise self._refusal(
                node, "it counts with yes and no; where(CONDITION, 1, 0) makes numbers of them"
            )
        return part

    def _condition(self, node: ast.expr, depth: int) -> _Part:
        part = self.write(node, depth + 1)
        if not part.is_condition:
            raise self._refusal(node, "a number stands where a comparison must, such as x > 0")
        return part

    def _constant(self, value: float) -> _Part:
        try:
            number = float(value)
        except OverflowError:
            number = np.inf
        if not np.isfinite(number):
            raise ConfigError(
                f"{_show(self._text)} has a number that is too large",
                where=self._where,
                fix="Use a smaller number",
            )
        return _Part(f"({number!r})", value=number)

    def _column(self, name: str) -> _Part:
        if name.startswith("_") and name not in self._quoted:
            raise ConfigError(
                f"{_show(self._text)} has the name {_show(name)}, which begins with _",
                where=self._where,
                fix=f"If this is a column, write `{escape_text(name)}` between backticks",
            )
        column = self._quoted.get(name, name)
        if column not in self.columns and len(self.columns) == MOST_COLUMNS:
            raise ConfigError(
                f"{_show(self._text)} has more than {MOST_COLUMNS} columns",
                where=self._where,
                fix="Divide it into several",
            )
        return _Part(self.columns.setdefault(column, f"c{len(self.columns)}"))

    def _sign(self, sign: ast.unaryop, part: _Part) -> _Part:
        if isinstance(sign, ast.UAdd):
            return part
        return self._constant(-part.value) if part.value is not None else _Part(f"(-{part.text})")

    def _binary(self, sign: str, left: _Part, right: _Part) -> _Part:
        if left.value is not None and right.value is not None:
            return self._folded(_COMPUTE[sign], left.value, right.value)
        if sign == "/" and right.value == 0:
            raise ConfigError(
                f"{_show(self._text)} divides by 0", where=self._where, fix="Divide by something else"
            )
        return _Part(f"({left.text}{sign}{right.text})")

    def _folded(self, function: Callable[..., Any], *values: float) -> _Part:
        """Compute a constant here: numexpr would do it with integers of any size."""
        with np.errstate(all="ignore"):
            found = float(function(*values))
        if not np.isfinite(found):
            raise ConfigError(
                f"{_show(self._text)} has a constant that is not a finite number",
                where=self._where,
                fix="Write the number itself",
            )
        return self._constant(found)

    def _joined(self, sign: str, nodes: list[ast.expr], depth: int) -> _Part:
        parts = [self._condition(node, depth).text for node in nodes]
        return _Part(f"({sign.join(parts)})", is_condition=True)

    def _comparison(self, nodes: list[ast.expr], ops: list[ast.cmpop], depth: int) -> _Part:
        if strange := [op for op in ops if type(op) not in _COMPARISONS]:
            raise self._refusal(nodes[0], type(strange[0]).__name__)
        parts = [self._number(node, depth) for node in nodes]
        pairs = zip(parts[:-1], ops, parts[1:], strict=True)
        written = [f"({left.text}{_COMPARISONS[type(op)]}{right.text})" for left, op, right in pairs]
        if all(part.value is not None for part in parts):
            raise ConfigError(
                f"{_show(self._text)} compares two constants",
                where=self._where,
                fix="Compare a column with something",
            )
        return _Part(f"({'&'.join(written)})", is_condition=True)

    def _call(self, name: str, nodes: list[ast.expr], depth: int) -> _Part:
        if len(nodes) != FUNCTIONS[name]:
            n = format_count(len(nodes), "argument")
            raise ConfigError(
                f"{_show(self._text)}: {name} has {n}, and takes {FUNCTIONS[name]}",
                where=self._where,
            )
        if name == "where":
            condition = self._condition(nodes[0], depth)
            yes, no = (self._number(node, depth) for node in nodes[1:])
            return _Part(f"where({condition.text},{yes.text},{no.text})")
        parts = [self._number(node, depth) for node in nodes]
        values = [part.value for part in parts if part.value is not None]
        if len(values) == len(parts):
            return self._folded(getattr(np, name), *values)
        return _Part(f"{name}({','.join(part.text for part in parts)})")
