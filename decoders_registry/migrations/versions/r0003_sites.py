"""Sites with their tokens and keys; the journal's lines are chained by hash.

Revision ID: r0003
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from clnet.decoders_registry.audit import GENESIS, line_sha256
from clnet.decoders_registry.columns import Json, UtcDateTime

revision = "r0003"
down_revision = "r0002"

MOMENT = sa.DateTime(timezone=True)
HASH = sa.String(length=64)
NAME = sa.String(length=255)


def upgrade() -> None:
    """Chain the lines that are there, and create the tables of sites."""
    _allow_changes()
    op.add_column("audit", sa.Column("previous", HASH, nullable=True))
    op.add_column("audit", sa.Column("sha256", HASH, nullable=True))
    _chain()
    with op.batch_alter_table("audit") as audit:
        audit.alter_column("previous", existing_type=HASH, nullable=False)
        audit.alter_column("sha256", existing_type=HASH, nullable=False)
        audit.create_unique_constraint(op.f("uq_audit_previous"), ["previous"])
    _refuse_changes()
    op.create_table(
        "sites",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("most_bytes", sa.BigInteger(), nullable=True),
        sa.Column("most_cases", sa.Integer(), nullable=True),
        sa.Column("created", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sites")),
        sa.UniqueConstraint("name", name=op.f("uq_sites_name")),
    )
    op.create_table(
        "site_tokens",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("label", NAME, nullable=False),
        sa.Column("salt", HASH, nullable=False),
        sa.Column("digest", HASH, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("expires", MOMENT, nullable=True),
        sa.Column("revoked", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_site_tokens_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_site_tokens")),
    )
    op.create_index(op.f("ix_site_tokens_site_id"), "site_tokens", ["site_id"], unique=False)
    op.create_table(
        "site_keys",
        sa.Column("fingerprint", HASH, nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("public_key", HASH, nullable=False),
        sa.Column("label", NAME, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("revoked", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_site_keys_site_id")),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_site_keys")),
    )
    op.create_index(op.f("ix_site_keys_site_id"), "site_keys", ["site_id"], unique=False)


def _chain() -> None:
    audit = sa.table(
        "audit",
        sa.column("id", sa.Integer()),
        sa.column("at", UtcDateTime()),
        *(sa.column(name, NAME) for name in ("actor", "action", "subject")),
        sa.column("detail", Json),
        *(sa.column(name, HASH) for name in ("previous", "sha256")),
    )
    connection = op.get_bind()
    lines = connection.execute(
        sa.select(
            *(audit.c[n] for n in ("id", "at", "actor", "action", "subject", "detail"))
        ).order_by(audit.c.id)
    ).all()
    previous = GENESIS
    for line in lines:
        at: datetime = line.at.astimezone(UTC)
        sha256 = line_sha256(previous, at, line.actor, line.action, line.subject, dict(line.detail))
        connection.execute(
            sa.update(audit).where(audit.c.id == line.id).values(previous=previous, sha256=sha256)
        )
        previous = sha256


def _allow_changes() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER audit_is_append_only ON audit")
    else:
        for change in ("update", "delete"):
            op.execute(f"DROP TRIGGER audit_no_{change}")


def _refuse_changes() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit "
            "FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()"
        )
        op.execute(
            "CREATE TRIGGER audit_is_never_emptied BEFORE TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
        )
    else:
        for change in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER audit_no_{change} BEFORE {change.upper()} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
            )
