"""A TOML file, the environment and the command line, turned into one frozen model."""

from dqm.config.alarm import AlarmSection, GroupSection
from dqm.config.load import find_problems, load_collector, load_daemon, parse_value, set_key, validate
from dqm.config.models import (
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
    split_http,
)
from dqm.config.plugins import find_plugin
from dqm.config.section import NAME_PATTERN

__all__ = [
    "NAME_PATTERN",
    "AlarmSection",
    "CalibrationSection",
    "CollectorConfig",
    "CollectorSection",
    "DaemonConfig",
    "DaemonSection",
    "GroupSection",
    "LimitsSection",
    "NuisancesSection",
    "QualitySection",
    "SlowControlSection",
    "StreamSection",
    "WindowSection",
    "find_plugin",
    "find_problems",
    "load_collector",
    "load_daemon",
    "parse_value",
    "set_key",
    "split_http",
    "validate",
]
