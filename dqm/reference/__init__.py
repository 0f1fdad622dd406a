"""What "good" is: reference bundles, their null tables, and evaluating windows by them."""

from dqm.reference.build import Recipe, create_bundle
from dqm.reference.bundle import Bundle, build_bundle, open_bundle
from dqm.reference.calibration import calibrate, pool_remark
from dqm.reference.cluster import open_cluster
from dqm.reference.constraints import ReadingPolicy
from dqm.reference.evaluator import Evaluation, Evaluator
from dqm.reference.explanation import WindowExplanation
from dqm.reference.manifest import (
    Manifest,
    NuisanceEntry,
    NullTableEntry,
    Source,
    TemplateEntry,
    Transform,
    WindowKind,
    WindowRange,
    check_names,
)
from dqm.reference.nuisances import Check, add_normalisation, learn_shape
from dqm.reference.null import NullTable, PValue, empirical_p_value, pool_offset
from dqm.reference.plots import MapHistograms
from dqm.reference.processes import Processes, Task, Workers
from dqm.reference.rate import RateTest
from dqm.reference.statistic import prepare_statistic
from dqm.reference.stored_bundle import StoredBundle
from dqm.reference.templates import LabelledSample, learn_templates
from dqm.reference.toys import ToySource, Truth
from dqm.reference.validation import Validation, ValidationPoint, validate
from dqm.reference.window_range import Midpoint, calibrate_range

__all__ = [
    "Bundle",
    "Check",
    "Evaluation",
    "Evaluator",
    "LabelledSample",
    "Manifest",
    "MapHistograms",
    "Midpoint",
    "NuisanceEntry",
    "NullTable",
    "NullTableEntry",
    "PValue",
    "Processes",
    "RateTest",
    "ReadingPolicy",
    "Recipe",
    "Source",
    "StoredBundle",
    "Task",
    "TemplateEntry",
    "ToySource",
    "Transform",
    "Truth",
    "Validation",
    "ValidationPoint",
    "WindowExplanation",
    "WindowKind",
    "WindowRange",
    "Workers",
    "add_normalisation",
    "build_bundle",
    "calibrate",
    "calibrate_range",
    "check_names",
    "create_bundle",
    "empirical_p_value",
    "learn_shape",
    "learn_templates",
    "open_bundle",
    "open_cluster",
    "pool_offset",
    "pool_remark",
    "prepare_statistic",
    "validate",
]
