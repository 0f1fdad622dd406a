"""Nothing but arithmetic gets through, and arithmetic gives what numpy gives."""

from __future__ import annotations

import ast
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqm.errors import ConfigError
from dqm_collectors.inputs.expression import FUNCTIONS, LONGEST, parse_expression

X = {
    "x": np.array([0.5, -1.0, 2.0, 3.0]),
    "y": np.array([1.0, 2.0, -3.0, 0.25]),
    "drift time [ns]": np.array([10.0, 20.0, 30.0, 40.0]),
}
CHECKED = re.compile(
    r"(?:c\d+|\(|\)|,|\*\*|[-+*/<>~&|]|<=|>=|==|!=|\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+|"
    + "|".join(FUNCTIONS)
    + ")*"
)
"""All that numexpr may get: columns by number, numbers, signs, brackets and the functions on the list."""

ATTACKS = [
    "__import__('os').system('true')",
    "x.__class__",
    "x.real",
    "().__class__.__base__.__subclasses__()",
    "(lambda: x)()",
    "[x for x in y]",
    "{x: y}",
    "{x}",
    "x[0]",
    "x if y else x",
    "x := y",
    "(x := 3)",
    "f'{x}'",
    "'x'",
    "b'x'",
    "x, y",
    "*x",
    "open('f')",
    "eval('x')",
    "sqrt.__globals__",
    "sqrt(x, out=y)",
    "sqrt(*x)",
    "sqrt(**x)",
    "sqrt",
    "getattr(x, 'y')",
    "globals()",
    "__builtins__",
    "_x",
    "x._y",
    "None",
    "True",
    "...",
    "1j * x",
    "x @ y",
    "x // y",
    "x % y",  # versions of numexpr differ in the sign of its result
    "x << 3",
    "x ^ y",
    "x is y",
    "x in y",
    "await x",
    "yield x",
    "x; y",
    "import os",
    "x\ny",
    "del x",
    "c0",  # a name that only numexpr gets: here it is a column that is not there
    "x / 0",
    "x / (y - y) / (2 - 2)",
    "`x",
    "x + (y > 0)",
    "x & y",
    "not x",
    "x and y",
    "where(x, 1, 2)",
    "1 + 2",
    "1 < 2 < x < 3 > (4 < 5)",
    "9**9**9 * x",
    "x * 10**400",
    "x + 1e999",
    "x / (1 - 1)",
    "0**-1 * x",
    "(-1)**0.5 * x",
    "sqrt(-1) * x",
    "log(0) * x",
    "",
    " ",
    "x" * (LONGEST + 1),
    "(" * 200 + "x" + ")" * 200 + "+" * 99,
    "-" * 300 + "x",
    "+".join("x" * 240),
    "+".join(f"a{k}" for k in range(40)),
    "\x00",
    "x\x00",
    "\ud800",
    "1_0__0 * x",
    "0x" + "f" * 480 + "*x",
    "9" * 480 + "*x",
]


@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: repr(text)[:40])
def test_what_is_no_arithmetic_is_refused_in_our_words(text: str) -> None:
    begin = time.process_time()
    with pytest.raises((ConfigError, KeyError)) as found:
        parse_expression(text, "derive.r").evaluate(X)
    if text not in ("c0", "sqrt"):  # columns that are not there
        assert isinstance(found.value, ConfigError)
        assert str(found.value).startswith("derive.r: ")
        assert str(found.value).isprintable()
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x + 2 * y", X["x"] + 2 * X["y"]),
        ("-x ** 2", -(X["x"] ** 2)),
        ("sqrt(x**2 + y**2)", np.hypot(X["x"], X["y"])),
        ("`drift time [ns]` * 1e-9", X["drift time [ns]"] * 1e-9),
        ("arctan2(y, x)", np.arctan2(X["y"], X["x"])),
        ("x / sqrt(2)", X["x"] / np.sqrt(2)),
        ("where(x > 0 and y > 0, x, -1)", np.where((X["x"] > 0) & (X["y"] > 0), X["x"], -1)),
        ("0 < x <= 2", ((X["x"] > 0) & (X["x"] <= 2)).astype(float)),
        ("not (x > 0) or y == 1", (~(X["x"] > 0) | (X["y"] == 1)).astype(float)),
        ("(x > 0) & ~(y > 0)", ((X["x"] > 0) & ~(X["y"] > 0)).astype(float)),
        ("x * 2**10", X["x"] * 1024),
        ("\uff58 * 2", X["x"] * 2),  # Python takes such letters for the usual ones
    ],
)
def test_arithmetic_gives_what_numpy_gives(text: str, wanted: np.ndarray) -> None:
    expression = parse_expression(text, "derive.r")
    np.testing.assert_allclose(expression.evaluate(X), wanted, rtol=1e-12)
    assert expression.is_condition == (wanted.max() <= 1 and set(wanted) <= {0.0, 1.0})


def test_what_is_not_defined_is_not_finite() -> None:
    assert not np.isfinite(parse_expression("log(x)", "e").evaluate({"x": np.array([-1.0, 0.0])})).any()
    assert np.isinf(parse_expression("1 / x", "e").evaluate({"x": np.array([0.0])})).all()
    assert np.isinf(parse_expression("x ** 1000000", "e").evaluate({"x": np.array([1e10])})).all()


NAMES = st.sampled_from(
    ["x", "y", "z", "os", "c0", "c1", "sqrt", "where", "_", "__class__", "lambda", "eval", "numpy"]
)
PIECES = st.one_of(
    NAMES,
    st.sampled_from(list("+-*/%()[]{}.,:;<>=!&|~^@`'\" \n\t\\#")),
    st.sampled_from(["**", "and", "or", "not", "if", "else", "for", "in", "1", "2.5", "9**9", "1e308", "__"]),
)


@settings(max_examples=1500, deadline=None)
@given(
    st.one_of(
        st.lists(PIECES, max_size=25).map("".join),
        st.lists(PIECES, max_size=25).map(" ".join),
        st.text(max_size=40),
    )
)
def test_whatever_gets_through_is_arithmetic(text: str) -> None:
    try:
        found = parse_expression(text, "derive.r")
    except ConfigError:
        return
    assert CHECKED.fullmatch(found._checked), found._checked
    tree = ast.parse(found._checked, mode="eval")
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert names <= {f"c{k}" for k in range(len(found.columns))} | set(FUNCTIONS)
    assert not [
        n for n in ast.walk(tree) if isinstance(n, ast.Attribute | ast.Subscript | ast.Lambda | ast.keyword)
    ]
    values = {name: np.array([0.5, -2.0, 7.0]) for name in found.columns}
    assert found.evaluate(values).shape == (3,)


NUMBERS = st.floats(min_value=0.01, max_value=100, allow_nan=False).map(lambda value: f"{value:.4g}")
TREES = st.recursive(
    st.one_of(st.just("x"), st.just("y"), NUMBERS),
    lambda part: st.one_of(
        st.tuples(part, st.sampled_from("+-*/"), part).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(["sin", "cos", "tanh", "abs", "arctan"]), part).map(
            lambda t: f"{t[0]}({t[1]})"
        ),
        part.map(lambda t: f"-{t}"),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_any_arithmetic_agrees_with_numpy(text: str) -> None:
    values = {"x": np.array([0.5, -2.0, 7.0]), "y": np.array([1.5, 0.25, -3.0])}
    names = {"sin": np.sin, "cos": np.cos, "tanh": np.tanh, "abs": np.abs, "arctan": np.arctan}
    try:
        found = parse_expression(text, "derive.r").evaluate(values)
    except ConfigError as error:
        assert "names no column" in str(error) or "no finite number" in str(error)  # noqa: PT017
        return
    with np.errstate(all="ignore"):
        wanted = eval(text, {"__builtins__": {}}, {**names, **values})  # noqa: S307 - made here, of a grammar
    np.testing.assert_allclose(found, np.broadcast_to(wanted, 3), rtol=1e-9, atol=1e-12)
