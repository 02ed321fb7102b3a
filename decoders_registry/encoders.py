"""Frozen models that decoders are pinned to: encoders and body-part models."""

from __future__ import annotations

from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.nodes import connect
from clnet.decoders_registry.records import BodyPartRecord, EncoderRecord, Lineage
from clnet.decoders_registry.refs import Kind, Node, parse_ref
from clnet.decoders_registry.tables import BodyPartRow, EncoderRow, VersionedRow
from clnet.errors import Incompatible, NotFound

__all__ = [
    "all_models",
    "body_part_record",
    "encoder_record",
    "find_body_part_model",
    "find_encoder",
    "insert_model",
]

R = TypeVar("R", bound=VersionedRow)


def encoder_record(row: EncoderRow) -> EncoderRecord:
    """The row as a record."""
    return EncoderRecord(
        ref=row.ref,
        name=row.name,
        version=row.version,
        sha256=row.sha256,
        plan=row.plan,
        config=row.config,
        lineage=Lineage.model_validate(row.lineage),
        created=row.created,
    )


def body_part_record(row: BodyPartRow) -> BodyPartRecord:
    """The row as a record."""
    return BodyPartRecord(
        ref=row.ref,
        name=row.name,
        version=row.version,
        sha256=row.sha256,
        config=row.config,
        lineage=Lineage.model_validate(row.lineage),
        created=row.created,
    )


def find_encoder(session: Session, ref: str) -> EncoderRow:
    """The encoder `ref` names (``encoder/starter@1``, ``starter``: the newest version)."""
    return _find(session, EncoderRow, "encoder", ref)


def find_body_part_model(session: Session, ref: str) -> BodyPartRow:
    """The body-part model `ref` names (``bpr/starter@1``, ``starter``: the newest version)."""
    return _find(session, BodyPartRow, "body_part_model", ref)


def all_models(session: Session, table: type[R]) -> list[R]:
    """Every version, by name."""
    return list(session.scalars(sa.select(table).order_by(table.name, table.version)))


def insert_model(session: Session, row: R) -> tuple[R, bool]:
    """Store `row`; returns what is in the registry now and whether it is new.

    A version of 0 asks for the next free number. Content that the name has already is not
    stored twice.

    Raises:
        Incompatible: the version is taken by other content.
    """
    table = type(row)
    same = sa.select(table).where(table.name == row.name)
    known = session.scalar(same.where(table.sha256 == row.sha256))
    if known is not None and row.version in {0, known.version}:
        return known, False
    if known is not None:
        raise Incompatible(f"{row.ref} is here as {known.ref}: the same bytes, another version")
    newest = session.scalar(sa.select(sa.func.max(table.version)).where(table.name == row.name))
    if row.version == 0:
        row.version = (newest or 0) + 1
    elif (taken := session.scalar(same.where(table.version == row.version))) is not None:
        raise Incompatible(
            f"{row.ref} exists here with other content ({taken.sha256[:12]}..., not "
            f"{row.sha256[:12]}...); versions never change"
        )
    session.add(row)
    session.flush()
    kind: Kind = "encoder" if isinstance(row, EncoderRow) else "body_part_model"
    connect(session, Node(kind, row.ref), Lineage.model_validate(row.lineage), ())
    return row, True


def _find(session: Session, table: type[R], kind: Kind, ref: str) -> R:
    name, version, _ = parse_ref(ref, kind)
    query = sa.select(table).where(table.name == name).order_by(table.version.desc()).limit(1)
    if version is not None:
        query = query.where(table.version == version)
    row = session.scalar(query)
    if row is None:
        raise NotFound(f"{kind.replace('_', ' ')} {ref!r} is not in the registry")
    return row
