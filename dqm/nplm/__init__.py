"""The New Physics Learning Machine with kernels: pure numerics, arrays in and numbers out."""

from dqm.nplm.hypothesis import HypothesisFit
from dqm.nplm.loss import LossName
from dqm.nplm.nuisance import Normalisation, Nuisance, Shape
from dqm.nplm.ratio import RatioMaps, divergence
from dqm.nplm.result import KernelResult, LogRatio
from dqm.nplm.template import Template, learn_template
from dqm.nplm.test import KernelTest

__all__ = [
    "HypothesisFit",
    "KernelResult",
    "KernelTest",
    "LogRatio",
    "LossName",
    "Normalisation",
    "Nuisance",
    "RatioMaps",
    "Shape",
    "Template",
    "divergence",
    "learn_template",
]
