"""Immutable bytes under the hash of their content, on a local disk or in an object store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from clnet.errors import InputError, IntegrityError, NotFound
from clnet.storage.atomic import atomic_write
from clnet.storage.location import local_path, remote_filesystem

__all__ = ["ArtefactStore"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ArtefactStore:
    """Content-addressed artefacts: ``<root>/ab/abcd...`` holds what hashes to ``abcd...``.

    Args:
        url: a local folder, or ``s3://bucket/prefix`` (any fsspec URL); credentials and
            endpoint come from the environment, as for every S3 client.
    """

    def __init__(self, url: str | Path) -> None:
        self._url = str(url).rstrip("/")
        self._root = local_path(url)

    def __repr__(self) -> str:
        return f"ArtefactStore({self._url!r})"

    def put(self, data: bytes) -> str:
        """Store `data` and return its SHA-256 (64 hex digits); storing it again is free.

        A damaged copy under the same name is replaced by the right bytes.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        if self._read(sha256) != data:
            atomic_write(self.path_hint(sha256), data)
        return sha256

    def get(self, sha256: str) -> bytes:
        """The bytes that hash to `sha256`.

        Raises:
            NotFound: nothing is stored under that hash.
            IntegrityError: what is stored does not hash to its name any more.
        """
        data = self._read(sha256)
        if data is None:
            raise NotFound(f"artefact {sha256}: not in {self._url}")
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise IntegrityError(
                f"artefact {sha256} in {self._url}: the stored bytes hash to {found}; "
                "restore it from a backup or make it again"
            )
        return data

    def exists(self, sha256: str) -> bool:
        """Whether something is stored under the hash."""
        if self._root is not None:
            return Path(self.path_hint(sha256)).is_file()
        filesystem, key = remote_filesystem(self.path_hint(sha256))
        return bool(filesystem.exists(key))

    def path_hint(self, sha256: str) -> str:
        """Where the artefact lies or would lie: a local path or a URL.

        Raises:
            InputError: not 64 hex digits, so never a path that leads elsewhere.
        """
        if not _SHA256.fullmatch(sha256):
            raise InputError(f"{sha256!r}: not a SHA-256 (64 lower-case hex digits)")
        base = self._url if self._root is None else str(self._root)
        return f"{base}/{sha256[:2]}/{sha256}"

    def hashes(self) -> Iterator[str]:
        """Every stored hash, sorted; unfinished and foreign files are passed over."""
        if self._root is not None:
            names = (path.name for path in self._root.glob("??/*"))
        else:
            filesystem, key = remote_filesystem(self._url)
            names = (str(found).rpartition("/")[2] for found in filesystem.find(key))
        yield from sorted(name for name in names if _SHA256.fullmatch(name))

    def _read(self, sha256: str) -> bytes | None:
        location = self.path_hint(sha256)
        try:
            if self._root is not None:
                return Path(location).read_bytes()
            filesystem, key = remote_filesystem(location)
            return bytes(filesystem.cat_file(key))
        except FileNotFoundError:
            return None
