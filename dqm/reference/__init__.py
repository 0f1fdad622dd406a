"""What "good" is: reference bundles, their null tables, and judging windows by them."""

from dqm.reference.build import Recipe, build_bundle
from dqm.reference.bundle import Bundle, open_bundle
from dqm.reference.calibration import calibrate
from dqm.reference.cluster import open_cluster
from dqm.reference.judge import Examination, Judge
from dqm.reference.manifest import (
    Column,
    Manifest,
    NuisanceEntry,
    Source,
    TemplateEntry,
    Transform,
    WindowKind,
)
from dqm.reference.nuisances import Check, add_normalisation, learn_shape
from dqm.reference.null import NullTable, PValue, empirical_p_value, pool_offset
from dqm.reference.readings import ReadingPolicy
from dqm.reference.statistic import prepare_statistic
from dqm.reference.templates import LabelledSample, learn_templates
from dqm.reference.toys import ToySource, Truth
from dqm.reference.validation import Point, Validation, validate
from dqm.reference.workers import Processes, Task, Workers

__all__ = [
    "Bundle",
    "Check",
    "Column",
    "Examination",
    "Judge",
    "LabelledSample",
    "Manifest",
    "NuisanceEntry",
    "NullTable",
    "PValue",
    "Point",
    "Processes",
    "ReadingPolicy",
    "Recipe",
    "Source",
    "Task",
    "TemplateEntry",
    "ToySource",
    "Transform",
    "Truth",
    "Validation",
    "WindowKind",
    "Workers",
    "add_normalisation",
    "build_bundle",
    "calibrate",
    "empirical_p_value",
    "learn_shape",
    "learn_templates",
    "open_bundle",
    "open_cluster",
    "pool_offset",
    "prepare_statistic",
    "validate",
]
