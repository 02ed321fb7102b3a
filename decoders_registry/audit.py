"""Who did what, when: an append-only journal, written in the transaction it describes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.records import Moment, Plain, Record, now, plain
from clnet.decoders_registry.tables import AuditRow

__all__ = ["AuditRecord", "journal", "note"]


class AuditRecord(Record):
    """One line of the journal."""

    at: Moment
    actor: str
    action: str
    subject: str
    detail: Plain


def note(session: Session, actor: str, action: str, subject: str, **detail: Any) -> None:
    """Add a line."""
    session.add(
        AuditRow(at=now(), actor=actor, action=action, subject=subject, detail=plain(detail))
    )


def journal(session: Session, subject: str | None, limit: int) -> list[AuditRecord]:
    """The newest `limit` lines, newest first, of one subject or of all."""
    query = sa.select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    return [
        AuditRecord(
            at=row.at, actor=row.actor, action=row.action, subject=row.subject, detail=row.detail
        )
        for row in session.scalars(query)
    ]
