"""Sites, their tokens, keys and quotas; and the journal that holds what was done."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from clnet.decoders_registry.audit import AuditCheck, check_journal, note
from clnet.decoders_registry.core import Core
from clnet.decoders_registry.records import now
from clnet.decoders_registry.sites import (
    SiteKeyRecord,
    SiteRecord,
    SiteTokenRecord,
    all_sites,
    authenticate,
    find_key,
    find_site,
    find_token,
    insert_key,
    insert_site,
    insert_token,
    key_record,
    keys_of,
    site_record,
    token_record,
    tokens_of,
)
from clnet.errors import InputError, NotFound

__all__ = ["Admitting", "NewToken"]


class NewToken(NamedTuple):
    """A token just made; `token` is never shown again."""

    token: str
    record: SiteTokenRecord


class Admitting(Core):
    """The methods about sites."""

    def add_site(
        self,
        name: str,
        title: str = "",
        *,
        most_bytes: int | None = None,
        most_cases: int | None = None,
    ) -> SiteRecord:
        """Register a site, which owns all datasets called ``name/...``.

        Raises:
            InputError: a name that cannot be a namespace, or a negative quota.
            AlreadyExists: there is one of that name.
        """

        def work(session: Session) -> SiteRecord:
            row = insert_site(session, name, title, most_bytes, most_cases)
            self._note(session, "site.add", name, most_bytes=most_bytes, most_cases=most_cases)
            return site_record(row)

        return self.database.write(work)

    def set_quota(self, name: str, most_bytes: int | None, most_cases: int | None) -> SiteRecord:
        """Change how much a site may keep; None for no limit. What is there stays."""
        if any(limit is not None and limit < 0 for limit in (most_bytes, most_cases)):
            raise InputError(f"site {name}: a quota is 0 or more")

        def work(session: Session) -> SiteRecord:
            row = find_site(session, name)
            row.most_bytes, row.most_cases = most_bytes, most_cases
            self._note(session, "site.quota", name, most_bytes=most_bytes, most_cases=most_cases)
            return site_record(row)

        return self.database.write(work)

    def site(self, name: str) -> SiteRecord:
        """One site.

        Raises:
            NotFound: it is not registered.
        """
        with self.database.read() as session:
            return site_record(find_site(session, name))

    def sites(self) -> list[SiteRecord]:
        """All sites, by name."""
        with self.database.read() as session:
            return [site_record(row) for row in all_sites(session)]

    def quota_of(self, name: str) -> SiteRecord | None:
        """The site of that name; None where nobody registered it, so that nothing limits it."""
        try:
            return self.site(name)
        except NotFound:
            return None

    def add_token(self, site: str, label: str = "", expires: datetime | None = None) -> NewToken:
        """Make an access token. It is returned here and kept nowhere.

        Raises:
            NotFound: no such site.
            InputError: a label that cannot be one, or an end in the past.
        """

        def work(session: Session) -> NewToken:
            row, token = insert_token(session, site, label, expires)
            self._note(session, "site.token", site, id=row.id, label=label, expires=expires)
            return NewToken(token, token_record(row))

        return self.database.write(work)

    def admit(self, token: str) -> SiteTokenRecord:
        """Who a token belongs to.

        Raises:
            AccessDenied: it is unknown, expired or revoked.
        """
        with self.database.read() as session:
            return token_record(authenticate(session, token))

    def tokens(self, site: str) -> list[SiteTokenRecord]:
        """A site's tokens, oldest first."""
        with self.database.read() as session:
            return [token_record(row) for row in tokens_of(session, site)]

    def revoke_token(self, key: str) -> SiteTokenRecord:
        """Make a token useless, by its id.

        Raises:
            NotFound: no such token.
        """

        def work(session: Session) -> SiteTokenRecord:
            row = find_token(session, key)
            if row.revoked is None:
                row.revoked = now()
                self._note(session, "site.token.revoke", row.site.name, id=key)
            return token_record(row)

        return self.database.write(work)

    def add_key(self, site: str, public_key: str, label: str = "") -> SiteKeyRecord:
        """Register the Ed25519 key (32 bytes in hex) with which a site signs its bundles.

        Raises:
            NotFound: no such site.
            InputError: not a key, or a label that cannot be one.
            AlreadyExists: it is another site's, or was revoked.
        """

        def work(session: Session) -> SiteKeyRecord:
            row, new = insert_key(session, site, public_key, label)
            if new:
                self._note(session, "site.key", site, fingerprint=row.fingerprint, label=label)
            return key_record(row)

        return self.database.write(work)

    def key(self, fingerprint: str) -> SiteKeyRecord:
        """The key whose fingerprint begins so.

        Raises:
            NotFound: none does, or several do.
        """
        with self.database.read() as session:
            return key_record(find_key(session, fingerprint))

    def keys(self, site: str) -> list[SiteKeyRecord]:
        """A site's keys, oldest first."""
        with self.database.read() as session:
            return [key_record(row) for row in keys_of(session, site)]

    def revoke_key(self, fingerprint: str) -> SiteKeyRecord:
        """Take no more bundles that are signed with a key.

        Raises:
            NotFound: no such key.
        """

        def work(session: Session) -> SiteKeyRecord:
            row = find_key(session, fingerprint)
            if row.revoked is None:
                row.revoked = now()
                self._note(session, "site.key.revoke", row.site.name, fingerprint=row.fingerprint)
            return key_record(row)

        return self.database.write(work)

    def note(self, action: str, subject: str, **detail: Any) -> None:
        """Add a line to the journal about something that happened outside of the registry."""
        self.database.write(lambda session: self._note(session, action, subject, **detail))

    def check_audit(self, head: str | None = None) -> AuditCheck:
        """Follow the journal's chain of hashes; with `head`, look that it still leads there."""
        with self.database.read() as session:
            return check_journal(session, head)

    def _note(self, session: Session, action: str, subject: str, **detail: Any) -> None:
        note(session, self.actor, action, subject, **detail)
