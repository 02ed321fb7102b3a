"""The journal proves that nothing in it was changed, removed or put in between."""

from __future__ import annotations

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from registry_shelf import Shelf, on_both

from clnet.decoders_registry import Registry
from clnet.decoders_registry.database import alembic_config
from clnet.storage import ArtefactStore


@on_both
def test_lines_written_at_once_form_one_chain(shelf: Shelf) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: shelf.registry.note("test", f"thing-{n}", n=n), range(12)))
    check = shelf.registry.check_audit()
    assert check.ok
    assert check.lines == 14
    newest = shelf.registry.audit(limit=1)[0]
    assert check.head == newest.sha256
    assert shelf.registry.check_audit(newest.previous).ok, "an older head is still there"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE id = 2", "line 2 .* was changed"),
        ("UPDATE audit SET detail = '{}' WHERE id = 2", "line 2 .* was changed"),
        ("DELETE FROM audit WHERE id = 2", "line 2 .* does not follow"),
        ("DELETE FROM audit WHERE id = 3", "no line hashes to"),
    ],
)
def test_tampering_shows(tmp_path: Path, change: str, told: str) -> None:
    with Shelf(str(tmp_path / "registry.db"), tmp_path / "artefacts") as shelf:
        for number in range(3):
            shelf.registry.note("test", "thing", number=number)
        head = shelf.registry.check_audit().head
        with sqlite3.connect(tmp_path / "registry.db") as raw:
            raw.execute("DROP TRIGGER audit_no_update")
            raw.execute("DROP TRIGGER audit_no_delete")
            raw.execute(change)
        raw.close()
        check = shelf.registry.check_audit(head)
    assert not check.ok
    assert any(re.search(told, fault) for fault in check.faults), check.faults


@on_both
def test_a_journal_from_before_the_chain_is_chained(url: str, tmp_path: Path) -> None:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), "r0002")
        for number in range(3):
            connection.execute(
                sa.text(
                    "INSERT INTO audit (at, actor, action, subject, detail) VALUES "
                    "('2026-01-02 03:04:05.678901', 'ada', 'test', 'thing', :detail)"
                ),
                {"detail": f'{{"number": {number}, "ü": [1.5, null]}}'},
            )
    engine.dispose()
    with Registry(url, ArtefactStore(tmp_path / "artefacts")) as again:
        check = again.check_audit()
        assert (check.lines, check.faults) == (3, ())
        again.note("test", "thing")
        assert again.check_audit(check.head).ok
        assert [line.actor for line in again.audit()] == ["local", "ada", "ada", "ada"]


def test_a_site_is_shown_what_is_below_its_name(shelf: Shelf) -> None:
    for subject in ("site-a", "site-a/d@1", "site-ab/d@1", "site-b/d@1"):
        shelf.registry.note("test", subject)
    assert [line.subject for line in shelf.registry.audit(prefix="site-a/")] == ["site-a/d@1"]
