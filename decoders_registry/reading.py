"""Looking things up: by reference, as lists, and along their lineage."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.core import Core
from clnet.decoders_registry.datasets import (
    all_datasets,
    dataset_record,
    find_dataset,
    refuse_withdrawn,
)
from clnet.decoders_registry.decoders import all_decoders, all_groups, decoder_record
from clnet.decoders_registry.encoders import (
    all_models,
    body_part_record,
    encoder_record,
    find_body_part_model,
    find_encoder,
)
from clnet.decoders_registry.folding import leaned_on
from clnet.decoders_registry.lineage import Touched, nested, touched, upstream
from clnet.decoders_registry.nodes import (
    data_behind,
    describe,
    find_decoder,
    find_node,
    find_release,
    refuse_touched,
)
from clnet.decoders_registry.records import (
    BodyPartRecord,
    DatasetRecord,
    DecoderRecord,
    EncoderRecord,
    GroupRecord,
)
from clnet.decoders_registry.refs import Kind, Node
from clnet.decoders_registry.releases import check_content, release_record
from clnet.decoders_registry.tables import BodyPartRow, EncoderRow, TicketRow
from clnet.decoders_registry.terms import UnitedTerms, unite
from clnet.decoders_registry.verify import VerifyReport, check_artefacts, check_named

__all__ = ["Reading"]


class Reading(Core):
    """The methods that only look. All raise NotFound for what is not there."""

    def encoder(self, ref: str) -> EncoderRecord:
        """``encoder/starter@1``; without a version the newest."""
        with self.database.read() as session:
            return encoder_record(find_encoder(session, ref))

    def encoders(self) -> list[EncoderRecord]:
        """All encoder versions, by name."""
        with self.database.read() as session:
            return [encoder_record(row) for row in all_models(session, EncoderRow)]

    def body_part_model(self, ref: str) -> BodyPartRecord:
        """``bpr/starter@1``; without a version the newest."""
        with self.database.read() as session:
            return body_part_record(find_body_part_model(session, ref))

    def body_part_models(self) -> list[BodyPartRecord]:
        """All body-part model versions, by name."""
        with self.database.read() as session:
            return [body_part_record(row) for row in all_models(session, BodyPartRow)]

    def decoder(self, ref: str) -> DecoderRecord:
        """``abdomen/liver@3`` or ``abdomen/liver@production``; without either the newest."""
        with self.database.read() as session:
            return decoder_record(find_decoder(session, ref))

    def leaned_on(self, *decoders: DecoderRecord) -> tuple[DecoderRecord, ...]:
        """Versions that these lean on, directly or not, beside themselves; by ref."""
        with self.database.read() as session:
            return leaned_on(decoders, lambda ref: decoder_record(find_decoder(session, ref)))

    def decoders(self, group: str | None = None) -> list[DecoderRecord]:
        """All versions, by group and number."""
        with self.database.read() as session:
            return [decoder_record(row) for row in all_decoders(session, group)]

    def groups(self) -> list[GroupRecord]:
        """All anatomy groups that have decoders, with their aliases."""
        with self.database.read() as session:
            return all_groups(session)

    def dataset(self, ref: str) -> DatasetRecord:
        """A dataset version, withdrawn ones included."""
        with self.database.read() as session:
            return dataset_record(find_dataset(session, ref))

    def datasets(self) -> list[DatasetRecord]:
        """All known dataset versions, withdrawn ones included."""
        with self.database.read() as session:
            return [dataset_record(row) for row in all_datasets(session)]

    def check_usable(self, dataset: str) -> None:
        """See that nothing forbids to learn from a dataset version; unknown ones pass.

        Raises:
            Incompatible: it was withdrawn.
        """
        with self.database.read() as session:
            refuse_withdrawn(session, dataset)

    def check_source(self, ref: str, kind: Kind | None = None) -> None:
        """See that nothing forbids to make something new from an artefact.

        Args:
            ref: a decoder version, encoder or body-part model.
            kind: needed only where a decoder version and a dataset share a name.

        Raises:
            Incompatible: data that went into it was withdrawn, however far back.
        """
        with self.database.read() as session:
            refuse_touched(session, find_node(session, ref, kind))

    def lineage_of(self, ref: str, kind: Kind | None = None) -> dict[str, Any]:
        """Everything that `ref` came from, nested under ``from``, down to the datasets.

        Args:
            ref: a release, decoder version, encoder, body-part model or dataset.
            kind: needed only where a decoder version and a dataset share a name.
        """
        with self.database.read() as session:
            root = find_node(session, ref, kind)
            edges = upstream(session, [root])
            facts = describe(session, {root, *(edge.parent for edge in edges)})
            return nested(root, edges, facts)

    def terms_of(self, ref: str, kind: Kind | None = None) -> UnitedTerms:
        """The union of obligations of all data that went into `ref`, however far back.

        Args:
            ref: a release, decoder version, encoder, body-part model or dataset.
            kind: needed only where a decoder version and a dataset share a name.
        """
        with self.database.read() as session:
            root = find_node(session, ref, kind)
            return unite({row.ref: row.terms for row in data_behind(session, [root])})

    def touched_by(self, dataset: str) -> Touched:
        """Every encoder, body-part model, decoder and release that a dataset version went into."""
        with self.database.read() as session:
            return touched(session, Node("dataset", find_dataset(session, dataset).ref))

    def check_release(self, name: str) -> None:
        """Look that the record of a release is what its hash says.

        Raises:
            IntegrityError: it is not: somebody changed the database.
        """
        with self.database.read() as session:
            check_content(release_record(session, find_release(session, name)))

    def verify_release(self, name: str) -> VerifyReport:
        """Check that all a release consists of is stored and hashes right, probes included.

        Raises:
            IntegrityError: the release's own record does not hash to what it says.
        """
        with self.database.read() as session:
            release = release_record(session, find_release(session, name))
        check_content(release)
        named = [
            (release.encoder_sha256, release.encoder_ref),
            (release.body_part_model_sha256, release.body_part_model_ref),
        ]
        for decoder in (*release.decoders, *release.supporters):
            named.append((decoder.sha256, decoder.ref))
            if decoder.probe_sha256 is not None:
                named.append((decoder.probe_sha256, f"probe of {decoder.ref}"))
        return check_named(self.artefacts, named)

    def verify(self) -> VerifyReport:
        """Check that every artefact a row names is stored and hashes right; list orphans."""
        with self.database.read() as session:
            named = _named(session)
        return check_artefacts(self.artefacts, named)


def _named(session: Session) -> list[tuple[str, str]]:
    named = [(row.sha256, row.ref) for row in all_models(session, EncoderRow)]
    named += [(row.sha256, row.ref) for row in all_models(session, BodyPartRow)]
    for row in all_decoders(session, None):
        named.append((row.sha256, row.ref))
        if row.probe_sha256 is not None:
            named.append((row.probe_sha256, f"probe of {row.ref}"))
    kept = session.scalars(sa.select(TicketRow).where(TicketRow.dense_sha.is_not(None)))
    named += [(row.dense_sha, row.decoder.ref) for row in kept if row.dense_sha is not None]
    return named
