"""Tables of the store; a change needs a new `SCHEMA_VERSION` and a migration."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "MIGRATIONS",
    "SCHEMA_VERSION",
    "SUMMARIES_SINCE",
    "alarm_changes",
    "alarm_states",
    "audit",
    "certification",
    "explanations",
    "metadata",
    "notices",
    "run_summaries",
    "runs",
    "schema_version",
    "verdicts",
]

SCHEMA_VERSION = 8

SUMMARIES_SINCE = 8
"""Version from which on runs have summaries."""

_EMPTY_OBJECT = "JSON NOT NULL DEFAULT '{}'"
_EMPTY_LIST = "JSON NOT NULL DEFAULT '[]'"

MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE verdicts ADD COLUMN tau DOUBLE PRECISION",
        "ALTER TABLE verdicts ADD COLUMN delta DOUBLE PRECISION",
        f"ALTER TABLE verdicts ADD COLUMN nuisances {_EMPTY_OBJECT}",
        f"ALTER TABLE verdicts ADD COLUMN remarks {_EMPTY_LIST}",
        f"ALTER TABLE verdicts ADD COLUMN warnings {_EMPTY_OBJECT}",
    ),
    2: (
        f"ALTER TABLE verdicts ADD COLUMN conditions {_EMPTY_OBJECT}",
        "CREATE INDEX verdicts_of_stream ON verdicts (stream, id)",
        "CREATE INDEX verdicts_of_run ON verdicts (run, id)",
        "CREATE INDEX verdicts_of_quality ON verdicts (stream, quality, id)",
    ),
    3: (
        "ALTER TABLE verdicts ADD COLUMN rate JSON",
        "ALTER TABLE verdicts ADD COLUMN nan JSON",
        "ALTER TABLE verdicts ADD COLUMN channels JSON",
        "ALTER TABLE verdicts ADD COLUMN digest VARCHAR(32) NOT NULL DEFAULT ''",
        "ALTER TABLE verdicts ADD COLUMN is_late BOOLEAN NOT NULL DEFAULT FALSE",
        "CREATE TABLE runs (stream VARCHAR(64) NOT NULL, run BIGINT NOT NULL, run_type VARCHAR(64) NOT NULL, "
        "position BIGINT NOT NULL, began_at DOUBLE PRECISION, ended_at DOUBLE PRECISION, why TEXT NOT NULL, "
        "noted_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (stream, run))",
        "CREATE INDEX runs_by_number ON runs (run)",
        "CREATE INDEX runs_by_time ON runs (noted_at)",
    ),
    4: ("ALTER TABLE runs ADD COLUMN resumed_at DOUBLE PRECISION",),
    5: ("ALTER TABLE verdicts ADD COLUMN rolling JSON",),
    6: (),
    7: (),
}
"""Statements that migrate a version to the next one; new tables are created in addition."""

metadata = MetaData()

schema_version = Table(
    "dqm_schema",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("stream", String(64), nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("run_type", String(64), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("start_time", Double, key="start"),
    Column("end_time", Double, key="end"),
    Column("n_lost", BigInteger, nullable=False),
    Column("n_data", BigInteger, nullable=False),
    Column("n_expected", Double, nullable=False),
    Column("t", Double),
    Column("p", Double),
    Column("p_low", Double),
    Column("p_high", Double),
    Column("p_method", String(16)),
    Column("z", Double),
    Column("result_reason", Text, nullable=False),
    Column("tau", Double),
    Column("delta", Double),
    Column("nuisances", JSON, nullable=False),
    Column("remarks", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("rate", JSON(none_as_null=True)),
    Column("channels", JSON(none_as_null=True)),
    Column("nan", JSON(none_as_null=True)),
    Column("rolling", JSON(none_as_null=True)),
    Column("conditions", JSON, nullable=False),
    Column("digest", String(32), nullable=False),
    Column("is_late", Boolean, nullable=False),
    Column("quality", String(8), nullable=False),
    Column("reason", Text, nullable=False),
    Column("bundle", String(128), nullable=False),
    Column("seconds", Double, nullable=False),
    Column("judged_at", Double, nullable=False),
    UniqueConstraint("stream", "run", "seq", name="verdict_identity"),
    Index("verdicts_by_time", "judged_at"),
    Index("verdicts_of_stream", "stream", "id"),
    Index("verdicts_of_run", "run", "id"),
    Index("verdicts_of_quality", "stream", "quality", "id"),
)

explanations = Table(
    "explanations",
    metadata,
    Column("stream", String(64), primary_key=True),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("content", JSON, nullable=False),
)

alarm_states = Table(
    "alarm_states",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("content", JSON, nullable=False),
)
"""State of the alarm logic, needed after a restart: one row for each stream, and one for the masks."""

alarm_changes = Table(
    "alarm_changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("time", Double, nullable=False),
    Column("stream", String(64), nullable=False),
    Column("cause", String(16), nullable=False),
    Column("before", String(16), nullable=False),
    Column("action", String(16), nullable=False),
    Column("user", String(64), nullable=False),
    Column("comment", Text, nullable=False),
    Column("alarm", JSON, nullable=False),
    Index("alarm_changes_by_time", "time"),
    Index("alarm_changes_of_stream", "stream", "id"),
)

notices = Table(
    "notices",
    metadata,
    Column("target", String(64), primary_key=True),
    Column("stream", String(64), primary_key=True),
    Column("cause", String(16), primary_key=True),
    Column("raised_at", Double, nullable=False),
    Column("is_open", Integer, nullable=False),
    Column("time", Double, nullable=False),
)
"""What each target was told of each alarm last; a row without stream says since when there is the target."""
runs = Table(
    "runs",
    metadata,
    Column("stream", String(64), primary_key=True),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("run_type", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("began_at", Double),
    Column("ended_at", Double),
    Column("why", Text, nullable=False),
    Column("noted_at", Double, nullable=False),
    Column("resumed_at", Double),
    Index("runs_by_number", "run"),
    Index("runs_by_time", "noted_at"),
)
"""Borders of runs: one row for each run of each stream."""

certification = Table(
    "certification",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("time", Double, nullable=False),
    Column("user", String(64), nullable=False),
    Column("action", String(16), nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("stream", String(64), nullable=False),
    Column("fault", String(64), nullable=False),
    Column("subject", BigInteger),
    Column("comment", Text, nullable=False),
    Column("content", JSON, nullable=False),
    Column("record", JSON(none_as_null=True)),
    Index("certification_of_run", "run", "id"),
    Index("certification_of_action", "action", "run", "id"),
)
"""What people said of runs, and which sign-offs a registry has taken; rows are added and never changed."""

run_summaries = Table(
    "run_summaries",
    metadata,
    Column("stream", String(64), primary_key=True),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("run_type", String(64), nullable=False),
    Column("first_at", Double, nullable=False),
    Column("n_windows", BigInteger, nullable=False),
    Column("n_judged", BigInteger, nullable=False),
    Column("n_bad", BigInteger, nullable=False),
    Column("pruned_seq", BigInteger),
    Column("written_as", BigInteger, nullable=False),
    Column("content", JSON, nullable=False),
    Index("run_summaries_of_stream", "stream", "first_at"),
    Index("run_summaries_by_run", "run", "stream", "n_judged", "n_bad"),
    Index("run_summaries_by_time", "first_at"),
)
"""Windows of each run of each stream as sums, see `dqm.alarm.RunStatistics`.

`pruned_seq` is the largest number of a window whose verdict was removed. `written_as` is another number after
each change. The index by run has all that the shares of Bad windows of many runs need.
"""

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("time", Double, nullable=False),
    Column("user", String(64), nullable=False),
    Column("action", String(32), nullable=False),
    Column("target", String(256), nullable=False),
    Column("comment", Text, nullable=False),
)
"""Actions of users, whether or not they changed an alarm."""
