"""Transformations of features by plugins of the group ``dqm.transformations``."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from importlib.metadata import entry_points

import numpy as np

from dqm.errors import ConfigError, PluginError
from dqm.events import FloatArray
from dqm_collectors.inputs.options import TransformationChoice

__all__ = ["load_transformation"]

GROUP = "dqm.transformations"

Change = Callable[[MutableMapping[str, FloatArray]], None]


def load_transformation(choice: TransformationChoice) -> Change:
    """Load a transformation, as `dqm.nplm.transformations.scale`, for the features of a choice.

    Returns
    -------
    callable
        Changes the values of these features in a mapping of names to values.

    Raises
    ------
    ConfigError
        If it is not installed; the message lists those that are.
    PluginError
        From the callable, if the plugin gives something else.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    if choice.name not in points:
        raise ConfigError(
            f"unknown transformation {choice.name!r}",
            where="transform",
            fix=f"Installed: {', '.join(sorted(points)) or 'none'}",
        )
    label = f"the transformation {choice.name!r}"
    made = points[choice.name].load()(list(range(len(choice.features))))

    def change(values: MutableMapping[str, FloatArray]) -> None:
        x = np.column_stack([values[name] for name in choice.features])
        changed = np.asarray(made(x, choice.nu), dtype=np.float64)
        if changed.shape != x.shape:
            raise PluginError(f"{label} gave events of shape {changed.shape} for {x.shape}")
        values.update(zip(choice.features, changed.T.copy(), strict=True))

    return change
