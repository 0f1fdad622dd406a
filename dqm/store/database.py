"""The database of the store: connections, transactions, schema, migrations, and errors with remedies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from threading import local
from typing import Any, Protocol

from sqlalchemy import (
    JSON,
    URL,
    Connection,
    Engine,
    Table,
    Update,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from dqm.config import check_writers, make_private_file
from dqm.errors import InputError, StoreError
from dqm.events.finite import dump_json
from dqm.store.schema import MIGRATIONS, SCHEMA_VERSION, SUMMARIES_SINCE, metadata, schema_version
from dqm.store.summary_filling import fill_summaries

__all__ = ["Database", "Insert", "Prepared", "find_remedy", "sqlite_url"]

Insert = sqlite.Insert | postgresql.Insert
"""Insert statement that can ignore or update a row that already exists."""


class Prepared(Protocol):
    """A statement that was compiled once."""

    def __call__(self, connection: Connection, *rows: Mapping[str, object]) -> int:
        """Execute it for each row of values by name; give the number of changed rows."""


_BUSY_MS = 10_000
_INSERTS: dict[str, Callable[[Table], Insert]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_LARGEST_LOG_BYTES = 2**24
_PRAGMAS = (
    "journal_mode=WAL",
    f"journal_size_limit={_LARGEST_LOG_BYTES}",  # applies after a long reader, which makes the log grow
    "synchronous=FULL",
    f"busy_timeout={_BUSY_MS}",
    "foreign_keys=ON",
)
_SPARE_SHARE = 0.25
"""Share of free pages that a file keeps: pages that `prune` frees are mostly used again."""
_REMEDIES = {
    "not a database": "Move the file away; the daemon then starts a new one",
    "malformed": "The file is damaged: stop the daemon, then move the file away or restore it from a backup",
    "readonly": "Make the file and its directory writable for the daemon's user",
    "read-only": "Make the file and its directory writable for the daemon's user",
    "unable to open": "Check that the directory exists and is writable for the daemon's user",
    "is full": "Free space on the disk",
    "i/o error": "The disk fails or became read-only, or it is full: see the log of the kernel",
    "locked": "Another program holds the file; close it",
}


def find_remedy(words: str) -> str | None:
    """Find what to do about an error of the database by its words; None if nothing is known."""
    return next((fix for sign, fix in _REMEDIES.items() if sign in words.lower()), None)


def sqlite_url(path: Path) -> str:
    """URL of a SQLite file, for `Database` and `VerdictStore`.

    Parameters
    ----------
    path : Path
        File; it need not exist.

    Returns
    -------
    str
        SQLAlchemy URL.
    """
    return URL.create("sqlite", database=str(path)).render_as_string()


class Database:
    """Connections to a store with the present tables.

    Methods may be called from several threads.

    Parameters
    ----------
    url : str
        SQLAlchemy URL, see `sqlite_url`.
    create : bool
        Whether to create missing tables and to migrate those of earlier versions; if False, both are errors.

    Raises
    ------
    ConfigError
        If others may write to the file.
    StoreError
        Here and in every method, if the store cannot be read or written; it names the store and the remedy.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        try:
            address = make_url(url)
            self._engine: Engine = create_engine(
                address,
                connect_args=_connect_args(address, create=create),
                json_serializer=dump_json,  # PostgreSQL takes no NaN
            )
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise StoreError(
                f"not the address of a store: {error}", fix="Use sqlite:///PATH or postgresql+psycopg://..."
            ) from error
        self._where = address.database or address.render_as_string(hide_password=True)
        self._inode: int | None = None
        self._driver_error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        self.insert = _INSERTS.get(self._engine.dialect.name, sqlite.insert)
        self._open = local()
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        try:
            self._check_schema(create=create)
        except StoreError:
            self.close()
            raise
        if self._engine.dialect.name == "sqlite":
            self._inode = self._find_inode()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run statements in a transaction; after its end they survive a crash of the machine.

        Transactions of one thread may be nested; the outermost one commits.

        Yields
        ------
        Connection
            Connection for the statements.
        """
        outer: Connection | None = getattr(self._open, "connection", None)
        if outer is not None:
            yield outer
            return
        with self._translate(), self._engine.begin() as connection:
            self._open.connection = connection
            try:
                yield connection
            finally:
                self._open.connection = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection for reading; within a transaction of this thread it sees its changes.

        Yields
        ------
        Connection
            Connection for the queries.
        """
        outer: Connection | None = getattr(self._open, "connection", None)
        if outer is not None:
            yield outer
            return
        with self._translate(), self._engine.connect() as connection:
            yield connection

    def prepare(self, statement: Insert | Update, columns: Collection[str] | None = None) -> Prepared:
        """Compile a statement once, for the driver itself; executing it then takes a fifth of the time.

        Parameters
        ----------
        statement : Insert or Update
            Its parameters are taken by the driver as they are, or are JSON values; None is NULL.
        columns : collection of str, optional
            Columns that an insert is given; the others have their defaults. All by default.

        Returns
        -------
        Prepared
            The statement.
        """
        compiled = statement.compile(
            dialect=self._engine.dialect, column_keys=None if columns is None else list(columns)
        )
        order = compiled.positiontup
        text_of_it = str(compiled)
        of_json = [name for name, bound in compiled.binds.items() if isinstance(bound.type, JSON)]

        def encode(row: Mapping[str, object]) -> Any:
            values = dict(row)
            for name in of_json:
                if values[name] is not None:
                    values[name] = dump_json(values[name])
            return values if order is None else tuple(values[name] for name in order)

        def execute(connection: Connection, *rows: Mapping[str, object]) -> int:
            with closing(connection.connection.cursor()) as cursor:  # SQLAlchemy's own takes far longer
                if len(rows) == 1:
                    cursor.execute(text_of_it, encode(rows[0]))
                else:
                    cursor.executemany(text_of_it, [encode(row) for row in rows])
                return cursor.rowcount

        return execute

    def shrink(self, max_pages: int) -> int:
        """Return free pages of a SQLite file to the disk; PostgreSQL does this by itself.

        Parameters
        ----------
        max_pages : int
            Most pages to return in one call, so that other programs do not wait long.

        Returns
        -------
        int
            Pages returned; 0 also for a file of an earlier version that was never compacted.
        """
        if self._engine.dialect.name != "sqlite":
            return 0
        with self.transaction() as connection:
            n_pages, n_free = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count")
            )
            for _ in range(min(max_pages, n_free - int(_SPARE_SHARE * n_pages))):
                connection.exec_driver_sql(
                    "PRAGMA incremental_vacuum(1)"
                )  # with a larger number, sqlite3 frees one page only
            return n_pages - int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())

    @contextmanager
    def rereading(self) -> Iterator[Connection | None]:
        """Open a new connection, which reads the present contents of the disk.

        An open SQLite connection uses pages in memory, and continues to work on a file that was removed.

        Yields
        ------
        Connection or None
            Connection for the queries; None for a database server, which needs no such check.
        """
        if self._inode is None:
            yield None
            return
        if self._find_inode() != self._inode:
            raise StoreError(
                "was removed or replaced while it was in use",
                where=self._where,
                fix="Restore the file, or restart the daemon with the present file",
            )
        fresh = create_engine(self._engine.url, poolclass=NullPool)
        with self._translate(), fresh.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _find_inode(self) -> int | None:
        try:
            return Path(self._where).stat().st_ino
        except OSError:  # a database in memory, or a removed file
            return None

    def _check_schema(self, *, create: bool) -> None:
        """Create missing tables, migrate tables of earlier versions, and refuse other databases."""
        with self.transaction() as connection:
            tables = set(inspect(connection).get_table_names())
            if not tables & set(metadata.tables):
                if not create:
                    raise StoreError(
                        "has no verdicts",
                        where=self._where,
                        fix="Check the path, or start the daemon first",
                    )
                metadata.create_all(connection)
                row = {"id": 1, "version": SCHEMA_VERSION}
                connection.execute(self.insert(schema_version).values(row).on_conflict_do_nothing())
            version = connection.execute(select(schema_version.c.version)).scalar()
            if create and version in MIGRATIONS:
                self._migrate(connection, version)
                version = SCHEMA_VERSION
        if version == SCHEMA_VERSION:
            return
        fix = "Use the version of dqm that wrote it, or a new file"
        if version in MIGRATIONS:
            fix = "Start the daemon of this version once: it migrates the store"
        raise StoreError(
            f"schema version {version}, but this program supports version {SCHEMA_VERSION}",
            where=self._where,
            fix=fix,
        )

    def _migrate(self, connection: Connection, version: int) -> None:
        """Apply the migrations of all versions since `version`."""
        for step in range(version, SCHEMA_VERSION):
            for statement in MIGRATIONS[step]:
                connection.execute(text(statement))
        metadata.create_all(connection)
        if version < SUMMARIES_SINCE:
            fill_summaries(connection)
        connection.execute(schema_version.update().values(version=SCHEMA_VERSION))

    @contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, self._driver_error) as error:
            words = str(getattr(error, "orig", None) or error)
            raise StoreError(words, where=self._where, fix=find_remedy(words)) from error
        except OverflowError as error:  # of sqlite3 itself
            raise InputError(
                "a number is beyond 64 bits", where=self._where, fix="Give a smaller one"
            ) from error


def _connect_args(address: URL, *, create: bool) -> dict[str, object]:
    """Raise if a SQLite file does not exist and must not be created; SQLite would make an empty one."""
    is_file = address.get_backend_name() == "sqlite" and address.database not in (None, "", ":memory:")
    if not is_file or not address.database or address.database.startswith("file:"):
        return {}
    path = Path(address.database)
    if create:
        _make_private(path)
        return {}
    if path.exists() and (not path.is_file() or path.stat().st_size):
        return {}
    what = "the file is empty" if path.exists() else "no such file"
    raise StoreError(what, where=address.database, fix="Check the path, or start the daemon first")


def _make_private(path: Path) -> None:
    """Make the file for its owner alone, as SQLite then makes its log; refuse one that others may write."""
    try:
        make_private_file(path)
        for companion in (Path(f"{path}-wal"), Path(f"{path}-shm")):
            if companion.exists():
                check_writers(companion)
    except OSError as error:
        raise StoreError(
            f"cannot be opened: {error.strerror}", where=str(path), fix=_REMEDIES["unable to open"]
        ) from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = (
        None  # sqlite3 would commit before changes of the schema; transactions are started explicitly
    )
    cursor = connection.cursor()
    if cursor.execute("PRAGMA page_count").fetchone() == (0,):  # for a new file; later it needs `compact`
        cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.connection.cursor().execute("BEGIN")
