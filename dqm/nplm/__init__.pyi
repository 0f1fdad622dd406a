from .feature_kind import KINDS, FeatureKind
from .hunt import SHARES, Hunt, HuntCounts, Selected
from .hunt_p import HuntP, hunt_p
from .kernel_test import KernelTest
from .loss import LossName
from .nuisance import Normalisation, Nuisance, Shape
from .nuisance_fit import NuisanceFit
from .proportions import ProportionClassifier, learn_proportions
from .rate import count_p_value, duration_p_value
from .ratio import RatioMaps, divergence
from .result import KernelResult, LogRatio
from .rolling_test import RollingStatistics, RollingTest
from .setting import Setting
from .several import SeveralTest
from .several_result import SeveralResult
from .symmetrised import SymmetrisedResult, SymmetrisedTest
from .template import Template, learn_template
from .two_sample_test import PermutationP, TwoSampleTest, permutation_p

__all__ = [
    "KINDS",
    "SHARES",
    "FeatureKind",
    "Hunt",
    "HuntCounts",
    "HuntP",
    "KernelResult",
    "KernelTest",
    "LogRatio",
    "LossName",
    "Normalisation",
    "Nuisance",
    "NuisanceFit",
    "PermutationP",
    "ProportionClassifier",
    "RatioMaps",
    "RollingStatistics",
    "RollingTest",
    "Selected",
    "Setting",
    "SeveralResult",
    "SeveralTest",
    "Shape",
    "SymmetrisedResult",
    "SymmetrisedTest",
    "Template",
    "TwoSampleTest",
    "count_p_value",
    "divergence",
    "duration_p_value",
    "hunt_p",
    "learn_proportions",
    "learn_template",
    "permutation_p",
]
