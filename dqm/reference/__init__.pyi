from .advice import (
    DetectionTime,
    Faults,
    PenaltyAdvice,
    WindowAdvice,
    advise_penalties,
    advise_window,
    generic_faults,
    time_to_detect,
)
from .build import Recipe, create_bundle, drop_nan
from .bundle import Bundle, build_bundle, open_bundle
from .bundle_certification import Certification, certify
from .calibration import calibrate, origin_remark
from .certificate import (
    CERTIFICATE,
    Certificate,
    CertificateLine,
    CertificateStatus,
    Light,
    find_certificate,
    read_certificate,
    write_certificate,
)
from .channel_build import (
    CHANNEL,
    ChannelRecipe,
    ChannelTable,
    check_bad_channels,
    create_channel_bundle,
    known_channels,
)
from .cluster import ClusterSession, open_cluster
from .constraints import ReadingPolicy
from .evaluator import Evaluation, Evaluator
from .explanation import WindowExplanation
from .features import choose_kinds, constant_features, describe_features
from .later_runs import LaterRun
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
from .processes import Processes, Task, Workers, one_thread, use_threads
from .rate import RateTest
from .reference_curve import reference_curve
from .renewal import Renewal, compare_with_old, recipe_like
from .rolling_evaluator import RollingEvaluator
from .rule import ReferenceRule, describe_unreferenced
from .run_check import describe_pause, refuse_jump, refuse_run
from .sample_comparison import SampleComparison, compare_samples, refuse_common, refuse_pair
from .splits import OriginName, ToyOrigin, choose_reference_size, origin_of, uncertainty_of
from .statistic import prepare_statistic
from .stored_bundle import StoredBundle
from .templates import LabelledSample, learn_templates
from .toys import ToySource, Truth
from .tuning import Tuning, TuningPoint, look_at_settings
from .validation import Validation, ValidationPoint, validate
from .window_range import Midpoint, calibrate_range

__all__ = [
    "CERTIFICATE",
    "CHANNEL",
    "Bundle",
    "Certificate",
    "CertificateLine",
    "CertificateStatus",
    "Certification",
    "ChannelRecipe",
    "ChannelTable",
    "Check",
    "ClusterSession",
    "DetectionTime",
    "Evaluation",
    "Evaluator",
    "Faults",
    "LabelledSample",
    "LaterRun",
    "Light",
    "Manifest",
    "MapHistograms",
    "Midpoint",
    "NanRows",
    "NuisanceEntry",
    "NullTable",
    "NullTableEntry",
    "OriginName",
    "PValue",
    "PenaltyAdvice",
    "Processes",
    "RateTest",
    "ReadingPolicy",
    "Recipe",
    "ReferenceRule",
    "Renewal",
    "RollingEvaluator",
    "SampleComparison",
    "Source",
    "StoredBundle",
    "Task",
    "TemplateEntry",
    "ToyOrigin",
    "ToySource",
    "Transform",
    "Truth",
    "Tuning",
    "TuningPoint",
    "Validation",
    "ValidationPoint",
    "WindowAdvice",
    "WindowExplanation",
    "WindowKind",
    "WindowRange",
    "Workers",
    "add_normalisation",
    "advise_penalties",
    "advise_window",
    "build_bundle",
    "calibrate",
    "calibrate_range",
    "certify",
    "check_bad_channels",
    "check_names",
    "choose_kinds",
    "choose_reference_size",
    "compare_samples",
    "compare_with_old",
    "constant_features",
    "create_bundle",
    "create_channel_bundle",
    "describe_features",
    "describe_pause",
    "describe_unreferenced",
    "drop_nan",
    "empirical_p_value",
    "find_certificate",
    "generic_faults",
    "known_channels",
    "learn_shape",
    "learn_templates",
    "look_at_settings",
    "one_thread",
    "open_bundle",
    "open_cluster",
    "origin_of",
    "origin_remark",
    "pool_offset",
    "prepare_statistic",
    "read_certificate",
    "recipe_like",
    "reference_curve",
    "refuse_common",
    "refuse_jump",
    "refuse_pair",
    "refuse_run",
    "split_offset",
    "time_to_detect",
    "uncertainty_of",
    "use_threads",
    "validate",
    "write_certificate",
]
