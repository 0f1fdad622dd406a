"""Explanations as JSON values, for the store and for displays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dqm.events import Explanation, FloatArray, Likeness, RatioMap

__all__ = ["decode_explanation", "encode_explanation"]

_DIGITS = 6
_ARRAYS = ("reference", "reference_error", "data", "fitted")


def encode_explanation(explanation: Explanation) -> dict[str, Any]:
    """Encode an explanation as JSON values.

    Parameters
    ----------
    explanation : Explanation
        All its numbers must be finite.

    Returns
    -------
    dict
        Dicts, lists, strings and numbers; numbers of arrays have 6 significant digits.
    """
    return {
        "maps": [_encode_map(each) for each in explanation.maps],
        "pairs": [_encode_map(each) for each in explanation.pairs],
        "ranking": [[feature, share] for feature, share in explanation.ranking],
        "likenesses": [{"fault": each.fault, "share": each.share} for each in explanation.likenesses],
        "text": explanation.text,
        "occupancy": None if explanation.occupancy is None else _encode_map(explanation.occupancy),
    }


def decode_explanation(content: Mapping[str, Any]) -> Explanation:
    """Decode the result of `encode_explanation`.

    Parameters
    ----------
    content : mapping
        Content from a trusted source, such as the store; it is not checked.

    Returns
    -------
    Explanation
        Equal to the original within 6 digits.
    """
    return Explanation(
        maps=tuple(_decode_map(each) for each in content["maps"]),
        pairs=tuple(_decode_map(each) for each in content["pairs"]),
        ranking=tuple((feature, share) for feature, share in content["ranking"]),
        likenesses=tuple(Likeness(**each) for each in content["likenesses"]),
        text=content["text"],
        occupancy=_decode_map(content["occupancy"]) if content.get("occupancy") else None,
    )


def _encode_map(ratio_map: RatioMap) -> dict[str, Any]:
    return {
        "features": list(ratio_map.features),
        "edges": [_encode_array(edges) for edges in ratio_map.edges],
        **{name: _encode_array(getattr(ratio_map, name)) for name in _ARRAYS},
    }


def _decode_map(content: Mapping[str, Any]) -> RatioMap:
    return RatioMap(
        features=tuple(content["features"]),
        edges=tuple(np.array(edges, dtype=np.float64) for edges in content["edges"]),
        **{name: np.array(content[name], dtype=np.float64) for name in _ARRAYS},
    )


def _encode_array(values: FloatArray) -> list[Any]:
    """Return nested lists; insignificant digits are dropped to save space."""
    rounded = [float(f"{value:.{_DIGITS}g}") for value in values.ravel()]
    nested: list[Any] = np.array(rounded).reshape(values.shape).tolist()
    return nested
