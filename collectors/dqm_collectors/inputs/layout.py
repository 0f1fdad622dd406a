"""Files of one source must have the same columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dqm_collectors.inputs.faults import LayoutError
from dqm_collectors.inputs.names import list_names

__all__ = ["LayoutCheck"]


class LayoutCheck:
    """Compares each file with the first one: a directory may have files of two detectors."""

    def __init__(self) -> None:
        self._first: tuple[Path, Mapping[str, str]] | None = None

    def check(self, path: Path, layout: Mapping[str, str]) -> None:
        """Refuse columns that are not those of the first file.

        Parameters
        ----------
        path : Path
            A file.
        layout : mapping of str to str
            Its columns with their types, `FeatureReader.layout`.

        Raises
        ------
        LayoutError
            Names both files, and the columns that differ.
        """
        if self._first is None:
            self._first = path, layout
            return
        first, wanted = self._first
        differences = [
            f"it lacks {list_names([n for n in wanted if n not in layout])}"
            if wanted.keys() - layout.keys()
            else "",
            f"it also has {list_names([n for n in layout if n not in wanted])}"
            if layout.keys() - wanted.keys()
            else "",
            *(
                f"{name!r} is {layout[name]} and was {kind}"
                for name, kind in wanted.items()
                if layout.get(name, kind) != kind
            ),
        ]
        told = "; ".join(filter(None, differences))
        if told:
            raise LayoutError(
                f"its columns are not those of {first}: {told}",
                where=str(path),
                fix="Give files of one detector, by a pattern or by name_pattern; or name the features, if "
                "these are alike",
            )
