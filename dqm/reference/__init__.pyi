from .build import Recipe, create_bundle, drop_nan
from .bundle import Bundle, build_bundle, open_bundle
from .calibration import calibrate, origin_remark
from .channel_build import (
    CHANNEL,
    ChannelRecipe,
    ChannelTable,
    check_bad_channels,
    create_channel_bundle,
)
from .cluster import ClusterSession, open_cluster
from .constraints import ReadingPolicy
from .evaluator import Evaluation, Evaluator
from .explanation import WindowExplanation
from .features import describe_features
from .manifest import (
    Manifest,
    NanRows,
    NuisanceEntry,
    NullTableEntry,
    Source,
    TemplateEntry,
    Transform,
    WindowKind,
    WindowRange,
    check_names,
)
from .nuisances import Check, add_normalisation, learn_shape
from .null import NullTable, PValue, empirical_p_value, pool_offset, split_offset
from .plots import MapHistograms
from .processes import Processes, Task, Workers
from .rate import RateTest
from .rule import ReferenceRule, describe_unreferenced
from .splits import OriginName, ToyOrigin, choose_reference_size, origin_of, uncertainty_of
from .statistic import prepare_statistic
from .stored_bundle import StoredBundle
from .templates import LabelledSample, learn_templates
from .toys import ToySource, Truth
from .validation import Validation, ValidationPoint, validate
from .window_range import Midpoint, calibrate_range

__all__ = [
    "CHANNEL",
    "Bundle",
    "ChannelRecipe",
    "ChannelTable",
    "Check",
    "ClusterSession",
    "Evaluation",
    "Evaluator",
    "LabelledSample",
    "Manifest",
    "MapHistograms",
    "Midpoint",
    "NanRows",
    "NuisanceEntry",
    "NullTable",
    "NullTableEntry",
    "OriginName",
    "PValue",
    "Processes",
    "RateTest",
    "ReadingPolicy",
    "Recipe",
    "ReferenceRule",
    "Source",
    "StoredBundle",
    "Task",
    "TemplateEntry",
    "ToyOrigin",
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
    "check_bad_channels",
    "check_names",
    "choose_reference_size",
    "create_bundle",
    "create_channel_bundle",
    "describe_features",
    "describe_unreferenced",
    "drop_nan",
    "empirical_p_value",
    "learn_shape",
    "learn_templates",
    "open_bundle",
    "open_cluster",
    "origin_of",
    "origin_remark",
    "pool_offset",
    "prepare_statistic",
    "split_offset",
    "uncertainty_of",
    "validate",
]
