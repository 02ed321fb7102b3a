"""Bytes that are whole or absent: atomic files and folders, artefacts under their hash."""

from __future__ import annotations

from clnet.storage.artefacts import ArtefactStore
from clnet.storage.atomic import (
    TEMPORARY,
    atomic_directory,
    atomic_write,
    new_file,
    publish,
    scratch_directory,
    sweep_temporaries,
)
from clnet.storage.location import local_path
from clnet.storage.lock import Hold, exclusive, exclusive_or_none
from clnet.storage.object_lock import reserved
from clnet.storage.objects import Objects
from clnet.storage.writable import check_file, check_folder, make_folder
from clnet.storage.zarr_store import open_zarr_store

__all__ = [
    "TEMPORARY",
    "ArtefactStore",
    "Hold",
    "Objects",
    "atomic_directory",
    "atomic_write",
    "check_file",
    "check_folder",
    "exclusive",
    "exclusive_or_none",
    "local_path",
    "make_folder",
    "new_file",
    "open_zarr_store",
    "publish",
    "reserved",
    "scratch_directory",
    "sweep_temporaries",
]
