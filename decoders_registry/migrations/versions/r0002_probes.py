"""Decoder versions may carry a probe.

Revision ID: r0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"


def upgrade() -> None:
    """Add the hash of the probe, unknown for what is there already."""
    op.add_column(
        "decoder_versions", sa.Column("probe_sha256", sa.String(length=64), nullable=True)
    )
