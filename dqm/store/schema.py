"""Tables of the store; a change here is a new `SCHEMA_VERSION` and a migration."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
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

__all__ = ["SCHEMA_VERSION", "metadata", "schema_version", "verdicts"]

SCHEMA_VERSION = 2

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
    Column("quality", String(8), nullable=False),
    Column("reason", Text, nullable=False),
    Column("bundle", String(128), nullable=False),
    Column("seconds", Double, nullable=False),
    Column("judged_at", Double, nullable=False),
    UniqueConstraint("stream", "run", "seq", name="verdict_identity"),
    Index("verdicts_by_time", "judged_at"),
)
