"""Sites: namespaces, access tokens, keys and quotas, for the hub's own people."""

from __future__ import annotations

import builtins
from datetime import UTC, datetime, timedelta
from pathlib import Path

from clnet.data_catalog import Catalog, Usage
from clnet.data_catalog.bundles import make_key, public_key_of
from clnet.decoders_registry import (
    NewToken,
    Registry,
    SiteKeyRecord,
    SiteRecord,
    SiteTokenRecord,
)
from clnet.errors import InputError

__all__ = ["Sites"]


class Sites:
    """Sites of one hub."""

    def __init__(self, catalog: Catalog, registry: Registry) -> None:
        self._catalog = catalog
        self._registry = registry

    def add(
        self,
        name: str,
        title: str = "",
        *,
        most_bytes: int | None = None,
        most_cases: int | None = None,
    ) -> SiteRecord:
        """Register a site, whose datasets are called ``name/...``.

        Args:
            title: its full name.
            most_bytes: that its stored cases may take; no limit by default.
            most_cases: that it may store; no limit by default.

        Raises:
            InputError: a name that cannot be a namespace.
            AlreadyExists: there is one of that name.
        """
        return self._registry.add_site(name, title, most_bytes=most_bytes, most_cases=most_cases)

    def list(self) -> builtins.list[SiteRecord]:
        """All sites, by name."""
        return self._registry.sites()

    def get(self, name: str) -> SiteRecord:
        """One site.

        Raises:
            NotFound: it is not registered.
        """
        return self._registry.site(name)

    def usage(self, name: str) -> Usage:
        """What a site keeps here."""
        return self._catalog.usage(name)

    def set_quota(
        self, name: str, *, most_bytes: int | None = None, most_cases: int | None = None
    ) -> SiteRecord:
        """Change how much a site may keep; None for no limit. What is there stays."""
        return self._registry.set_quota(name, most_bytes, most_cases)

    def add_token(self, site: str, label: str = "", *, days: float | None = None) -> NewToken:
        """Make an access token; it is returned here and never shown again.

        Args:
            label: what it is for; written into the journal with what is done by it.
            days: after which it ends; never by default.
        """
        if days is not None and not 0 < days < 36_500:
            raise InputError(f"token of {site}: {days:g} days; give more than 0")
        expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
        return self._registry.add_token(site, label, expires)

    def tokens(self, site: str) -> builtins.list[SiteTokenRecord]:
        """A site's tokens, ended and revoked ones included; never what would let anybody in."""
        return self._registry.tokens(site)

    def revoke_token(self, key: str) -> SiteTokenRecord:
        """Make a token useless, by its id.

        Raises:
            NotFound: no such token.
        """
        return self._registry.revoke_token(key)

    def make_key(self, path: str | Path, passphrase: str | None = None) -> str:
        """Write a new private Ed25519 key for signing bundles; gives the public one in hex.

        Raises:
            AlreadyExists: the file is there.
        """
        return make_key(Path(path), passphrase)

    def add_key(self, site: str, key: str | Path, label: str = "") -> SiteKeyRecord:
        """Register the key with which a site signs its bundles.

        Args:
            key: the public key in hex, or a PEM file with it.

        Raises:
            NotFound: no such site.
            InputError: not an Ed25519 key.
            AlreadyExists: it is another site's, or was revoked.
        """
        text = str(key)
        is_hex = len(text) == 64 and set(text) <= set("0123456789abcdef")
        return self._registry.add_key(site, text if is_hex else public_key_of(Path(key)), label)

    def keys(self, site: str) -> builtins.list[SiteKeyRecord]:
        """A site's keys, revoked ones included."""
        return self._registry.keys(site)

    def revoke_key(self, fingerprint: str) -> SiteKeyRecord:
        """Take no more bundles signed with a key, by the beginning of its fingerprint.

        Raises:
            NotFound: no such key.
        """
        return self._registry.revoke_key(fingerprint)
