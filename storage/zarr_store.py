"""Zarr stores by URL: the choice between local disk and object store is made here alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clnet.storage.location import local_path

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["open_zarr_store"]


def open_zarr_store(url: str | Path, *, read_only: bool = False) -> Store:
    """A zarr v3 store for a local folder or an fsspec URL such as ``s3://bucket/prefix``."""
    from zarr.storage import FsspecStore, LocalStore

    path = local_path(url)
    if path is not None:
        return LocalStore(path, read_only=read_only)
    return FsspecStore.from_url(
        str(url), storage_options={"use_listings_cache": False}, read_only=read_only
    )
