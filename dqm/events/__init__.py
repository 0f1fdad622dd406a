"""Values that are passed between the packages: frozen, without behaviour.

Samples are ``x`` of shape ``(n_events, n_features)`` in float64 and raw units (ns, degrees). Times are Unix
seconds. Arrays in these values are shared, not copied; they must not be changed.
"""

from dqm.events.channel_summary import MAX_NAMED_CHANNELS, ChannelDeparture, ChannelSummary
from dqm.events.contents import FileColumn, FileTable
from dqm.events.evaluation import EvaluationJob, EvaluationReport, RollingJob
from dqm.events.explanation import Explanation, Likeness, RatioMap, ReferenceCurve
from dqm.events.result import (
    NO_MAPS,
    SMALLEST_P,
    NanResult,
    NuisanceResult,
    PMethod,
    Profiled,
    RateResult,
    RollingResult,
    TestResult,
    write_p,
)
from dqm.events.run import RunEvent, RunNotice, RunRecord
from dqm.events.verdict import Quality, Verdict, WindowHeader
from dqm.events.window import (
    SMALLEST_WINDOW,
    Condition,
    EventBatch,
    FloatArray,
    Measurement,
    Origin,
    Reading,
    Window,
    WindowCut,
)

__all__ = [
    "MAX_NAMED_CHANNELS",
    "NO_MAPS",
    "SMALLEST_P",
    "SMALLEST_WINDOW",
    "ChannelDeparture",
    "ChannelSummary",
    "Condition",
    "EvaluationJob",
    "EvaluationReport",
    "EventBatch",
    "Explanation",
    "FileColumn",
    "FileTable",
    "FloatArray",
    "Likeness",
    "Measurement",
    "NanResult",
    "NuisanceResult",
    "Origin",
    "PMethod",
    "Profiled",
    "Quality",
    "RateResult",
    "RatioMap",
    "Reading",
    "ReferenceCurve",
    "RollingJob",
    "RollingResult",
    "RunEvent",
    "RunNotice",
    "RunRecord",
    "TestResult",
    "Verdict",
    "Window",
    "WindowCut",
    "WindowHeader",
    "write_p",
]
