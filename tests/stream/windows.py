"""Windows of every kind the format allows, for the tests of this room."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dqm.events import Measurement, Origin, Window, WindowCut

NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**63 - 1)
TIMES = st.floats(0.0, 1e11)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=256)
READINGS = st.builds(Measurement, name=NAMES, value=NUMBERS, sigma=st.floats(1e-300, 1e300), time=TIMES)


def window_of(x: np.ndarray | None = None, **fields: object) -> Window:
    """Give a plain window cut by count, with some fields changed."""
    x = np.arange(6.0).reshape(3, 2) if x is None else x
    plain: dict[str, object] = {
        "stream": "chamber-1",
        "run": 591,
        "seq": 0,
        "run_type": "cosmics",
        "origin": Origin.LIVE,
        "cut": WindowCut.COUNT,
        "names": tuple(f"t_{i}" for i in range(x.shape[1])),
        "x": x,
    }
    return Window(**(plain | fields))  # type: ignore[arg-type]


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Any window that can be sent."""
    names = tuple(draw(st.lists(NAMES, min_size=1, max_size=6, unique=True)))
    shape = (draw(st.integers(0, 20)), len(names))
    cut = draw(st.sampled_from(WindowCut))
    start, end = sorted((draw(TIMES), draw(TIMES)))
    has_clock = cut is WindowCut.TIME or draw(st.booleans())
    live_seconds = draw(st.floats(0.0, end - start))
    expected = st.floats(0.0, 1e12, exclude_min=live_seconds > 0.0)
    return window_of(
        draw(arrays.arrays(np.float64, shape, elements=NUMBERS)),
        stream=draw(NAMES),
        run=draw(COUNTS),
        seq=draw(COUNTS),
        run_type=draw(NAMES),
        origin=draw(st.sampled_from(Origin)),
        cut=cut,
        names=names,
        start=start if has_clock else None,
        end=end if has_clock else None,
        live_seconds=live_seconds if has_clock else None,
        n_expected=draw(expected) if cut is WindowCut.TIME else None,
        n_lost=draw(COUNTS),
        auxiliary=tuple(draw(st.lists(READINGS, max_size=3, unique_by=lambda reading: reading.name))),
        conditions=draw(st.dictionaries(NAMES, TEXTS | NUMBERS, max_size=3)),
    )
