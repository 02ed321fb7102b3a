"""The first schema.

Revision ID: r0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "r0001"
down_revision = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
MOMENT = sa.DateTime(timezone=True)
HASH = sa.String(length=64)
NAME = sa.String(length=255)


def upgrade() -> None:
    """Create every table, and make the audit table append-only."""
    op.create_table(
        "anatomy_groups",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("layer", NAME, nullable=True),
        sa.Column("anatomies", JSON, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_anatomy_groups")),
        sa.UniqueConstraint("name", name=op.f("uq_anatomy_groups_name")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("subject", NAME, nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_subject"), "audit", ["subject"], unique=False)
    op.create_table(
        "body_part_models",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("lineage", JSON, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_body_part_models")),
        sa.UniqueConstraint("name", "sha256", name=op.f("uq_body_part_models_name_sha256")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_body_part_models_name_version")),
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ref", NAME, nullable=False),
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("terms", JSON, nullable=False),
        sa.Column("held_at", NAME, nullable=True),
        sa.Column("fingerprint", JSON, nullable=False),
        sa.Column("withdrawn", MOMENT, nullable=True),
        sa.Column("withdrawn_reason", sa.Text(), nullable=True),
        sa.Column("created", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("ref", name=op.f("uq_datasets_ref")),
    )
    op.create_index(op.f("ix_datasets_sha256"), "datasets", ["sha256"], unique=False)
    op.create_table(
        "encoders",
        sa.Column("plan", JSON, nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("lineage", JSON, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_encoders")),
        sa.UniqueConstraint("name", "sha256", name=op.f("uq_encoders_name_sha256")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_encoders_name_version")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("events", sa.Text(), nullable=True),
        sa.Column("results", JSON, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("owner", NAME, nullable=True),
        sa.Column("heartbeat", MOMENT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("started", MOMENT, nullable=True),
        sa.Column("ended", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_created"), "jobs", ["created"], unique=False)
    op.create_index(op.f("ix_jobs_status"), "jobs", ["status"], unique=False)
    op.create_table(
        "lineage_edges",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("child_kind", sa.String(length=20), nullable=False),
        sa.Column("child_ref", NAME, nullable=False),
        sa.Column("parent_kind", sa.String(length=20), nullable=False),
        sa.Column("parent_ref", NAME, nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lineage_edges")),
        sa.UniqueConstraint(
            "child_kind", "child_ref", "parent_kind", "parent_ref", "role", name="uq_lineage_edges"
        ),
    )
    op.create_index(
        op.f("ix_lineage_edges_parent_kind_parent_ref"),
        "lineage_edges",
        ["parent_kind", "parent_ref"],
        unique=False,
    )
    op.create_table(
        "decoder_versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("group_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("encoder_id", sa.Integer(), nullable=False),
        sa.Column("body_part_model_id", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("config", JSON, nullable=False),
        sa.Column("metrics", JSON, nullable=False),
        sa.Column("learned", JSON, nullable=False),
        sa.Column("unions", JSON, nullable=False),
        sa.Column("ranges", JSON, nullable=False),
        sa.Column("supporters", JSON, nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=False),
        sa.Column("lineage", JSON, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["body_part_model_id"],
            ["body_part_models.id"],
            name=op.f("fk_decoder_versions_body_part_model_id"),
        ),
        sa.ForeignKeyConstraint(
            ["encoder_id"], ["encoders.id"], name=op.f("fk_decoder_versions_encoder_id")
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["anatomy_groups.id"], name=op.f("fk_decoder_versions_group_id")
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["decoder_versions.id"], name=op.f("fk_decoder_versions_parent_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decoder_versions")),
        sa.UniqueConstraint("group_id", "sha256", name=op.f("uq_decoder_versions_group_id_sha256")),
        sa.UniqueConstraint(
            "group_id", "version", name=op.f("uq_decoder_versions_group_id_version")
        ),
    )
    op.create_index(
        op.f("ix_decoder_versions_body_part_model_id"),
        "decoder_versions",
        ["body_part_model_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_decoder_versions_encoder_id"), "decoder_versions", ["encoder_id"], unique=False
    )
    op.create_index(
        op.f("ix_decoder_versions_parent_id"), "decoder_versions", ["parent_id"], unique=False
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("encoder_id", sa.Integer(), nullable=False),
        sa.Column("body_part_model_id", sa.Integer(), nullable=False),
        sa.Column("parent_name", NAME, nullable=True),
        sa.Column("parent_sha256", HASH, nullable=True),
        sa.Column("policy", JSON, nullable=False),
        sa.Column("terms", JSON, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["body_part_model_id"],
            ["body_part_models.id"],
            name=op.f("fk_releases_body_part_model_id"),
        ),
        sa.ForeignKeyConstraint(
            ["encoder_id"], ["encoders.id"], name=op.f("fk_releases_encoder_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint("name", name=op.f("uq_releases_name")),
    )
    op.create_table(
        "aliases",
        sa.Column("group_id", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(length=40), nullable=False),
        sa.Column("decoder_id", sa.Integer(), nullable=False),
        sa.Column("changed", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["decoder_id"], ["decoder_versions.id"], name=op.f("fk_aliases_decoder_id")
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["anatomy_groups.id"], name=op.f("fk_aliases_group_id")
        ),
        sa.PrimaryKeyConstraint("group_id", "alias", name=op.f("pk_aliases")),
    )
    op.create_index(op.f("ix_aliases_decoder_id"), "aliases", ["decoder_id"], unique=False)
    op.create_table(
        "release_decoders",
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("decoder_id", sa.Integer(), nullable=False),
        sa.Column("tier", sa.Integer(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["decoder_id"], ["decoder_versions.id"], name=op.f("fk_release_decoders_decoder_id")
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["releases.id"], name=op.f("fk_release_decoders_release_id")
        ),
        sa.PrimaryKeyConstraint("release_id", "decoder_id", name=op.f("pk_release_decoders")),
    )
    op.create_index(
        op.f("ix_release_decoders_decoder_id"), "release_decoders", ["decoder_id"], unique=False
    )
    op.create_table(
        "tickets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("decoder_id", sa.Integer(), nullable=False),
        sa.Column("rate", sa.Double(), nullable=False),
        sa.Column("sparsity", sa.Double(), nullable=False),
        sa.Column("rewind", NAME, nullable=True),
        sa.Column("dense_sha", HASH, nullable=True),
        sa.Column("mask_sha256", HASH, nullable=True),
        sa.Column("details", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["decoder_id"], ["decoder_versions.id"], name=op.f("fk_tickets_decoder_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tickets")),
        sa.UniqueConstraint("decoder_id", name=op.f("uq_tickets_decoder_id")),
    )

    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit "
            "FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()"
        )
    else:
        for change in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER audit_no_{change} BEFORE {change.upper()} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
            )
