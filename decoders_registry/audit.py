"""Who did what, when: an append-only journal, written in the transaction it describes.

Every line holds the hash of the line before it, so that none can be changed, removed or put in
between later without breaking the chain: by a trigger of the database, and by arithmetic.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.records import Moment, Plain, Record, Sha256, now, plain
from clnet.decoders_registry.tables import AuditRow

__all__ = [
    "GENESIS",
    "AuditCheck",
    "AuditRecord",
    "check_journal",
    "journal",
    "line_sha256",
    "note",
]

GENESIS = "0" * 64
"""What the first line holds in the place of a line before it."""

_WRITER_LOCK = 7_236_110  # any fixed number; only registries take this advisory lock


class AuditRecord(Record):
    """One line of the journal.

    Attributes:
        previous: hash of the line before.
        sha256: of this line, `previous` included.
    """

    at: Moment
    actor: str
    action: str
    subject: str
    detail: Plain
    previous: Sha256
    sha256: Sha256


class AuditCheck(Record):
    """Whether the journal is as it was written.

    Attributes:
        lines: how many there are.
        head: hash of the newest line. Kept elsewhere, it proves later that nothing was cut off.
        faults: what is wrong, oldest first; the first few.
    """

    lines: int
    head: Sha256
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def note(session: Session, actor: str, action: str, subject: str, **detail: Any) -> None:
    """Add a line to the chain."""
    if session.get_bind().dialect.name == "postgresql":
        # SQLite has one writer by itself; here two would hang themselves on the same line
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITER_LOCK)))
    session.flush()
    newest = sa.select(AuditRow.sha256).order_by(AuditRow.id.desc()).limit(1)
    previous = session.scalar(newest) or GENESIS
    at, kept = now(), plain(detail)
    session.add(
        AuditRow(
            at=at,
            actor=actor,
            action=action,
            subject=subject,
            detail=kept,
            previous=previous,
            sha256=line_sha256(previous, at, actor, action, subject, kept),
        )
    )
    session.flush()


def line_sha256(
    previous: str, at: datetime, actor: str, action: str, subject: str, detail: dict[str, Any]
) -> str:
    """Hash of a line. Migrations use it too, so its form never changes."""
    line = [previous, at.astimezone(UTC).isoformat(), actor, action, subject, detail]
    canonical = json.dumps(line, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def journal(
    session: Session, subject: str | None, limit: int, prefix: str | None = None
) -> list[AuditRecord]:
    """The newest `limit` lines, newest first: of one subject, of all below a prefix, or all."""
    query = sa.select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    if prefix is not None:
        query = query.where(AuditRow.subject.startswith(prefix, autoescape=True))
    return [
        AuditRecord(
            at=row.at,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            detail=row.detail,
            previous=row.previous,
            sha256=row.sha256,
        )
        for row in session.scalars(query)
    ]


def check_journal(session: Session, head: str | None, most_faults: int = 10) -> AuditCheck:
    """Follow the chain from its first line.

    Args:
        head: hash of a line that was the newest once and must still be there.
    """
    faults: list[str] = []
    previous, lines, found = GENESIS, 0, head in {None, GENESIS}
    for row in session.scalars(
        sa.select(AuditRow).order_by(AuditRow.id).execution_options(yield_per=1000)
    ):
        lines += 1
        told = f"line {lines} ({row.at:%Y-%m-%d %H:%M:%S} {row.action} {row.subject})"
        if row.previous != previous:
            faults.append(f"{told} does not follow the line before it: one was removed or added")
        if row.sha256 != line_sha256(
            row.previous, row.at, row.actor, row.action, row.subject, row.detail
        ):
            faults.append(f"{told} was changed")
        previous = row.sha256
        found = found or previous == head
    if not found:
        faults.append(f"no line hashes to {head}: the journal was cut off, or is another one")
    return AuditCheck(lines=lines, head=previous, faults=tuple(faults[:most_faults]))
