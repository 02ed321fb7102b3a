"""Sites, their tokens and keys: kept as hashes, revocable, and written into the journal."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from registry_shelf import Shelf, on_both

from clnet.errors import AccessDenied, AlreadyExists, InputError, NotFound

KEY = "ab" * 32


@on_both
def test_a_token_opens_its_site_until_it_is_revoked(shelf: Shelf) -> None:
    registry = shelf.registry
    registry.add_site("site-a", "Hospital A", most_bytes=10**12)
    registry.add_site("site-b")
    token, record = registry.add_token("site-a", "ingest")
    other = registry.add_token("site-b")
    assert registry.admit(token) == record
    assert registry.admit(other.token).site == "site-b"
    assert registry.revoke_token(record.id).revoked is not None
    with pytest.raises(AccessDenied):
        registry.admit(token)
    assert registry.admit(other.token).site == "site-b"
    assert [found.id for found in registry.tokens("site-a")] == [record.id]
    actions = [line.action for line in registry.audit("site-a")]
    assert actions == ["site.token.revoke", "site.token", "site.add"]


def test_wrong_tokens_are_all_refused_in_the_same_words(shelf: Shelf) -> None:
    registry = shelf.registry
    registry.add_site("site-a")
    token, record = registry.add_token("site-a")
    stranger = f"clnet_{'0' * 16}_{token[-43:]}"
    flipped = token[:-1] + ("A" if token[-1] != "A" else "B")
    said = set()
    for wrong in ("", "secret", token[:-1], stranger, flipped, token + "\n", record.id):
        with pytest.raises(AccessDenied) as caught:
            registry.admit(wrong)
        said.add(str(caught.value))
    assert len(said) == 1


def test_nothing_that_is_stored_lets_anybody_in(shelf: Shelf) -> None:
    shelf.registry.add_site("site-a")
    token, record = shelf.registry.add_token("site-a", "ingest")
    proof = token.rpartition("_")[2]
    engine = sa.create_engine(shelf.registry.database.url)
    with engine.connect() as connection:
        (row,) = connection.execute(sa.text("SELECT * FROM site_tokens")).all()
        lines = connection.execute(sa.text("SELECT * FROM audit")).all()
    engine.dispose()
    assert proof not in f"{row}{lines}{record}"
    assert hashlib.sha256(token.encode()).hexdigest() not in str(row), "not a quick hash either"


def test_a_token_ends(shelf: Shelf) -> None:
    registry = shelf.registry
    registry.add_site("site-a")
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    token, _ = registry.add_token("site-a", expires=soon)
    while datetime.now(UTC) < soon:
        pass
    with pytest.raises(AccessDenied):
        registry.admit(token)
    with pytest.raises(InputError, match="over already"):
        registry.add_token("site-a", expires=datetime(2020, 1, 1, tzinfo=UTC))


@on_both
def test_a_key_belongs_to_one_site_for_good(shelf: Shelf) -> None:
    registry = shelf.registry
    for site in ("site-a", "site-b"):
        registry.add_site(site)
    record = registry.add_key("site-a", KEY, "laptop")
    assert record.fingerprint == hashlib.sha256(bytes.fromhex(KEY)).hexdigest()
    assert registry.add_key("site-a", KEY) == record, "again is the same"
    assert registry.key(record.fingerprint[:8]) == record
    with pytest.raises(AlreadyExists, match="another site"):
        registry.add_key("site-b", KEY)
    registry.revoke_key(record.fingerprint)
    with pytest.raises(AlreadyExists, match="revoked"):
        registry.add_key("site-a", KEY)
    assert registry.key(record.fingerprint).revoked is not None
    with pytest.raises(NotFound):
        registry.key("0" * 64)
    with pytest.raises(InputError):
        registry.add_key("site-a", "short")


@pytest.mark.parametrize("name", ["", "Site-A", "a/b", "../x", "a" * 65, "-a", "a\n"])
def test_a_site_has_a_plain_name(shelf: Shelf, name: str) -> None:
    with pytest.raises(InputError):
        shelf.registry.add_site(name)


def test_what_was_held_elsewhere_arrives(shelf: Shelf) -> None:
    registry = shelf.registry
    registry.record_dataset("site-a/d@1", KEY, {"licence": "CC0-1.0"}, held_at="site-a")
    assert registry.dataset("site-a/d@1").held_at == "site-a"
    assert registry.take_dataset("site-a/d@1").held_at is None
    assert registry.take_dataset("site-a/d@1").held_at is None
    assert registry.audit("site-a/d@1")[0].action == "dataset.arrive"


def test_a_quota_may_change_and_is_never_negative(shelf: Shelf) -> None:
    registry = shelf.registry
    registry.add_site("site-a", most_cases=3)
    with pytest.raises(AlreadyExists):
        registry.add_site("site-a")
    assert registry.set_quota("site-a", 10**13, None).most_bytes == 10**13
    with pytest.raises(InputError):
        registry.set_quota("site-a", -1, None)
    with pytest.raises(NotFound):
        registry.set_quota("nobody", None, None)
    assert registry.quota_of("nobody") is None
    assert registry.site("site-a").most_cases is None
