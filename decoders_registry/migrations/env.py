"""Runs migrations on the connection that `Database` gives, inside its transaction.

A change of the tables is one more file in ``versions/`` with the next number, which
`database.SCHEMA` then names; a test holds the migrated schema equal to the tables.
"""

from __future__ import annotations

from alembic import context

from clnet.decoders_registry.tables import VersionedRow

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=VersionedRow.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
