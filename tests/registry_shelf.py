"""A registry with an encoder and a body-part model in it, for tests to put decoders into."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from clnet.decoders_registry import DatasetUse, DecoderRecord, Lineage, Registry
from clnet.storage import ArtefactStore

on_both = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
"""Runs a test on SQLite and on PostgreSQL."""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def use(ref: str, *obligations: str, licence: str = "CC-BY-4.0") -> DatasetUse:
    terms = {"licence": licence, "obligations": list(obligations)}
    return DatasetUse(ref=ref, sha256=digest(ref), terms=terms)


def lineage(*datasets: str | DatasetUse, **fields: Any) -> Lineage:
    uses = tuple(use(data) if isinstance(data, str) else data for data in datasets)
    return Lineage(
        command="clnet jobs submit", code_version="abc123", seeds=(7,), datasets=uses, **fields
    )


class Shelf:
    """`registry` holds ``encoder/starter@1`` and ``bpr/starter@1``, trained on ``ref/body@1``."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.store = ArtefactStore(folder)
        self.registry = Registry(url, self.store)

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self.registry.close()

    def furnish(self) -> Shelf:
        origin = lineage("ref/body@1")
        self.registry.add_encoder("starter", b"encoder", {"spacing": [6, 6, 6]}, {}, origin)
        self.registry.add_body_part_model("starter", b"body", origin)
        return self

    def decoder(
        self,
        group: str,
        content: str = "",
        *,
        datasets: Sequence[str | DatasetUse] = ("site-a/ct@1",),
        **fields: Any,
    ) -> DecoderRecord:
        """Add a version of `group` that has learned the anatomy the group is named after."""
        given = {
            "encoder": "starter",
            "body_part_model": "starter",
            "config": {},
            "metrics": {},
            "learned": [group.rpartition("/")[2]],
            "lineage": lineage(*datasets),
        } | fields
        return self.registry.add_decoder(group, f"{group}:{content}".encode(), **given)
