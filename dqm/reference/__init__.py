"""What "good" is: reference bundles, their null tables, and judging windows by them."""

from dqm.reference.build import Recipe, build_bundle
from dqm.reference.bundle import Bundle, Column, Manifest, Source, open_bundle
from dqm.reference.judge import Judge
from dqm.reference.null import NullTable, PValue, empirical_p_value, pool_offset
from dqm.reference.toys import calibrate, prepare_statistic, throw_toy

__all__ = [
    "Bundle",
    "Column",
    "Judge",
    "Manifest",
    "NullTable",
    "PValue",
    "Recipe",
    "Source",
    "build_bundle",
    "calibrate",
    "empirical_p_value",
    "open_bundle",
    "pool_offset",
    "prepare_statistic",
    "throw_toy",
]
