"""Objects under a prefix of an object store such as S3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from clnet.errors import ClnetError, IntegrityError, StorageUnavailable
from clnet.storage.location import remote_filesystem

__all__ = ["Objects"]

AT_ONCE = 8
"""Objects moved at the same time: each is whole in memory while it is sent."""


class Objects:
    """Objects by key below `url`; an object is seen whole or not at all.

    What fails for a moment (a lost connection, 500, 503) is tried again by the client library.

    Args:
        url: ``s3://bucket/prefix``; credentials and endpoint come from the environment, as for
            every S3 client.

    Raises:
        StorageUnavailable: from every method, if the store does not answer or refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def __repr__(self) -> str:
        return f"Objects({self.url!r})"

    def read(self, key: str) -> bytes | None:
        """The bytes of an object; None where there is none."""
        with self._reached(key):
            try:
                return bytes(self._files.cat_file(self._path(key)))
            except FileNotFoundError:
                return None

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        with self._reached(key):
            return bool(self._files.isfile(self._path(key)))

    def write(self, key: str, data: bytes) -> None:
        """Store an object, in the place of what was there."""
        with self._reached(key):
            self._files.pipe_file(self._path(key), data)

    def create(self, key: str, data: bytes) -> bool:
        """Store an object if there is none; of several that try at once only one is told True.

        Stores that do not know ``If-None-Match`` are only asked before, which leaves a moment
        in which two can both succeed; see :meth:`conditional`.
        """
        if self.exists(key):
            return False
        with self._reached(key):
            try:
                self._files.pipe_file(self._path(key), data, mode="create")
            except FileExistsError:
                return False
        return True

    def conditional(self, key: str) -> bool:
        """Whether the store honours ``If-None-Match``; writes and deletes an object to see."""
        self.write(key, b"1")
        with self._reached(key):
            try:
                self._files.pipe_file(self._path(key), b"2", mode="create")
            except FileExistsError:
                return True
            finally:
                self._files.rm_file(self._path(key))
        return False

    def keys(self, folder: str = "") -> list[str]:
        """All keys below `folder`, sorted."""
        with self._reached(folder):
            try:
                found = self._files.find(self._path(folder))
            except FileNotFoundError:
                return []
        start = len(self._base) + 1
        return sorted(str(path)[start:] for path in found)

    def upload(self, folder: Path, key: str, last: str) -> None:
        """Store the files of `folder` below `key`; that named `last` when all others are there."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        first = [path for path in files if path != folder / last]
        for part in (first, [folder / last]):
            keys = [self._path(f"{key}/{path.relative_to(folder).as_posix()}") for path in part]
            with self._reached(key):
                self._files.put([str(path) for path in part], keys, batch_size=AT_ONCE)

    def download(self, key: str, folder: Path) -> None:
        """Fetch all objects below `key` into an existing folder.

        Raises:
            IntegrityError: a key leads out of the folder.
        """
        keys = self.keys(key)
        files = [folder / self._relative(found, key) for found in keys]
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._reached(key):
            remote = [self._path(found) for found in keys]
            self._files.get(remote, [str(path) for path in files], batch_size=AT_ONCE)

    def remove(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are gone already do no harm."""
        if keys:
            with self._reached(keys[0]), suppress(FileNotFoundError):
                self._files.rm([self._path(key) for key in keys])

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        return remote_filesystem(self.url)

    @property
    def _files(self) -> Any:
        return self._opened[0]

    @property
    def _base(self) -> str:
        return self._opened[1]

    def _path(self, key: str) -> str:
        return f"{self._base}/{key}" if key else self._base

    def _relative(self, key: str, folder: str) -> PurePosixPath:
        path = PurePosixPath(key[len(folder) + 1 :])
        if path.is_absolute() or not path.parts or ".." in path.parts:
            raise IntegrityError(f"{self.url}: the object {key!r} is none of ours; remove it")
        return path

    @contextmanager
    def _reached(self, key: str) -> Iterator[None]:
        """Tell one error from the many that each kind of store has."""
        try:
            yield
        except ClnetError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise StorageUnavailable(
                f"{self.url}/{key}: {reason}; check the network, AWS_ENDPOINT_URL and the "
                "credentials, then run it again: what was finished is kept"
            ) from error
