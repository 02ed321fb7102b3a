"""The schema is at head, journals stay as written, and bad databases say so."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from registry_shelf import Shelf, on_both

from clnet.decoders_registry import Registry
from clnet.decoders_registry.database import SCHEMA, alembic_config
from clnet.errors import Incompatible, InputError
from clnet.storage import ArtefactStore


def engine_of(shelf: Shelf) -> sa.Engine:
    return sa.create_engine(shelf.registry.database.url)


@on_both
def test_migrations_lead_to_exactly_the_tables(shelf: Shelf) -> None:
    engine = engine_of(shelf)
    with engine.connect() as connection:
        config = alembic_config(connection)
        command.check(config)
        assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == SCHEMA
    engine.dispose()


@on_both
@pytest.mark.parametrize("change", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_the_journal_cannot_be_rewritten(shelf: Shelf, change: str) -> None:
    engine = engine_of(shelf)
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="append-only"):
        connection.execute(sa.text(change))
    engine.dispose()
    assert [line.action for line in shelf.registry.audit()] == [
        "body_part_model.add",
        "encoder.add",
    ]


def test_who_did_it_is_in_the_journal(url: str, tmp_path: Path) -> None:
    with Registry(url, ArtefactStore(tmp_path / "artefacts"), actor="ada") as registry:
        registry.create_job("train", {})
        assert [line.actor for line in registry.audit()] == ["ada"]


@on_both
def test_a_registry_is_found_again_as_it_was_left(shelf: Shelf, tmp_path: Path) -> None:
    record = shelf.decoder("abdomen/liver")
    with Registry(shelf.url, ArtefactStore(tmp_path / "artefacts")) as again:
        assert again.decoders() == [record]


def test_sqlite_writes_ahead_so_that_readers_never_wait(tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "registry.db"), tmp_path / "artefacts")
    with sqlite3.connect(tmp_path / "registry.db") as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        raw.execute("BEGIN IMMEDIATE")
        assert shelf.registry.decoders() == []
    raw.close()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    Shelf(str(file), tmp_path / "artefacts")
    with sqlite3.connect(file) as raw:
        raw.execute("UPDATE alembic_version SET version_num = 'r9999'")
    raw.close()
    with pytest.raises(Incompatible, match="install the newer clnet"):
        Shelf(str(file), tmp_path / "artefacts")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "in memory"),
        ("mysql://host/db", "use sqlite or postgresql"),
        ("://", "not a URL"),
        ("postgresql://user:secret@127.0.0.1:1/clnet", "cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_said_without_the_password(
    url: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        Registry(url, ArtefactStore(tmp_path))
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database at all, but long enough to be one" * 20)
    with pytest.raises(InputError, match=r"notes\.txt: cannot be opened"):
        Registry(str(tmp_path / "notes.txt"), ArtefactStore(tmp_path))
