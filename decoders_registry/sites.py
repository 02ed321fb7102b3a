"""Sites: who may contribute under which name, how much, and by what they are known."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.records import Moment, Record, Sha256, now
from clnet.decoders_registry.tables import SiteKeyRow, SiteRow, SiteTokenRow
from clnet.decoders_registry.tokens import Stored, matches, new_token, read_token
from clnet.errors import AccessDenied, AlreadyExists, InputError, NotFound

__all__ = [
    "SiteKeyRecord",
    "SiteRecord",
    "SiteTokenRecord",
    "all_sites",
    "authenticate",
    "find_key",
    "find_site",
    "find_token",
    "insert_key",
    "insert_site",
    "insert_token",
    "key_record",
    "keys_of",
    "site_record",
    "token_record",
    "tokens_of",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{64}")
_LABEL = re.compile(r"[\w .@+-]{0,100}")
_REFUSED = "this access token is unknown, expired or revoked; ask the hub for a new one"

Row = TypeVar("Row", SiteTokenRow, SiteKeyRow)


class SiteRecord(Record):
    """A site and its quota.

    Attributes:
        name: its namespace: all its datasets are called ``name/...``.
        most_bytes: of its stored cases; None for no limit.
        most_cases: it may store; None for no limit.
    """

    name: str
    title: str
    most_bytes: int | None
    most_cases: int | None
    created: Moment


class SiteTokenRecord(Record):
    """An access token, without what would let anybody use it."""

    id: str
    site: str
    label: str
    created: Moment
    expires: Moment | None
    revoked: Moment | None


class SiteKeyRecord(Record):
    """A public Ed25519 key.

    Attributes:
        fingerprint: SHA-256 of the 32 bytes of the key.
        public_key: these bytes in hex.
    """

    fingerprint: Sha256
    site: str
    public_key: Sha256
    label: str
    created: Moment
    revoked: Moment | None


def site_record(row: SiteRow) -> SiteRecord:
    """The row as a record."""
    return SiteRecord(
        name=row.name,
        title=row.title,
        most_bytes=row.most_bytes,
        most_cases=row.most_cases,
        created=row.created,
    )


def token_record(row: SiteTokenRow) -> SiteTokenRecord:
    """The row as a record."""
    return SiteTokenRecord(
        id=row.id,
        site=row.site.name,
        label=row.label,
        created=row.created,
        expires=row.expires,
        revoked=row.revoked,
    )


def key_record(row: SiteKeyRow) -> SiteKeyRecord:
    """The row as a record."""
    return SiteKeyRecord(
        fingerprint=row.fingerprint,
        site=row.site.name,
        public_key=row.public_key,
        label=row.label,
        created=row.created,
        revoked=row.revoked,
    )


def insert_site(
    session: Session, name: str, title: str, most_bytes: int | None, most_cases: int | None
) -> SiteRow:
    """Add a site.

    Raises:
        InputError: a name that cannot be a namespace, or a negative quota.
        AlreadyExists: there is one of that name.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"site {name!r}: use lower-case letters, digits, '-' and '_', 64 at most, a letter or "
            "digit first"
        )
    if any(limit is not None and limit < 0 for limit in (most_bytes, most_cases)):
        raise InputError(f"site {name}: a quota is 0 or more")
    if session.scalar(sa.select(SiteRow.id).where(SiteRow.name == name)) is not None:
        raise AlreadyExists(f"site {name} is registered already")
    row = SiteRow(
        name=name, title=title, most_bytes=most_bytes, most_cases=most_cases, created=now()
    )
    session.add(row)
    session.flush()
    return row


def find_site(session: Session, name: str) -> SiteRow:
    """The site of that name.

    Raises:
        NotFound: it is not registered.
    """
    row = session.scalar(sa.select(SiteRow).where(SiteRow.name == name))
    if row is None:
        raise NotFound(f"site {name!r} is not registered; clnet sites add {name}")
    return row


def all_sites(session: Session) -> Sequence[SiteRow]:
    """Every site, by name."""
    return session.scalars(sa.select(SiteRow).order_by(SiteRow.name)).all()


def insert_token(
    session: Session, site: str, label: str, expires: datetime | None
) -> tuple[SiteTokenRow, str]:
    """Add a token; returns its row and the token itself, which is kept nowhere.

    Raises:
        NotFound: no such site.
        InputError: a label that cannot be one, or an end in the past.
    """
    _check_label(label)
    if expires is not None and expires <= now():
        raise InputError(f"token of {site}: its end {expires:%Y-%m-%d %H:%M} is over already")
    token, key, kept = new_token()
    row = SiteTokenRow(
        id=key,
        site=find_site(session, site),
        label=label,
        salt=kept.salt,
        digest=kept.digest,
        created=now(),
        expires=expires,
    )
    session.add(row)
    session.flush()
    return row, token


def authenticate(session: Session, token: str) -> SiteTokenRow:
    """The row of a valid token.

    Raises:
        AccessDenied: it is not valid; why is not said.
    """
    secret = read_token(token)
    row = None if secret is None else session.get(SiteTokenRow, secret.id)
    right = matches(secret, None if row is None else Stored(row.salt, row.digest))
    if row is None or not right or not _in_force(row):
        raise AccessDenied(_REFUSED)
    return row


def _in_force(row: SiteTokenRow) -> bool:
    return row.revoked is None and (row.expires is None or row.expires > now())


def find_token(session: Session, key: str) -> SiteTokenRow:
    """The token with that id.

    Raises:
        NotFound: there is none.
    """
    row = session.get(SiteTokenRow, key)
    if row is None:
        raise NotFound(f"token {key!r}: no such id; clnet sites token list shows them")
    return row


def insert_key(session: Session, site: str, public_key: str, label: str) -> tuple[SiteKeyRow, bool]:
    """Add a public key (64 hex digits); returns its row and whether it is new.

    Raises:
        NotFound: no such site.
        InputError: not a key, or a label that cannot be one.
        AlreadyExists: it is another site's, or was revoked.
    """
    _check_label(label)
    if not _KEY.fullmatch(public_key):
        raise InputError(f"key of {site}: 32 bytes as 64 hex digits expected")
    owner = find_site(session, site)
    fingerprint = hashlib.sha256(bytes.fromhex(public_key)).hexdigest()
    known = session.get(SiteKeyRow, fingerprint)
    if known is not None:
        if known.site.name != site:
            raise AlreadyExists(
                f"key {fingerprint[:16]}... is another site's; make one of your own"
            )
        if known.revoked is not None:
            raise AlreadyExists(
                f"key {fingerprint[:16]}... was revoked on {known.revoked:%Y-%m-%d}; make a new one"
            )
        return known, False
    row = SiteKeyRow(
        fingerprint=fingerprint, site=owner, public_key=public_key, label=label, created=now()
    )
    session.add(row)
    session.flush()
    return row, True


def find_key(session: Session, fingerprint: str) -> SiteKeyRow:
    """The key whose fingerprint begins so.

    Raises:
        NotFound: none does, or several do.
    """
    query = sa.select(SiteKeyRow).where(
        SiteKeyRow.fingerprint.startswith(fingerprint, autoescape=True)
    )
    rows = session.scalars(query.limit(2)).all()
    if len(rows) != 1 or not fingerprint:
        raise NotFound(
            f"key {fingerprint!r}: {'several begin so' if rows else 'none is registered'}; "
            "clnet sites key list shows them"
        )
    return rows[0]


def tokens_of(session: Session, site: str) -> Sequence[SiteTokenRow]:
    """The site's tokens, revoked ones included, oldest first."""
    return _of(session, SiteTokenRow, site)


def keys_of(session: Session, site: str) -> Sequence[SiteKeyRow]:
    """The site's keys, revoked ones included, oldest first."""
    return _of(session, SiteKeyRow, site)


def _of(session: Session, table: type[Row], site: str) -> Sequence[Row]:
    owner = find_site(session, site)
    query = sa.select(table).where(table.site_id == owner.id).order_by(table.created)
    return session.scalars(query).all()


def _check_label(label: str) -> None:
    if not _LABEL.fullmatch(label):
        raise InputError(f"label {label!r}: letters, digits, spaces and . @ + - _, 100 at most")
