"""Making releases, comparing them, and carrying them from hub to hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from clnet.decoders_registry.adopting import insert_bundle
from clnet.decoders_registry.aliases import lend_alias
from clnet.decoders_registry.audit import note
from clnet.decoders_registry.bundle import (
    ImportedRelease,
    pack,
    read_artefacts,
    read_bundle,
    write_bundle,
)
from clnet.decoders_registry.core import Core
from clnet.decoders_registry.diff import ReleaseDiff, compare
from clnet.decoders_registry.lineage import nested, upstream
from clnet.decoders_registry.nodes import describe, find_release
from clnet.decoders_registry.refs import Node
from clnet.decoders_registry.releases import (
    ReleaseRecord,
    all_releases,
    compose,
    descends_from,
    insert_release,
    release_record,
)
from clnet.errors import Incompatible

__all__ = ["Releasing"]


class Releasing(Core):
    """The methods about releases."""

    def create_release(
        self,
        name: str,
        decoders: Sequence[str] | str = (),
        encoder: str | None = None,
        body_part_model: str | None = None,
        parent: str | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> ReleaseRecord:
        """Put decoders together as a release that never changes.

        With a parent its tiers come first; a chosen version takes its group's old place, new
        groups form the last tier. Supporters are added at exactly their pinned versions, and
        are not served unless chosen.

        Args:
            decoders: refs, or an alias (``production``): every group's version of that name.
            encoder, body_part_model: by default the parent's, or those of the decoders.
            policy: gating, calibration, clean-up; by default the parent's.

        Raises:
            Incompatible: decoders of another encoder or body-part model, two versions of one
                group, an anatomy predicted twice although the policy is not anomaly-aware, or
                terms that cannot be met together.
            AlreadyExists: the name is taken by other content. The same content again
                returns the release as it is.
        """

        def work(session: Session) -> ReleaseRecord:
            composition = compose(session, name, decoders, encoder, body_part_model, parent, policy)
            row, new = insert_release(session, composition)
            if new:
                note(session, self.actor, "release.create", name, sha256=row.sha256)
            return release_record(session, row)

        return self.database.write(work)

    def release(self, name: str) -> ReleaseRecord:
        """The release called `name`."""
        with self.database.read() as session:
            return release_record(session, find_release(session, name))

    def releases(self) -> list[ReleaseRecord]:
        """All releases, oldest first."""
        with self.database.read() as session:
            return [release_record(session, row) for row in all_releases(session)]

    def diff(self, before: str, after: str) -> ReleaseDiff:
        """What changed between two releases, by group."""
        with self.database.read() as session:
            old, new = (release_record(session, find_release(session, n)) for n in (before, after))
            return compare(old, new, descends=descends_from(session, new, old))

    def export_release(self, name: str, folder: Path) -> int:
        """Write the release and all it came from as a folder; returns the artefacts' bytes.

        The folder holds ``release.json`` and ``<sha256>.safetensors`` files, whole or not at
        all. Dense checkpoints stay behind.

        Raises:
            AlreadyExists: the folder is there.
            Incompatible: a dataset in its lineage was withdrawn.
        """
        root = Node("release", name)
        with self.database.read() as session:
            release = release_record(session, find_release(session, name))
            if release.withdrawn:
                raise Incompatible(
                    f"release {name} learned from {', '.join(release.withdrawn)}, withdrawn "
                    "since; release without the decoders that touched it, and export that"
                )
            edges = upstream(session, [root])
            facts = describe(session, {root, *(edge.parent for edge in edges)})
            bundle = pack(session, release, edges, nested(root, edges, facts))
        return write_bundle(Path(folder), bundle, self.artefacts)

    def import_release(self, folder: Path, alias: str | None = None) -> ImportedRelease:
        """Add a release that an export wrote; may be repeated, and goes on where it stopped.

        Refs are kept. What is here already under the same ref and hash is reused; nothing
        here is changed.

        Args:
            alias: given to accepted, served versions whose group has no such alias yet.

        Raises:
            NotFound, InputError: the folder is not what an export writes.
            IntegrityError: bytes or content do not hash to what they should.
            Incompatible: a ref is taken by other content.
        """
        bundle = read_bundle(Path(folder))
        total_bytes = read_artefacts(Path(folder), bundle, self.artefacts)

        def work(session: Session) -> ImportedRelease:
            composition, done = insert_bundle(session, bundle, self.artefacts)
            row, new = insert_release(session, composition)
            done.append((row.name, new))
            added = tuple(ref for ref, fresh in done if fresh)
            if added:
                note(session, self.actor, "release.import", row.name, added=added)
            if alias is not None:
                for decoder in (m.decoder for m in row.members if m.tier is not None):
                    if lend_alias(session, decoder, alias):
                        note(session, self.actor, "decoder.promote", decoder.ref, alias=alias)
            return ImportedRelease(
                **dict(release_record(session, row)),
                added=added,
                reused=tuple(ref for ref, fresh in done if not fresh),
                total_bytes=total_bytes,
            )

        return self.database.write(work)
