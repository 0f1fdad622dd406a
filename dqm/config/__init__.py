"""A TOML file, the environment and the command line, turned into one frozen model."""

from dqm.config.addresses import is_local, split_http
from dqm.config.alarm import AlarmSection, GroupSection
from dqm.config.grafana import TOKEN_VARIABLE, GrafanaSection, check_url, read_token
from dqm.config.load import (
    find_problems,
    load_collector,
    load_daemon,
    parse_value,
    read_toml,
    set_key,
    validate,
)
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
)
from dqm.config.paths import check_private
from dqm.config.plugins import find_plugin
from dqm.config.section import NAME_PATTERN
from dqm.config.web import WebSection

__all__ = [
    "NAME_PATTERN",
    "TOKEN_VARIABLE",
    "AlarmSection",
    "CalibrationSection",
    "CollectorConfig",
    "CollectorSection",
    "DaemonConfig",
    "DaemonSection",
    "GrafanaSection",
    "GroupSection",
    "LimitsSection",
    "NuisancesSection",
    "QualitySection",
    "SlowControlSection",
    "StreamSection",
    "WebSection",
    "WindowSection",
    "check_private",
    "check_url",
    "find_plugin",
    "find_problems",
    "is_local",
    "load_collector",
    "load_daemon",
    "parse_value",
    "read_token",
    "read_toml",
    "set_key",
    "split_http",
    "validate",
]
