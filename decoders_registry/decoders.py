"""Decoder versions of anatomy groups: immutable, numbered, with aliases that move."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.encoders import find_body_part_model, find_encoder
from clnet.decoders_registry.nodes import connect, find_decoder
from clnet.decoders_registry.records import (
    DecoderDraft,
    DecoderRecord,
    GroupRecord,
    Lineage,
    TicketRecord,
    now,
)
from clnet.decoders_registry.refs import Node, check_group
from clnet.decoders_registry.tables import DecoderRow, GroupRow, TicketRow
from clnet.errors import Incompatible

__all__ = [
    "all_decoders",
    "all_groups",
    "check_pins",
    "decoder_record",
    "insert_decoder",
]


def decoder_record(row: DecoderRow) -> DecoderRecord:
    """The row as a record."""
    return DecoderRecord(
        ref=row.ref,
        group=row.group.name,
        version=row.version,
        sha256=row.sha256,
        encoder_ref=row.encoder.ref,
        encoder_sha256=row.encoder.sha256,
        body_part_model_ref=row.body_part_model.ref,
        body_part_model_sha256=row.body_part_model.sha256,
        config=row.config,
        metrics=row.metrics,
        learned=tuple(row.learned),
        unions=tuple(tuple(union) for union in row.unions),
        ranges=row.ranges,
        supporters=tuple(row.supporters),
        parent_ref=None if row.parent is None else row.parent.ref,
        status=row.status,
        status_reason=row.status_reason,
        ticket=None if row.ticket is None else _ticket_record(row.ticket),
        probe_sha256=row.probe_sha256,
        lineage=Lineage.model_validate(row.lineage),
        created=row.created,
        aliases=tuple(sorted(alias.alias for alias in row.aliases)),
    )


def _ticket_record(row: TicketRow) -> TicketRecord:
    return TicketRecord(
        rate=row.rate,
        sparsity=row.sparsity,
        rewind=row.rewind,
        dense_sha=row.dense_sha,
        mask_sha256=row.mask_sha256,
        details=row.details,
    )


def all_decoders(session: Session, group: str | None) -> list[DecoderRow]:
    """Every version, by group and number."""
    query = sa.select(DecoderRow).join(DecoderRow.group).order_by(GroupRow.name, DecoderRow.version)
    if group is not None:
        query = query.where(GroupRow.name == group)
    return list(session.scalars(query))


def all_groups(session: Session) -> list[GroupRecord]:
    """Every anatomy group with decoders, by name."""
    groups = session.scalars(sa.select(GroupRow).order_by(GroupRow.name))
    decoders = all_decoders(session, None)
    return [
        GroupRecord(
            name=group.name,
            layer=group.layer,
            anatomies=tuple(group.anatomies),
            versions=sum(row.group_id == group.id for row in decoders),
            aliases={
                alias.alias: row.version
                for row in decoders
                if row.group_id == group.id
                for alias in row.aliases
            },
        )
        for group in groups
    ]


def check_pins(session: Session, draft: DecoderDraft) -> list[tuple[str, Node]]:
    """Edges to all that the decoder is pinned to, after looking that they fit each other.

    Raises:
        NotFound: something it is pinned to is not here.
        Incompatible: it is here with other content, or supporters and parent do not share
            the encoder and body-part model.
    """
    encoder = find_encoder(session, draft.encoder_ref)
    body = find_body_part_model(session, draft.body_part_model_ref)
    _same(draft.encoder_ref, encoder.sha256, draft.encoder_sha256)
    _same(draft.body_part_model_ref, body.sha256, draft.body_part_model_sha256)
    edges = [("encoder", Node("encoder", encoder.ref))]
    edges.append(("body_part_model", Node("body_part_model", body.ref)))
    for supporter in draft.supporters:
        row = find_decoder(session, supporter.ref)
        _same(supporter.ref, row.sha256, supporter.sha256)
        if (row.encoder_id, row.body_part_model_id) != (encoder.id, body.id):
            raise Incompatible(
                f"{draft.group}: supporter {row.ref} belongs to {row.encoder.ref} and "
                f"{row.body_part_model.ref}, not to {encoder.ref} and {body.ref}"
            )
        edges.append(("supporter", Node("decoder", row.ref)))
    if draft.parent_ref is not None:
        parent = find_decoder(session, draft.parent_ref)
        if parent.group.name != draft.group:
            raise Incompatible(f"{draft.group}: parent {parent.ref} is of another group")
        if parent.encoder_id != encoder.id:
            raise Incompatible(
                f"{draft.group}: parent {parent.ref} belongs to {parent.encoder.ref}, not to "
                f"{encoder.ref}; weights that only started it belong into lineage.parents"
            )
        edges.append(("parent", Node("decoder", parent.ref)))
    return edges


def _same(ref: str, here: str, pinned: str) -> None:
    if here != pinned:
        raise Incompatible(f"{ref} is {here[:12]}... here, pinned as {pinned[:12]}...")


def insert_decoder(
    session: Session, draft: DecoderDraft, version: int | None
) -> tuple[DecoderRow, bool]:
    """Store a decoder version; returns what is in the registry now and whether it is new.

    Without `version` the next free number is taken. Content that the group has already is
    not stored twice, so a job that is run again after a crash adds nothing; it takes a probe
    over if it had none.

    Raises:
        Incompatible: the version is taken by other content, or the group segments other
            anatomies.
    """
    pins = check_pins(session, draft)
    group = _group(session, draft)
    versions = sa.select(DecoderRow).where(DecoderRow.group_id == group.id)
    known = session.scalar(versions.where(DecoderRow.sha256 == draft.sha256))
    if known is not None and version in {None, known.version}:
        known.probe_sha256 = known.probe_sha256 or draft.probe_sha256
        return known, False
    if known is not None:
        raise Incompatible(
            f"{draft.group}@{version} is here as {known.ref}: the same bytes, another version"
        )
    if version is None:
        newest = sa.select(sa.func.max(DecoderRow.version)).where(DecoderRow.group_id == group.id)
        version = (session.scalar(newest) or 0) + 1
    elif (taken := session.scalar(versions.where(DecoderRow.version == version))) is not None:
        raise Incompatible(
            f"{taken.ref} exists here with other content ({taken.sha256[:12]}..., not "
            f"{draft.sha256[:12]}...); versions never change"
        )
    row = DecoderRow(
        group=group,
        version=version,
        sha256=draft.sha256,
        encoder=find_encoder(session, draft.encoder_ref),
        body_part_model=find_body_part_model(session, draft.body_part_model_ref),
        parent=find_decoder(session, draft.parent_ref) if draft.parent_ref else None,
        config=draft.config,
        metrics=draft.metrics,
        learned=list(draft.learned),
        unions=[list(union) for union in draft.unions],
        ranges=draft.ranges,
        supporters=[supporter.model_dump() for supporter in draft.supporters],
        status=draft.status,
        status_reason=draft.status_reason,
        ticket=None if draft.ticket is None else TicketRow(**draft.ticket.model_dump()),
        probe_sha256=draft.probe_sha256,
        lineage=draft.lineage.model_dump(mode="json"),
        created=draft.created,
        aliases=[],
    )
    session.add(row)
    session.flush()
    connect(session, Node("decoder", row.ref), draft.lineage, pins)
    return row, True


def _group(session: Session, draft: DecoderDraft) -> GroupRow:
    anatomies = list(draft.config.get("anatomies") or _claimed(draft))
    # locked, so that on PostgreSQL writers of one group queue up instead of colliding
    query = sa.select(GroupRow).where(GroupRow.name == check_group(draft.group)).with_for_update()
    row = session.scalar(query)
    if row is None:
        row = GroupRow(
            name=draft.group,
            layer=draft.config.get("layer"),
            anatomies=anatomies,
            created=now(),
        )
        session.add(row)
        session.flush()
    elif "anatomies" in draft.config and sorted(row.anatomies) != sorted(anatomies):
        raise Incompatible(
            f"anatomy group {row.name} segments {', '.join(row.anatomies)}; this decoder has "
            f"{', '.join(anatomies)}; register it as a group of another name"
        )
    return row


def _claimed(draft: DecoderDraft) -> list[str]:
    return sorted({*draft.learned, *(leaf for union in draft.unions for leaf in union)})
