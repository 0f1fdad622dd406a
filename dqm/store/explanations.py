"""Explanations as JSON values, for the store and for displays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dqm.events import Explanation, FloatArray, Likeness, RatioMap

__all__ = ["decode_explanation", "encode_explanation"]

_DIGITS = 6
_EXACT_POWER = 22
"""Largest power of ten that float64 holds exactly: a quotient by it is the number nearest to its decimals."""
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
    occupancy = [] if explanation.occupancy is None else [explanation.occupancy]
    every = [*explanation.maps, *explanation.pairs, *occupancy]
    rounded = iter(_round([array for each in every for array in _arrays_of(each)]))
    return {
        "maps": [_encode_map(each, rounded) for each in explanation.maps],
        "pairs": [_encode_map(each, rounded) for each in explanation.pairs],
        "ranking": [[feature, share] for feature, share in explanation.ranking],
        "likenesses": [{"fault": each.fault, "share": each.share} for each in explanation.likenesses],
        "text": explanation.text,
        "occupancy": _encode_map(occupancy[0], rounded) if occupancy else None,
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


def _arrays_of(ratio_map: RatioMap) -> list[FloatArray]:
    return [*ratio_map.edges, *(getattr(ratio_map, name) for name in _ARRAYS)]


def _encode_map(ratio_map: RatioMap, rounded: Iterator[FloatArray]) -> dict[str, Any]:
    """Encode a map, whose arrays are the next ones that were rounded."""
    return {
        "features": list(ratio_map.features),
        "edges": [next(rounded).tolist() for _ in ratio_map.edges],
        **{name: next(rounded).tolist() for name in _ARRAYS},
    }


def _decode_map(content: Mapping[str, Any]) -> RatioMap:
    return RatioMap(
        features=tuple(content["features"]),
        edges=tuple(np.array(edges, dtype=np.float64) for edges in content["edges"]),
        **{name: np.array(content[name], dtype=np.float64) for name in _ARRAYS},
    )


def _round(arrays: Sequence[FloatArray]) -> list[FloatArray]:
    """Drop insignificant digits to save space; of all arrays at once, since each is small."""
    if not arrays:
        return []
    values = np.concatenate([array.ravel() for array in arrays])
    size = np.abs(values)
    exponents = np.floor(np.log10(size, where=size > 0.0, out=np.zeros(values.shape)))
    shift = _DIGITS - 1.0 - exponents
    up, down = (10.0 ** np.clip(sign * shift, 0.0, _EXACT_POWER) for sign in (1.0, -1.0))
    rounded = np.rint(values * up / down) / up * down
    is_extreme = np.abs(shift) > _EXACT_POWER
    rounded[is_extreme] = [float(f"{value:.{_DIGITS}g}") for value in values[is_extreme]]
    parts = np.split(rounded, np.cumsum([array.size for array in arrays])[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
