from .feature_kind import KINDS, FeatureKind
from .kernel_test import KernelTest
from .loss import LossName
from .nuisance import Normalisation, Nuisance, Shape
from .nuisance_fit import NuisanceFit
from .rate import count_p_value, duration_p_value
from .ratio import RatioMaps, divergence
from .result import KernelResult, LogRatio
from .rolling import RollingStatistics, RollingTest
from .setting import Setting
from .several import SeveralResult, SeveralTest
from .symmetrised import SymmetrisedResult, SymmetrisedTest
from .template import Template, learn_template
from .two_samples import PermutationP, TwoSampleTest, permutation_p

__all__ = [
    "KINDS",
    "FeatureKind",
    "KernelResult",
    "KernelTest",
    "LogRatio",
    "LossName",
    "Normalisation",
    "Nuisance",
    "NuisanceFit",
    "PermutationP",
    "RatioMaps",
    "RollingStatistics",
    "RollingTest",
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
    "learn_template",
    "permutation_p",
]
