"""Where bytes live: a folder of this machine or a prefix of an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clnet.errors import InputError

PATIENCE = {
    "connect_timeout": 10,
    "read_timeout": 30,
    "retries": {"mode": "standard", "max_attempts": 4},
}
"""Of the S3 client: what does not answer for so long (seconds) is tried again."""

__all__ = ["local_path", "remote_filesystem"]


def local_path(url: str | Path) -> Path | None:
    """The folder or file that `url` names on this machine; None where it is elsewhere."""
    if isinstance(url, Path):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url)
    return Path(rest) if scheme == "file" else None


def remote_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of `url` and the key inside it.

    Listings are never cached: another process may write under the same prefix.

    Raises:
        InputError: the scheme is not one that fsspec knows, or its package is missing.
    """
    import fsspec

    options = {"config_kwargs": PATIENCE} if url.startswith(("s3://", "s3a://")) else {}
    try:
        filesystem, key = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
    except (ValueError, ImportError) as error:
        raise InputError(f"{url}: no such kind of storage ({error}); use a path or s3://") from None
    return filesystem, str(key).rstrip("/")
