"""What the daemon shows: metrics, health, a page and a JSON API over HTTP; it decides nothing."""

from dqm.export.alarm_metrics import AlarmMetrics
from dqm.export.annotator import Annotator
from dqm.export.desk import AlarmDesk, AlarmHistory
from dqm.export.grafana import Grafana
from dqm.export.http import HttpServer, create_app
from dqm.export.metrics import Metrics
from dqm.export.situation import N_RECENT, Situation
from dqm.export.table import METRICS, SERIES_PER_NUISANCE, SERIES_PER_STREAM, Metric
from dqm.export.users import UserFile, add_user, remove_user
from dqm.export.web import Door, Site, describe_bundle

__all__ = [
    "METRICS",
    "N_RECENT",
    "SERIES_PER_NUISANCE",
    "SERIES_PER_STREAM",
    "AlarmDesk",
    "AlarmHistory",
    "AlarmMetrics",
    "Annotator",
    "Door",
    "Grafana",
    "HttpServer",
    "Metric",
    "Metrics",
    "Site",
    "Situation",
    "UserFile",
    "add_user",
    "create_app",
    "describe_bundle",
    "remove_user",
]
