"""Taking over what a bundle describes: every record checked against what is here already."""

from __future__ import annotations

from sqlalchemy.orm import Session

from clnet.decoders_registry.bundle import INDEX, Bundle, Entry
from clnet.decoders_registry.datasets import record_dataset
from clnet.decoders_registry.decoders import decoder_record, insert_decoder
from clnet.decoders_registry.encoders import find_body_part_model, find_encoder, insert_model
from clnet.decoders_registry.nodes import find_decoder
from clnet.decoders_registry.records import DatasetUse, DecoderDraft, DecoderRecord, EncoderRecord
from clnet.decoders_registry.refs import check_name, parse_ref
from clnet.decoders_registry.releases import Composition
from clnet.decoders_registry.tables import BodyPartRow, EncoderRow
from clnet.errors import InputError, IntegrityError
from clnet.storage import ArtefactStore

__all__ = ["insert_bundle"]


def insert_bundle(
    session: Session, bundle: Bundle, store: ArtefactStore
) -> tuple[Composition, list[tuple[str, bool]]]:
    """Add what the bundle describes; returns the release to store, and (ref, is new) pairs.

    Raises:
        Incompatible: a ref is taken by other content, or pins do not fit.
        IntegrityError: the content is not what the release's hash says.
    """
    done = []
    for dataset in bundle.datasets:
        use = DatasetUse(
            ref=dataset.ref,
            sha256=dataset.sha256,
            terms=dataset.terms,
            held_at=dataset.held_at or "elsewhere",
        )
        _, new = record_dataset(session, use, dataset.fingerprint)
        done.append((dataset.ref, new))
    done += [_insert(session, entry, store) for entry in bundle.artefacts]
    release = bundle.release
    if release.parent is not None:
        check_name(release.parent, "release")
    served = tuple(
        tuple(decoder_record(find_decoder(session, ref)) for ref in tier) for tier in release.tiers
    )
    composition = Composition(
        name=release.name,
        encoder=find_encoder(session, release.encoder_ref),
        body_part_model=find_body_part_model(session, release.body_part_model_ref),
        tiers=served,
        supporters=tuple(decoder_record(find_decoder(session, ref)) for ref in release.supporters),
        policy=release.policy,
        parent=release.parent,
        parent_sha256=release.parent_sha256,
    )
    if composition.sha256 != release.sha256:
        raise IntegrityError(
            f"release {release.name}: its content hashes to {composition.sha256}, "
            f"{INDEX} says {release.sha256}; the export was changed"
        )
    return composition, done


def _insert(session: Session, entry: Entry, store: ArtefactStore) -> tuple[str, bool]:
    record = entry.record
    name = record.group if isinstance(record, DecoderRecord) else record.name
    if record.ref != f"{name}@{record.version}":
        raise InputError(f"{INDEX}: {record.ref!r} is not {name}@{record.version}")
    if isinstance(record, DecoderRecord):
        return record.ref, insert_decoder(session, _draft(record, store), record.version)[1]
    if parse_ref(record.ref, entry.kind).name != record.name:
        raise InputError(f"{INDEX}: {record.ref!r} does not name a {entry.kind}")
    fields = {
        "name": record.name,
        "version": record.version,
        "sha256": record.sha256,
        "config": record.config,
        "lineage": record.lineage.model_dump(mode="json"),
        "created": record.created,
    }
    if isinstance(record, EncoderRecord):
        return record.ref, insert_model(session, EncoderRow(**fields, plan=record.plan))[1]
    return record.ref, insert_model(session, BodyPartRow(**fields))[1]


def _draft(record: DecoderRecord, store: ArtefactStore) -> DecoderDraft:
    """The record without its number; a dense checkpoint that stayed behind is only noted."""
    fields = {name: getattr(record, name) for name in DecoderDraft.model_fields}
    ticket = record.ticket
    if ticket is not None and ticket.dense_sha is not None and not store.exists(ticket.dense_sha):
        details = ticket.details | {"dense_sha_elsewhere": ticket.dense_sha}
        fields["ticket"] = ticket.model_copy(update={"dense_sha": None, "details": details})
    return DecoderDraft(**fields)
