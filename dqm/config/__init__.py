"""Configuration: a TOML file, the environment and the command line give one frozen, checked model."""

from dqm.config.collector import (
    CalibrationSection,
    ChannelsSection,
    CollectorConfig,
    CollectorSection,
    SlowControlSection,
    WindowSection,
)
from dqm.config.daemon import (
    AlarmSection,
    DaemonConfig,
    DaemonSection,
    DriftTestName,
    LimitsSection,
    NuisancesSection,
    QualitySection,
)
from dqm.config.files import check_writers, make_private_directory, make_private_file, replacing
from dqm.config.grafana import TOKEN_VARIABLE, GrafanaSection, check_url, read_token
from dqm.config.interface import accepts, check_call, check_members, plugin_errors
from dqm.config.load import (
    find_problems,
    load_collector,
    load_daemon,
    parse_value,
    read_toml,
    set_key,
    validate,
)
from dqm.config.notify import NotifyRuleSection, NotifySection, NotifyTargetSection, read_target_url
from dqm.config.plugins import PLUGIN_GROUPS, find_plugin, installed_plugins, label_of, origin_of_plugin
from dqm.config.streams import ConditionRule, GroupSection, ReferenceSection, StreamSection
from dqm.config.values import NAME_PATTERN, PATH_PATTERN, check_private, is_local, read_secret, split_http
from dqm.config.web import OidcSection, PeerSection, Role, WebSection

__all__ = [
    "NAME_PATTERN",
    "PATH_PATTERN",
    "PLUGIN_GROUPS",
    "TOKEN_VARIABLE",
    "AlarmSection",
    "CalibrationSection",
    "ChannelsSection",
    "CollectorConfig",
    "CollectorSection",
    "ConditionRule",
    "DaemonConfig",
    "DaemonSection",
    "DriftTestName",
    "GrafanaSection",
    "GroupSection",
    "LimitsSection",
    "NotifyRuleSection",
    "NotifySection",
    "NotifyTargetSection",
    "NuisancesSection",
    "OidcSection",
    "PeerSection",
    "QualitySection",
    "ReferenceSection",
    "Role",
    "SlowControlSection",
    "StreamSection",
    "WebSection",
    "WindowSection",
    "accepts",
    "check_call",
    "check_members",
    "check_private",
    "check_url",
    "check_writers",
    "find_plugin",
    "find_problems",
    "installed_plugins",
    "is_local",
    "label_of",
    "load_collector",
    "load_daemon",
    "make_private_directory",
    "make_private_file",
    "origin_of_plugin",
    "parse_value",
    "plugin_errors",
    "read_secret",
    "read_target_url",
    "read_token",
    "read_toml",
    "replacing",
    "set_key",
    "split_http",
    "validate",
]
