"""The database behind the registry: engine, transactions that retry, schema kept at head."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from clnet.errors import Incompatible, InputError
from clnet.storage import make_folder

__all__ = ["SCHEMA", "Database"]

SCHEMA = "r0003"
"""Newest migration; a test holds it equal to the head of ``migrations/versions``."""

_BUSY_SECONDS = 30.0
_ATTEMPTS = 12
_MIGRATION_LOCK = 7_236_109  # any fixed number; only registries take this advisory lock
_RETRYABLE = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available

T = TypeVar("T")


class Database:
    """SQLite in WAL mode, or PostgreSQL; created and migrated on first use.

    Args:
        url: ``sqlite:///path/registry.db``, ``postgresql://user@host/name`` or a file path.

    Raises:
        InputError: a URL of another kind, or nothing that can be made or opened there.
        Incompatible: a database written by a newer version of clnet.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self._engine = _engine(self.url)
        # SQLite reads a snapshot by itself, PostgreSQL when asked to
        snapshot = {"isolation_level": "REPEATABLE READ"} if self._is_postgres else {}
        self._read_engine = self._engine.execution_options(**snapshot)
        self._write_engine = self._engine.execution_options(clnet_write=True)
        self._bring_to_head()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one consistent state; nothing it does is kept."""
        with Session(self._read_engine, expire_on_commit=False, autoflush=False) as session:
            yield session

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one transaction; on a lost race run it again from the start.

        Two writers that take the same version number collide on a unique constraint, the
        loser starts over and takes the next one.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with (
                    Session(self._write_engine, expire_on_commit=False) as session,
                    session.begin(),
                ):
                    return work(session)
            except DBAPIError as error:
                if attempt == _ATTEMPTS - 1 or not _lost_race(error):
                    raise
            time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 5)))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Give connections back."""
        self._engine.dispose()

    @property
    def _is_postgres(self) -> bool:
        return self._engine.dialect.name == "postgresql"

    def _bring_to_head(self) -> None:
        try:
            if self._revision() == SCHEMA:
                return
            if not self._is_postgres:
                _use_wal(self._engine)
        except DBAPIError as error:
            raise InputError(
                f"database {self.url.render_as_string()}: cannot be opened ({error.orig}); "
                "check the path, or that the server runs and lets this user in"
            ) from error
        from alembic import command  # slow to import, and needed once in a database's life

        with self._write_engine.begin() as connection:
            if self._is_postgres:
                lock = sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)
                connection.execute(sa.select(lock))
            command.upgrade(alembic_config(connection), "head")

    def _revision(self) -> str | None:
        with self._engine.connect() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        if revision is not None and str(revision) > SCHEMA:
            raise Incompatible(
                f"{self.url.render_as_string()}: schema {revision} is newer than {SCHEMA}, which "
                "this version of clnet knows; install the newer clnet"
            )
        return None if revision is None else str(revision)


def alembic_config(connection: Connection) -> Any:
    """Alembic's configuration for this part's migrations, on an open connection."""
    from alembic.config import Config

    # its default is the stream that was standard output when alembic was imported
    config = Config(stdout=sys.stdout)
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _parse(text: str) -> URL:
    if "://" not in text:
        text = f"sqlite:///{text}"
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise InputError(f"database {text!r}: not a URL such as sqlite:///registry.db") from error
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    backend = url.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        raise InputError(f"database {backend!r}: use sqlite or postgresql")
    if backend == "sqlite" and url.database in {None, "", ":memory:"}:
        raise InputError("database sqlite in memory: give a file, other processes must see it")
    return url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        return sa.create_engine(url, pool_pre_ping=True)
    make_folder(Path(str(url.database)).parent)
    # one connection per session: cheap on a file, and safe across fork and threads
    engine = sa.create_engine(url, poolclass=NullPool, connect_args={"timeout": _BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        connection.execute("PRAGMA foreign_keys = ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a writer takes the lock at once: upgrading a read lock fails instead of waiting
        write = connection.get_execution_options().get("clnet_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _use_wal(engine: Engine) -> None:
    for attempt in range(_ATTEMPTS):
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
            return
        except Exception as error:  # changing the mode ignores the busy timeout
            if attempt == _ATTEMPTS - 1 or "locked" not in str(error):
                raise
        finally:
            raw.close()
        time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 5)))


def _lost_race(error: DBAPIError) -> bool:
    if isinstance(error, IntegrityError):
        return True
    if getattr(error.orig, "sqlstate", None) in _RETRYABLE:
        return True
    return isinstance(error, OperationalError) and "locked" in str(error.orig)
