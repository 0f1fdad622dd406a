"""Verdicts made and altered field by field, whichever of their parts has the field."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from dqm.events import Verdict, WindowHeader

HEADER = {field.name for field in fields(WindowHeader)}


def make_verdict(**values: Any) -> Verdict:
    """Make a verdict; fields of its window stand beside the others."""
    header = {name: value for name, value in values.items() if name in HEADER}
    return Verdict(WindowHeader(**header), **{k: v for k, v in values.items() if k not in HEADER})


def alter(verdict: Verdict, **values: Any) -> Verdict:
    """Change fields of a verdict or of its window."""
    header = {name: value for name, value in values.items() if name in HEADER}
    rest = {name: value for name, value in values.items() if name not in HEADER}
    return replace(verdict, window=replace(verdict.window, **header), **rest)
