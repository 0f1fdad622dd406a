"""The store: verdicts, explanations, borders of runs, and the states, history and audit of alarms."""

from dqm.store.alarm_store import AlarmStore
from dqm.store.certification_store import CertificationStore
from dqm.store.database import Database, sqlite_url
from dqm.store.explanations import decode_explanation, encode_explanation
from dqm.store.kept_choice import KeptChoice, Taken, list_kept
from dqm.store.labelled import is_labelled
from dqm.store.notice_store import NoticeStore
from dqm.store.number_ranges import ranges_of
from dqm.store.run_store import RunStore
from dqm.store.run_summary_store import BadShares, RunSummaryStore
from dqm.store.size import StoreSize, measure_store
from dqm.store.verdict_store import STORE_FILE, VerdictStore, store_url
from dqm.store.window_keeper import (
    GOOD_WINDOWS,
    WINDOWS,
    KeptWindow,
    WindowKeeper,
    list_kept_runs,
    read_kept,
    read_kept_window,
)

__all__ = [
    "GOOD_WINDOWS",
    "STORE_FILE",
    "WINDOWS",
    "AlarmStore",
    "BadShares",
    "CertificationStore",
    "Database",
    "KeptChoice",
    "KeptWindow",
    "NoticeStore",
    "RunStore",
    "RunSummaryStore",
    "StoreSize",
    "Taken",
    "VerdictStore",
    "WindowKeeper",
    "decode_explanation",
    "encode_explanation",
    "is_labelled",
    "list_kept",
    "list_kept_runs",
    "measure_store",
    "ranges_of",
    "read_kept",
    "read_kept_window",
    "sqlite_url",
    "store_url",
]
