"""Names that point at one version of each anatomy group, and move: `production`, `candidate`."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.records import now
from clnet.decoders_registry.refs import check_alias
from clnet.decoders_registry.tables import AliasRow, DecoderRow, GroupRow
from clnet.errors import Incompatible

__all__ = ["PRODUCTION", "aliased", "lend_alias", "set_alias"]

PRODUCTION = "production"


def aliased(session: Session, alias: str) -> list[DecoderRow]:
    """The version of every group that has `alias`, by group."""
    return list(
        session.scalars(
            sa.select(DecoderRow)
            .join(AliasRow, AliasRow.decoder_id == DecoderRow.id)
            .join(GroupRow, GroupRow.id == DecoderRow.group_id)
            .where(AliasRow.alias == check_alias(alias))
            .order_by(GroupRow.name)
        )
    )


def set_alias(session: Session, row: DecoderRow, alias: str) -> str | None:
    """Point `alias` of the row's group at it; returns the version it pointed at before.

    Raises:
        Incompatible: a candidate cannot be `production`.
    """
    check_alias(alias)
    if alias == PRODUCTION and row.status != "accepted":
        raise Incompatible(
            f"{row.ref} is a candidate ({row.status_reason or 'not accepted yet'}); "
            "accept it before it goes into production"
        )
    found = session.get(AliasRow, (row.group_id, alias), with_for_update=True)
    if found is None:
        before = None
        session.add(AliasRow(group_id=row.group_id, alias=alias, decoder_id=row.id, changed=now()))
    else:
        before = session.get_one(DecoderRow, found.decoder_id)
        found.decoder_id, found.changed = row.id, now()
    session.flush()
    for moved in {row, before or row}:
        session.refresh(moved, ["aliases"])
    return None if before is None else before.ref


def lend_alias(session: Session, row: DecoderRow, alias: str) -> bool:
    """Point `alias` at an accepted version if its group has none yet; whether it did."""
    taken = session.get(AliasRow, (row.group_id, check_alias(alias)))
    if taken is not None or row.status != "accepted":
        return False
    set_alias(session, row, alias)
    return True
