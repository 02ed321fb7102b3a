"""Dataset versions known by hash, fingerprint and terms, wherever their bytes live."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.records import DatasetRecord, DatasetUse, now
from clnet.decoders_registry.refs import Node, parse_ref
from clnet.decoders_registry.tables import DatasetRow
from clnet.decoders_registry.terms import obligations_of
from clnet.errors import AlreadyExists, Incompatible, InputError, NotFound

__all__ = [
    "all_datasets",
    "dataset_record",
    "ensure_datasets",
    "find_dataset",
    "record_dataset",
    "refuse_withdrawn",
]


def dataset_record(row: DatasetRow) -> DatasetRecord:
    """The row as a record."""
    return DatasetRecord(
        ref=row.ref,
        sha256=row.sha256,
        terms=row.terms,
        held_at=row.held_at,
        fingerprint=row.fingerprint,
        withdrawn=row.withdrawn,
        withdrawn_reason=row.withdrawn_reason,
        created=row.created,
    )


def find_dataset(session: Session, ref: str) -> DatasetRow:
    """The dataset version `ref` names.

    Raises:
        NotFound: lineage knows of none.
    """
    row = session.scalar(sa.select(DatasetRow).where(DatasetRow.ref == ref))
    if row is None:
        raise NotFound(f"dataset {ref!r} is not in the registry; give name@version")
    return row


def all_datasets(session: Session) -> list[DatasetRow]:
    """Every dataset version, in the order it became known."""
    return list(session.scalars(sa.select(DatasetRow).order_by(DatasetRow.id)))


def record_dataset(
    session: Session, use: DatasetUse, fingerprint: dict[str, Any]
) -> tuple[DatasetRow, bool]:
    """Make the dataset version known; returns it and whether it is new.

    Known already under the same hash: terms and fingerprint are filled in if they were empty.

    Raises:
        AlreadyExists: the ref is taken by other content.
        InputError: no version in the ref, or an obligation that nobody defined.
    """
    if parse_ref(use.ref, "dataset").version is None:
        raise InputError(f"dataset {use.ref!r}: name a version, {use.ref}@1")
    obligations_of(use.ref, use.terms)
    row = session.scalar(sa.select(DatasetRow).where(DatasetRow.ref == use.ref))
    if row is None:
        row = DatasetRow(
            ref=use.ref,
            sha256=use.sha256,
            terms=use.terms,
            held_at=use.held_at,
            fingerprint=fingerprint,
            created=now(),
        )
        session.add(row)
        session.flush()
        return row, True
    if row.sha256 != use.sha256:
        raise AlreadyExists(
            f"dataset {use.ref} is known with content {row.sha256[:12]}..., not "
            f"{use.sha256[:12]}...; dataset versions never change, give it a new version"
        )
    row.terms = row.terms or use.terms
    row.fingerprint = row.fingerprint or fingerprint
    return row, False


def refuse_withdrawn(session: Session, ref: str) -> None:
    """Look whether a dataset version may be learned from; one that nobody knows may.

    Raises:
        Incompatible: it was withdrawn.
    """
    row = session.scalar(sa.select(DatasetRow).where(DatasetRow.ref == ref))
    if row is not None and row.withdrawn is not None:
        raise Incompatible(
            f"dataset {ref} was withdrawn on {row.withdrawn:%Y-%m-%d} "
            f"({row.withdrawn_reason}); train without it"
        )


def ensure_datasets(session: Session, uses: Iterable[DatasetUse]) -> list[tuple[str, Node]]:
    """Make sure that every dataset of a lineage is known; returns the edges to them.

    Raises:
        AlreadyExists: a ref is taken by other content.
        Incompatible: one was withdrawn, nothing new may be made from it.
    """
    edges = []
    for use in uses:
        record_dataset(session, use, {})
        refuse_withdrawn(session, use.ref)
        edges.append(("data", Node("dataset", use.ref)))
    return edges
