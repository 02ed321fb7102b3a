"""Adding models, decoders and datasets to the registry, and moving aliases."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from clnet.decoders_registry.aliases import set_alias
from clnet.decoders_registry.audit import note
from clnet.decoders_registry.core import Core
from clnet.decoders_registry.datasets import dataset_record, find_dataset, record_dataset
from clnet.decoders_registry.decoders import (
    check_pins,
    decoder_record,
    insert_decoder,
)
from clnet.decoders_registry.encoders import (
    body_part_record,
    encoder_record,
    find_body_part_model,
    find_encoder,
    insert_model,
)
from clnet.decoders_registry.lineage import Touched, touched
from clnet.decoders_registry.nodes import find_decoder
from clnet.decoders_registry.records import (
    BodyPartRecord,
    DatasetRecord,
    DatasetUse,
    DecoderDraft,
    DecoderRecord,
    DecoderStatus,
    EncoderRecord,
    Lineage,
    Supporter,
    TicketRecord,
    checked,
    now,
    plain,
)
from clnet.decoders_registry.refs import Kind, Node, check_group, parse_ref
from clnet.decoders_registry.tables import BodyPartRow, DecoderRow, EncoderRow
from clnet.errors import InputError

__all__ = ["Registering"]


class Registering(Core):
    """The methods that add. Bytes are stored first, then all rows in one transaction."""

    def add_encoder(
        self,
        name: str,
        data: bytes,
        plan: Mapping[str, Any],
        config: Mapping[str, Any],
        lineage: Lineage,
    ) -> EncoderRecord:
        """Store a frozen encoder as the next version of ``encoder/<name>``.

        The same bytes under the same name are the same version: nothing is added twice.

        Raises:
            InputError: a name that cannot be one, or content without a JSON form.
            Incompatible: the lineage names a withdrawn dataset.
        """
        fields = self._store_model("encoder", name, data, config, lineage)
        kept_plan = plain(plan)

        def work(session: Session) -> EncoderRecord:
            row, new = insert_model(session, EncoderRow(**fields, plan=kept_plan))
            if new:
                note(session, self.actor, "encoder.add", row.ref, sha256=row.sha256)
            return encoder_record(row)

        return self.database.write(work)

    def add_body_part_model(
        self,
        name: str,
        data: bytes,
        lineage: Lineage,
        config: Mapping[str, Any] | None = None,
    ) -> BodyPartRecord:
        """Store a frozen body-part model as the next version of ``bpr/<name>``.

        The same bytes under the same name are the same version: nothing is added twice.
        """
        fields = self._store_model("body_part_model", name, data, config or {}, lineage)

        def work(session: Session) -> BodyPartRecord:
            row, new = insert_model(session, BodyPartRow(**fields))
            if new:
                note(session, self.actor, "body_part_model.add", row.ref, sha256=row.sha256)
            return body_part_record(row)

        return self.database.write(work)

    def _store_model(
        self, kind: Kind, name: str, data: bytes, config: Mapping[str, Any], lineage: Lineage
    ) -> dict[str, Any]:
        if "@" in name:
            raise InputError(f"{kind} name {name!r}: the registry gives the version")
        return {
            "name": parse_ref(name, kind).name,
            "version": 0,
            "config": plain(config),
            "lineage": lineage.model_dump(mode="json"),
            "created": now(),
            "sha256": self.artefacts.put(data),
        }

    def add_decoder(
        self,
        group: str,
        data: bytes,
        *,
        encoder: str,
        body_part_model: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        learned: Sequence[str],
        lineage: Lineage,
        unions: Sequence[Sequence[str]] = (),
        ranges: Mapping[str, Any] | None = None,
        supporters: Sequence[str] = (),
        parent: str | None = None,
        ticket: TicketRecord | None = None,
        status: DecoderStatus = "accepted",
        status_reason: str = "",
        alias: str | None = "candidate",
    ) -> DecoderRecord:
        """Store the next version of a group's decoder and point `alias` at it.

        Refs of encoder, body-part model, supporters and parent are pinned by hash as they
        stand now. The same bytes in the same group are the same version: nothing is added
        twice and no alias moves.

        Raises:
            NotFound: something it is pinned to is not here.
            Incompatible: supporters or parent do not fit, the group segments other anatomies,
                the lineage names a withdrawn dataset, or a candidate would be `production`.
        """
        with self.database.read() as session:
            pinned_encoder = find_encoder(session, encoder)
            pinned_body = find_body_part_model(session, body_part_model)
            pinned = [find_decoder(session, ref) for ref in supporters]
            draft = checked(
                DecoderDraft,
                f"decoder of {group}",
                group=check_group(group),
                sha256=hashlib.sha256(data).hexdigest(),
                encoder_ref=pinned_encoder.ref,
                encoder_sha256=pinned_encoder.sha256,
                body_part_model_ref=pinned_body.ref,
                body_part_model_sha256=pinned_body.sha256,
                config=config,
                metrics=metrics,
                learned=tuple(learned),
                unions=tuple(tuple(union) for union in unions),
                ranges=ranges or {},
                supporters=tuple(Supporter(ref=row.ref, sha256=row.sha256) for row in pinned),
                parent_ref=None if parent is None else find_decoder(session, parent).ref,
                status=status,
                status_reason=status_reason,
                ticket=ticket,
                lineage=lineage,
            )
            check_pins(session, draft)  # before the bytes are stored, not only after
        if ticket is not None and ticket.dense_sha is not None:
            self.artefacts.get(ticket.dense_sha)
        self.artefacts.put(data)

        def work(session: Session) -> DecoderRecord:
            row, new = insert_decoder(session, draft, None)
            if new:
                note(session, self.actor, "decoder.add", row.ref, sha256=row.sha256)
                if alias is not None:
                    self._point(session, row, alias)
            return decoder_record(row)

        return self.database.write(work)

    def add_probe(self, ref: str, data: bytes) -> DecoderRecord:
        """Keep what a decoder version answered to a phantom; the first answer stays for good."""
        sha256 = self.artefacts.put(data)

        def work(session: Session) -> DecoderRecord:
            row = find_decoder(session, ref)
            if row.probe_sha256 is None:
                row.probe_sha256 = sha256
                note(session, self.actor, "decoder.probe", row.ref, sha256=sha256)
            return decoder_record(row)

        return self.database.write(work)

    def promote(self, group: str, version: int, alias: str = "production") -> DecoderRecord:
        """Point `alias` of `group` at a version.

        Raises:
            NotFound: no such version.
            Incompatible: `production` takes accepted versions only.
        """

        def work(session: Session) -> DecoderRecord:
            row = find_decoder(session, f"{group}@{version}")
            self._point(session, row, alias)
            return decoder_record(row)

        return self.database.write(work)

    def _point(self, session: Session, row: DecoderRow, alias: str) -> None:
        before = set_alias(session, row, alias)
        if before != row.ref:
            note(session, self.actor, "decoder.promote", row.ref, alias=alias, before=before)

    def accept(self, ref: str, reason: str) -> DecoderRecord:
        """Turn a candidate into an accepted version, saying why."""

        def work(session: Session) -> DecoderRecord:
            row = find_decoder(session, ref)
            row.status, row.status_reason = "accepted", reason
            note(session, self.actor, "decoder.accept", row.ref, reason=reason)
            return decoder_record(row)

        return self.database.write(work)

    def record_dataset(
        self,
        ref: str,
        sha256: str,
        terms: Mapping[str, Any],
        held_at: str | None = None,
        fingerprint: Mapping[str, Any] | None = None,
    ) -> DatasetRecord:
        """Make a dataset version known by hash, wherever its bytes live (`held_at`: site).

        Raises:
            AlreadyExists: the ref is taken by other content.
        """
        use = checked(
            DatasetUse, f"dataset {ref}", ref=ref, sha256=sha256, terms=terms, held_at=held_at
        )
        kept_fingerprint = plain(fingerprint or {})

        def work(session: Session) -> DatasetRecord:
            row, new = record_dataset(session, use, kept_fingerprint)
            if new:
                note(session, self.actor, "dataset.record", ref, sha256=sha256)
            return dataset_record(row)

        return self.database.write(work)

    def take_dataset(self, ref: str) -> DatasetRecord:
        """Note that the bytes of a version, held elsewhere so far, are now here.

        Raises:
            NotFound: no such version.
        """

        def work(session: Session) -> DatasetRecord:
            row = find_dataset(session, ref)
            if row.held_at is not None:
                note(session, self.actor, "dataset.arrive", ref, before=row.held_at)
                row.held_at = None
            return dataset_record(row)

        return self.database.write(work)

    def withdraw_dataset(self, ref: str, reason: str) -> Touched:
        """Mark a dataset version as withdrawn; returns what must be retrained without it.

        The record stays as a tombstone. Nothing new can be registered that learned from it.
        """

        def work(session: Session) -> Touched:
            row = find_dataset(session, ref)
            if row.withdrawn is None:
                row.withdrawn, row.withdrawn_reason = now(), reason
                note(session, self.actor, "dataset.withdraw", ref, reason=reason)
            return touched(session, Node("dataset", ref))

        return self.database.write(work)
