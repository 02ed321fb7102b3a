"""Releases: one encoder, one body-part model, decoders in tiers, a merge policy. Immutable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.aliases import aliased
from clnet.decoders_registry.decoders import decoder_record
from clnet.decoders_registry.encoders import find_body_part_model, find_encoder
from clnet.decoders_registry.folding import (
    Tiers,
    check_claims,
    check_pinned,
    check_supported,
    fold,
    leaned_on,
)
from clnet.decoders_registry.lineage import add_edges
from clnet.decoders_registry.nodes import data_behind, find_decoder, find_release
from clnet.decoders_registry.records import DecoderRecord, Moment, Plain, Record, Sha256, now, plain
from clnet.decoders_registry.refs import Node, check_name
from clnet.decoders_registry.tables import (
    BodyPartRow,
    DatasetRow,
    EncoderRow,
    ReleaseDecoderRow,
    ReleaseRow,
)
from clnet.decoders_registry.terms import ReleaseTerms, combine
from clnet.errors import AlreadyExists, Incompatible, InputError, IntegrityError

__all__ = [
    "Composition",
    "ReleaseRecord",
    "all_releases",
    "check_content",
    "compose",
    "descends_from",
    "insert_release",
    "release_record",
]


class ReleaseRecord(Record):
    """What is served.

    Attributes:
        sha256: hash of the content (name, pins, tiers, supporters, policy, parent).
        tiers: served decoders; the merge folds tier by tier, the first has precedence.
        supporters: decoders that run only because others lean on them.
        policy: gating, calibration, clean-up, as the model part's merge policy reads it.
        parent, parent_sha256: the release it extends.
        withdrawn: datasets in its lineage that were withdrawn since.
    """

    name: str
    sha256: Sha256
    encoder_ref: str
    encoder_sha256: Sha256
    body_part_model_ref: str
    body_part_model_sha256: Sha256
    tiers: tuple[tuple[DecoderRecord, ...], ...]
    supporters: tuple[DecoderRecord, ...]
    policy: Plain
    parent: str | None
    parent_sha256: Sha256 | None
    terms: ReleaseTerms
    withdrawn: tuple[str, ...]
    created: Moment

    @property
    def decoders(self) -> tuple[DecoderRecord, ...]:
        """All served decoders, tier by tier."""
        return tuple(decoder for tier in self.tiers for decoder in tier)


class Composition(NamedTuple):
    """A release before it is stored."""

    name: str
    encoder: EncoderRow
    body_part_model: BodyPartRow
    tiers: Tiers
    supporters: tuple[DecoderRecord, ...]
    policy: dict[str, Any]
    parent: str | None
    parent_sha256: str | None

    @property
    def sha256(self) -> str:
        """Hash of everything that makes the release what it is."""
        return _content_sha256(
            self,
            (self.encoder.ref, self.encoder.sha256),
            (self.body_part_model.ref, self.body_part_model.sha256),
        )


def check_content(release: ReleaseRecord) -> None:
    """Look that a stored release is what its hash says.

    Raises:
        IntegrityError: it is not: somebody changed the database.
    """
    found = _content_sha256(
        release,
        (release.encoder_ref, release.encoder_sha256),
        (release.body_part_model_ref, release.body_part_model_sha256),
    )
    if found != release.sha256:
        raise IntegrityError(
            f"release {release.name}: its content hashes to {found}, its record says "
            f"{release.sha256}; the database was changed, restore it or import the release anew"
        )


def _content_sha256(
    release: Composition | ReleaseRecord,
    encoder: tuple[str, str],
    body_part_model: tuple[str, str],
) -> str:
    """SHA-256 of the canonical JSON of a release's content."""
    content = {
        "name": release.name,
        "encoder": list(encoder),
        "body_part_model": list(body_part_model),
        "tiers": [[[d.ref, d.sha256] for d in tier] for tier in release.tiers],
        "supporters": [[d.ref, d.sha256] for d in release.supporters],
        "policy": release.policy,
        "parent": [release.parent, release.parent_sha256],
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def release_record(session: Session, row: ReleaseRow) -> ReleaseRecord:
    """The row as a record."""
    tiers: dict[int, list[DecoderRecord]] = {}
    supporters = []
    for member in sorted(row.members, key=lambda member: member.position):
        record = decoder_record(member.decoder)
        if member.tier is None:
            supporters.append(record)
        else:
            tiers.setdefault(member.tier, []).append(record)
    members = [Node("decoder", member.decoder.ref) for member in row.members]
    data = _data_of(session, row.encoder, row.body_part_model, members)
    return ReleaseRecord(
        name=row.name,
        sha256=row.sha256,
        encoder_ref=row.encoder.ref,
        encoder_sha256=row.encoder.sha256,
        body_part_model_ref=row.body_part_model.ref,
        body_part_model_sha256=row.body_part_model.sha256,
        tiers=tuple(tuple(tiers[tier]) for tier in sorted(tiers)),
        supporters=tuple(supporters),
        policy=row.policy,
        parent=row.parent_name,
        parent_sha256=row.parent_sha256,
        terms=ReleaseTerms.model_validate(row.terms),
        withdrawn=tuple(dataset.ref for dataset in data if dataset.withdrawn is not None),
        created=row.created,
    )


def all_releases(session: Session) -> list[ReleaseRow]:
    """Every release, in the order of creation."""
    return list(session.scalars(sa.select(ReleaseRow).order_by(ReleaseRow.id)))


def descends_from(session: Session, release: ReleaseRecord, ancestor: ReleaseRecord) -> bool:
    """Whether `ancestor` is the parent of `release`, or the parent's parent, and so on.

    By name and hash, as far as the releases between them are here.
    """
    parents = {
        (row.name, row.sha256): (row.parent_name, row.parent_sha256)
        for row in all_releases(session)
    }
    place = release.parent, release.parent_sha256
    while place in parents:
        if place == (ancestor.name, ancestor.sha256):
            return True
        place = parents.pop(place)  # each once: a database that was changed may go in circles
    return False


def compose(
    session: Session,
    name: str,
    decoders: Sequence[str] | str,
    encoder: str | None,
    body_part_model: str | None,
    parent: str | None,
    policy: Mapping[str, Any] | None,
) -> Composition:
    """Put a release together; see `Registry.create_release` for the rules."""
    if isinstance(decoders, str):
        chosen = [decoder_record(row) for row in aliased(session, decoders)]
    else:
        chosen = [decoder_record(find_decoder(session, ref)) for ref in decoders]
    base = None if parent is None else release_record(session, find_release(session, parent))
    tiers = fold(base.tiers if base else (), chosen)
    if not any(tiers):
        raise InputError(f"release {name}: no decoder is chosen, and there is no parent to extend")
    pins = base or tiers[0][0]
    return Composition(
        name=name,
        encoder=find_encoder(session, encoder or pins.encoder_ref),
        body_part_model=find_body_part_model(session, body_part_model or pins.body_part_model_ref),
        tiers=tiers,
        supporters=leaned_on(chain(*tiers), lambda ref: decoder_record(find_decoder(session, ref))),
        policy=plain(policy if policy is not None else base.policy if base else {}),
        parent=base.name if base else None,
        parent_sha256=base.sha256 if base else None,
    )


def insert_release(session: Session, release: Composition) -> tuple[ReleaseRow, bool]:
    """Check and store a release; returns what is in the registry now and whether it is new.

    Raises:
        AlreadyExists: the name is taken by other content.
        Incompatible: decoders, claims or terms do not go together, or data was withdrawn.
    """
    check_name(release.name, "release")
    known = session.scalar(sa.select(ReleaseRow).where(ReleaseRow.name == release.name))
    if known is not None:
        if known.sha256 == release.sha256:
            return known, False
        raise AlreadyExists(
            f"release {release.name} exists with other content ({known.sha256[:12]}...); "
            "releases never change, choose another name"
        )
    everyone = [decoder for tier in release.tiers for decoder in tier] + list(release.supporters)
    if len({decoder.ref for decoder in everyone}) != len(everyone):
        raise Incompatible(f"release {release.name}: a decoder appears twice")
    check_pinned(everyone, release.encoder.sha256, release.body_part_model.sha256)
    check_claims(release.tiers, release.policy)
    check_supported(everyone)
    members = [Node("decoder", decoder.ref) for decoder in everyone]
    data = _data_of(session, release.encoder, release.body_part_model, members)
    _refuse_withdrawn(release.name, data)
    terms = combine({row.ref: row.terms for row in data})
    row = ReleaseRow(
        name=release.name,
        sha256=release.sha256,
        encoder=release.encoder,
        body_part_model=release.body_part_model,
        parent_name=release.parent,
        parent_sha256=release.parent_sha256,
        policy=release.policy,
        terms=terms.model_dump(mode="json"),
        created=now(),
        members=[_member(session, *place) for place in _places(release)],
    )
    session.add(row)
    session.flush()
    # the parent release is no lineage edge: data of a decoder that was replaced in it has
    # not gone into this one
    edges = [
        ("encoder", Node("encoder", release.encoder.ref)),
        ("body_part_model", Node("body_part_model", release.body_part_model.ref)),
    ]
    for ref, tier, _ in _places(release):
        edges.append(("supporter" if tier is None else "decoder", Node("decoder", ref)))
    add_edges(session, Node("release", row.name), edges)
    return row, True


def _refuse_withdrawn(name: str, data: Iterable[DatasetRow]) -> None:
    withdrawn = [f"{row.ref} ({row.withdrawn_reason})" for row in data if row.withdrawn]
    if withdrawn:
        raise Incompatible(
            f"release {name} would hold what was learned from withdrawn data: "
            f"{', '.join(withdrawn)}; leave out what learned from it"
        )


def _places(release: Composition) -> Iterator[tuple[str, int | None, int]]:
    for tier, decoders in enumerate(release.tiers):
        for position, decoder in enumerate(decoders):
            yield decoder.ref, tier, position
    for position, decoder in enumerate(release.supporters):
        yield decoder.ref, None, position


def _member(session: Session, ref: str, tier: int | None, position: int) -> ReleaseDecoderRow:
    return ReleaseDecoderRow(decoder=find_decoder(session, ref), tier=tier, position=position)


def _data_of(
    session: Session, encoder: EncoderRow, body_part_model: BodyPartRow, members: list[Node]
) -> list[DatasetRow]:
    roots = [
        Node("encoder", encoder.ref),
        Node("body_part_model", body_part_model.ref),
        *members,
    ]
    return data_behind(session, roots)
