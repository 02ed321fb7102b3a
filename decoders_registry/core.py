"""What every part of the registry's face works with: database, artefacts, the acting person."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from clnet.decoders_registry.audit import AuditRecord, journal
from clnet.decoders_registry.database import Database
from clnet.storage import ArtefactStore

__all__ = ["Core"]


class Core:
    """Database and artefact store of one hub.

    Args:
        database_url: ``sqlite:///path/registry.db`` (or just the path) or ``postgresql://...``;
            created and migrated if need be.
        artefacts: where the bytes of models live.
        actor: who is written into the audit journal.
    """

    def __init__(
        self, database_url: str, artefacts: ArtefactStore, *, actor: str = "local"
    ) -> None:
        self.artefacts = artefacts
        self.actor = actor
        self.database = Database(database_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give database connections back."""
        self.database.close()

    def artefact(self, sha256: str) -> bytes:
        """The bytes of an artefact, verified.

        Raises:
            NotFound: not stored.
            IntegrityError: damaged.
        """
        return self.artefacts.get(sha256)

    def audit(
        self, subject: str | None = None, limit: int = 100, prefix: str | None = None
    ) -> list[AuditRecord]:
        """The newest lines of the journal, newest first; `prefix` is how their subject begins."""
        with self.database.read() as session:
            return journal(session, subject, limit, prefix)
