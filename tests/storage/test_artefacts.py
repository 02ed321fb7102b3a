from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clnet.errors import InputError, IntegrityError, NotFound
from clnet.storage import ArtefactStore, atomic_write

WEIGHTS = b"weights of a decoder"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


def test_an_artefact_is_named_by_the_hash_of_its_bytes(url: str) -> None:
    store = ArtefactStore(url)
    assert store.put(WEIGHTS) == SHA256
    assert store.exists(SHA256)
    assert store.get(SHA256) == WEIGHTS
    assert list(store.hashes()) == [SHA256]
    assert store.path_hint(SHA256).endswith(f"{SHA256[:2]}/{SHA256}")


def test_another_store_on_the_same_url_sees_what_was_put(url: str) -> None:
    reader = ArtefactStore(url)
    assert not reader.exists(SHA256)
    ArtefactStore(url).put(WEIGHTS)
    assert reader.exists(SHA256)
    assert list(reader.hashes()) == [SHA256]


def test_storing_twice_keeps_one_copy(url: str) -> None:
    store = ArtefactStore(url)
    assert store.put(WEIGHTS) == store.put(WEIGHTS)
    assert store.put(b"") == hashlib.sha256(b"").hexdigest()
    assert len(list(store.hashes())) == 2


def test_a_missing_artefact_is_not_found(url: str) -> None:
    store = ArtefactStore(url)
    assert list(store.hashes()) == []
    with pytest.raises(NotFound, match=SHA256):
        store.get(SHA256)


def test_damaged_bytes_are_never_returned_and_can_be_stored_again(url: str) -> None:
    store = ArtefactStore(url)
    store.put(WEIGHTS)
    atomic_write(store.path_hint(SHA256), WEIGHTS[:-1])
    with pytest.raises(IntegrityError, match=SHA256):
        store.get(SHA256)
    store.put(WEIGHTS)
    assert store.get(SHA256) == WEIGHTS


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_a_name_that_is_no_hash_never_becomes_a_path(url: str, name: str) -> None:
    store = ArtefactStore(url)
    for use in (store.get, store.exists, store.path_hint):
        with pytest.raises(InputError, match="SHA-256"):
            use(name)


def test_unfinished_and_foreign_files_are_not_listed(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    sha256 = store.put(WEIGHTS)
    (tmp_path / sha256[:2] / ".tmp-1234").write_bytes(b"half")
    (tmp_path / "README").write_text("not an artefact")
    assert list(store.hashes()) == [sha256]


def test_an_unknown_kind_of_storage_is_refused() -> None:
    with pytest.raises(InputError, match="s3://"):
        ArtefactStore("carrier-pigeon://roof").put(WEIGHTS)


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=2048))
def test_whatever_is_stored_comes_back(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    store = ArtefactStore(tmp_path_factory.getbasetemp() / "any")
    assert store.get(store.put(data)) == data
