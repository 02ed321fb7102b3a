"""The registry's tables. Rows never leave the part: see `records` for what callers get."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from clnet.decoders_registry.columns import Base, Hash

__all__ = [
    "AliasRow",
    "AuditRow",
    "BodyPartRow",
    "DatasetRow",
    "DecoderRow",
    "EdgeRow",
    "EncoderRow",
    "GroupRow",
    "JobRow",
    "ReleaseDecoderRow",
    "ReleaseRow",
    "SiteKeyRow",
    "SiteRow",
    "SiteTokenRow",
    "TicketRow",
    "VersionedRow",
]


class VersionedRow(Base):
    """Columns that encoders and body-part models share."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int]
    sha256: Mapped[str] = mapped_column(Hash)
    config: Mapped[dict[str, Any]]
    lineage: Mapped[dict[str, Any]]
    created: Mapped[datetime]

    @property
    def ref(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


class EncoderRow(VersionedRow):
    """A frozen encoder."""

    __tablename__ = "encoders"
    __table_args__ = (UniqueConstraint("name", "version"), UniqueConstraint("name", "sha256"))

    plan: Mapped[dict[str, Any]]


class BodyPartRow(VersionedRow):
    """A frozen body-part model."""

    __tablename__ = "body_part_models"
    __table_args__ = (UniqueConstraint("name", "version"), UniqueConstraint("name", "sha256"))


class GroupRow(Base):
    """What one decoder segments, as its first version said."""

    __tablename__ = "anatomy_groups"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    layer: Mapped[str | None]
    anatomies: Mapped[list[Any]]
    created: Mapped[datetime]


class DecoderRow(Base):
    """An immutable decoder version; only its status changes, and a probe may be added once."""

    __tablename__ = "decoder_versions"
    __table_args__ = (
        UniqueConstraint("group_id", "version"),
        UniqueConstraint("group_id", "sha256"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    group_id: Mapped[int] = mapped_column(ForeignKey("anatomy_groups.id"))
    version: Mapped[int]
    sha256: Mapped[str] = mapped_column(Hash)
    encoder_id: Mapped[int] = mapped_column(ForeignKey("encoders.id"), index=True)
    body_part_model_id: Mapped[int] = mapped_column(ForeignKey("body_part_models.id"), index=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("decoder_versions.id"), index=True)
    config: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]
    learned: Mapped[list[Any]]
    unions: Mapped[list[Any]]
    ranges: Mapped[dict[str, Any]]
    supporters: Mapped[list[Any]]
    status: Mapped[str] = mapped_column(String(20))
    status_reason: Mapped[str] = mapped_column(Text)
    lineage: Mapped[dict[str, Any]]
    created: Mapped[datetime]
    probe_sha256: Mapped[str | None] = mapped_column(Hash)

    group: Mapped[GroupRow] = relationship(lazy="joined", innerjoin=True)
    encoder: Mapped[EncoderRow] = relationship(lazy="joined", innerjoin=True)
    body_part_model: Mapped[BodyPartRow] = relationship(lazy="joined", innerjoin=True)
    parent: Mapped[DecoderRow | None] = relationship(remote_side=id, lazy="select")
    ticket: Mapped[TicketRow | None] = relationship(lazy="selectin", back_populates="decoder")
    aliases: Mapped[list[AliasRow]] = relationship(lazy="selectin", viewonly=True)

    @property
    def ref(self) -> str:
        """``group@version``."""
        return f"{self.group.name}@{self.version}"


class TicketRow(Base):
    """How a decoder version was pruned."""

    __tablename__ = "tickets"

    id: Mapped[int] = mapped_column(primary_key=True)
    decoder_id: Mapped[int] = mapped_column(ForeignKey("decoder_versions.id"), unique=True)
    rate: Mapped[float]
    sparsity: Mapped[float]
    rewind: Mapped[str | None]
    dense_sha: Mapped[str | None] = mapped_column(Hash)
    mask_sha256: Mapped[str | None] = mapped_column(Hash)
    details: Mapped[dict[str, Any]]

    decoder: Mapped[DecoderRow] = relationship(back_populates="ticket", lazy="select")


class AliasRow(Base):
    """A name that points at one version of a group, and moves."""

    __tablename__ = "aliases"

    group_id: Mapped[int] = mapped_column(ForeignKey("anatomy_groups.id"), primary_key=True)
    alias: Mapped[str] = mapped_column(String(40), primary_key=True)
    decoder_id: Mapped[int] = mapped_column(ForeignKey("decoder_versions.id"), index=True)
    changed: Mapped[datetime]


class ReleaseRow(Base):
    """An immutable release. Its parent is a name, it need not be here."""

    __tablename__ = "releases"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[str] = mapped_column(Hash)
    encoder_id: Mapped[int] = mapped_column(ForeignKey("encoders.id"))
    body_part_model_id: Mapped[int] = mapped_column(ForeignKey("body_part_models.id"))
    parent_name: Mapped[str | None]
    parent_sha256: Mapped[str | None] = mapped_column(Hash)
    policy: Mapped[dict[str, Any]]
    terms: Mapped[dict[str, Any]]
    created: Mapped[datetime]

    encoder: Mapped[EncoderRow] = relationship(lazy="joined", innerjoin=True)
    body_part_model: Mapped[BodyPartRow] = relationship(lazy="joined", innerjoin=True)
    members: Mapped[list[ReleaseDecoderRow]] = relationship(
        order_by="(ReleaseDecoderRow.tier, ReleaseDecoderRow.position)", lazy="selectin"
    )


class ReleaseDecoderRow(Base):
    """A decoder in a release; without a tier it is there only to support others."""

    __tablename__ = "release_decoders"

    release_id: Mapped[int] = mapped_column(ForeignKey("releases.id"), primary_key=True)
    decoder_id: Mapped[int] = mapped_column(
        ForeignKey("decoder_versions.id"), primary_key=True, index=True
    )
    tier: Mapped[int | None]
    position: Mapped[int]

    decoder: Mapped[DecoderRow] = relationship(lazy="selectin")


class DatasetRow(Base):
    """A dataset version; `withdrawn` makes it a tombstone."""

    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(primary_key=True)
    ref: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[str] = mapped_column(Hash, index=True)
    terms: Mapped[dict[str, Any]]
    held_at: Mapped[str | None]
    fingerprint: Mapped[dict[str, Any]]
    withdrawn: Mapped[datetime | None]
    withdrawn_reason: Mapped[str | None] = mapped_column(Text)
    created: Mapped[datetime]


class EdgeRow(Base):
    """The child came from the parent, in this role."""

    __tablename__ = "lineage_edges"
    __table_args__ = (
        UniqueConstraint(
            "child_kind", "child_ref", "parent_kind", "parent_ref", "role", name="uq_lineage_edges"
        ),
        Index(None, "parent_kind", "parent_ref"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    child_kind: Mapped[str] = mapped_column(String(20))
    child_ref: Mapped[str]
    parent_kind: Mapped[str] = mapped_column(String(20))
    parent_ref: Mapped[str]
    role: Mapped[str] = mapped_column(String(20))


class JobRow(Base):
    """A piece of work for a runner."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    status: Mapped[str] = mapped_column(String(20), index=True)
    spec: Mapped[dict[str, Any]]
    events: Mapped[str | None] = mapped_column(Text)
    results: Mapped[list[Any]]
    error: Mapped[str | None] = mapped_column(Text)
    owner: Mapped[str | None]
    heartbeat: Mapped[datetime | None]
    attempts: Mapped[int]
    created: Mapped[datetime] = mapped_column(index=True)
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]


class AuditRow(Base):
    """Who did what, when. Triggers refuse to change or delete a line, and lines are chained."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(index=True)
    detail: Mapped[dict[str, Any]]
    previous: Mapped[str] = mapped_column(Hash, unique=True)
    sha256: Mapped[str] = mapped_column(Hash)


class SiteRow(Base):
    """A site that contributes; its namespace is its name."""

    __tablename__ = "sites"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str] = mapped_column(Text)
    most_bytes: Mapped[int | None] = mapped_column(BigInteger)
    most_cases: Mapped[int | None]
    created: Mapped[datetime]


class SiteTokenRow(Base):
    """An access token of a site: never itself, only what scrypt makes of it."""

    __tablename__ = "site_tokens"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("sites.id"), index=True)
    label: Mapped[str]
    salt: Mapped[str] = mapped_column(Hash)
    digest: Mapped[str] = mapped_column(Hash)
    created: Mapped[datetime]
    expires: Mapped[datetime | None]
    revoked: Mapped[datetime | None]

    site: Mapped[SiteRow] = relationship(lazy="joined", innerjoin=True)


class SiteKeyRow(Base):
    """A public key with which a site signs bundles; one key belongs to one site for good."""

    __tablename__ = "site_keys"

    fingerprint: Mapped[str] = mapped_column(Hash, primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("sites.id"), index=True)
    public_key: Mapped[str] = mapped_column(Hash)
    label: Mapped[str]
    created: Mapped[datetime]
    revoked: Mapped[datetime | None]

    site: Mapped[SiteRow] = relationship(lazy="joined", innerjoin=True)
