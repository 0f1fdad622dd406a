"""A TOML file, the environment and the command line, turned into one frozen model."""

from dqm.config.load import find_problems, load_collector, load_daemon, parse_value, set_key, validate
from dqm.config.models import (
    CREDENTIALS,
    NAME_PATTERN,
    CalibrationSection,
    CollectorConfig,
    CollectorSection,
    DaemonConfig,
    DaemonSection,
    LimitsSection,
    NuisancesSection,
    QualitySection,
    SlowControlSection,
    StreamSection,
    WindowSection,
    is_local,
    split_http,
)
from dqm.config.plugins import find_plugin

__all__ = [
    "CREDENTIALS",
    "NAME_PATTERN",
    "CalibrationSection",
    "CollectorConfig",
    "CollectorSection",
    "DaemonConfig",
    "DaemonSection",
    "LimitsSection",
    "NuisancesSection",
    "QualitySection",
    "SlowControlSection",
    "StreamSection",
    "WindowSection",
    "find_plugin",
    "find_problems",
    "is_local",
    "load_collector",
    "load_daemon",
    "parse_value",
    "set_key",
    "split_http",
    "validate",
]
