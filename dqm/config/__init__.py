"""A TOML file, the environment and the command line, turned into one frozen model."""

from dqm.config.load import find_problems, load_collector, load_daemon, parse_value, validate
from dqm.config.models import (
    NAME_PATTERN,
    CollectorConfig,
    CollectorSection,
    DaemonConfig,
    DaemonSection,
    LimitsSection,
    QualitySection,
    StreamSection,
    WindowSection,
    split_http,
)

__all__ = [
    "NAME_PATTERN",
    "CollectorConfig",
    "CollectorSection",
    "DaemonConfig",
    "DaemonSection",
    "LimitsSection",
    "QualitySection",
    "StreamSection",
    "WindowSection",
    "find_problems",
    "load_collector",
    "load_daemon",
    "parse_value",
    "split_http",
    "validate",
]
