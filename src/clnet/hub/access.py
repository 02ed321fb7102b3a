"""Whose hands a hub is in: its own people's, or one site's, which has a namespace and no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clnet.data_catalog import Dataset
from clnet.errors import AccessDenied, NotFound

__all__ = ["OWNER", "Access"]


@dataclass(frozen=True, slots=True)
class Access:
    """What may be seen and changed.

    Attributes:
        site: whose datasets; None for the hub's own people, who see and change everything.
    """

    site: str | None = None

    def sees(self, ref: str) -> bool:
        """Whether ``site/name`` or ``site/name@1`` may be looked at."""
        return self.site is None or ref.startswith(f"{self.site}/")

    def seen(self, datasets: Iterable[Dataset]) -> tuple[Dataset, ...]:
        """Those that may be looked at."""
        return tuple(dataset for dataset in datasets if self.sees(dataset.name))

    def require_seen(self, ref: str) -> None:
        """Say of what is another site's the same as of what is not there at all.

        Raises:
            NotFound: it may not be looked at.
        """
        if not self.sees(ref):
            raise NotFound(f"dataset {ref}: site {self.site} has no such dataset")

    def require_own(self, ref: str) -> None:
        """See that a dataset may be changed.

        Raises:
            AccessDenied: it is not below the site's name.
        """
        if not self.sees(ref):
            raise AccessDenied(
                f"{ref}: site {self.site} changes its own datasets alone, called {self.site}/..."
            )

    def require_owner(self, what: str) -> None:
        """See that a hub's own people ask.

        Raises:
            AccessDenied: a site does.
        """
        if self.site is not None:
            raise AccessDenied(f"{what} is for the hub's own people, not for site {self.site}")


OWNER = Access()
