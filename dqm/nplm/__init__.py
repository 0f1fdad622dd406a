"""The New Physics Learning Machine (NPLM) with Gaussian kernels: numerics on arrays, without I/O."""

from dqm.nplm.kernel_test import KernelTest
from dqm.nplm.loss import LossName
from dqm.nplm.nuisance import Normalisation, Nuisance, Shape
from dqm.nplm.nuisance_fit import NuisanceFit
from dqm.nplm.rate import count_p_value, duration_p_value
from dqm.nplm.ratio import RatioMaps, divergence
from dqm.nplm.result import KernelResult, LogRatio
from dqm.nplm.template import Template, learn_template

__all__ = [
    "KernelResult",
    "KernelTest",
    "LogRatio",
    "LossName",
    "Normalisation",
    "Nuisance",
    "NuisanceFit",
    "RatioMaps",
    "Shape",
    "Template",
    "count_p_value",
    "divergence",
    "duration_p_value",
    "learn_template",
]
