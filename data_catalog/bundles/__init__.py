"""Datasets as signed archives, for sites without a network link."""

from __future__ import annotations

from clnet.data_catalog.bundles.keys import make_key, public_key_of, read_private_key
from clnet.data_catalog.bundles.reading import BundleReader, Signer, open_bundle
from clnet.data_catalog.bundles.taking import take_bundle
from clnet.data_catalog.bundles.writing import write_bundle

__all__ = [
    "BundleReader",
    "Signer",
    "make_key",
    "open_bundle",
    "public_key_of",
    "read_private_key",
    "take_bundle",
    "write_bundle",
]
