"""What all tables of a configuration share: strictness, and the kinds of names and numbers in them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["NAME_PATTERN", "PATH_PATTERN", "GroupPath", "Name", "Probability", "Section"]

NAME_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
"""Names of streams, features, runs' types and conditions: they become metric labels and file names."""

PATH_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}){0,7}$"
"""Paths of groups: up to eight names with ``/`` between them."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
GroupPath = Annotated[str, StringConstraints(pattern=PATH_PATTERN)]
Probability = Annotated[float, Field(gt=0.0, lt=1.0)]


class Section(BaseModel):
    """A table of a configuration: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
