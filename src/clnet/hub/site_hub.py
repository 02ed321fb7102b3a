"""A hub as one site sees it: its own datasets, its quota, and what was done with them."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import Self

from clnet.data_catalog import Usage
from clnet.decoders_registry import AuditRecord, Registry, SiteRecord
from clnet.hub.access import Access
from clnet.hub.datasets import Datasets
from clnet.platform.workspace import Workspace

__all__ = ["SiteHub"]


class SiteHub:
    """What a site's access token opens. It has no method that reaches further.

    Args:
        workspace: of the hub.
        token: of the site.

    Raises:
        AccessDenied: the token is unknown, expired or revoked.
    """

    def __init__(self, workspace: Workspace, token: str) -> None:
        self._workspace = workspace
        registry = workspace.registry()
        try:
            admitted = registry.admit(token)
        except BaseException:
            registry.close()
            raise
        registry.actor = f"{admitted.site} ({admitted.label or admitted.id})"
        self._registry: Registry = registry
        self._site = admitted.site

    def __repr__(self) -> str:
        return f"SiteHub({self._site!r})"

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
        """Give the database's connections back."""
        self._registry.close()

    @property
    def site(self) -> SiteRecord:
        """The site, with its quota."""
        return self._registry.site(self._site)

    @cached_property
    def datasets(self) -> Datasets:
        """The site's datasets."""
        workspace = self._workspace
        return Datasets(
            workspace.catalog(), self._registry, workspace.case_workers, Access(self._site)
        )

    def usage(self) -> Usage:
        """What the site keeps here."""
        return self.datasets.usage(self._site)

    def audit(self, limit: int = 100) -> list[AuditRecord]:
        """What was done with the site's datasets, newest first."""
        return self._registry.audit(limit=limit, prefix=f"{self._site}/")
