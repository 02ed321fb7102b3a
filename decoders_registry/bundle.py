"""A release as a folder: ``release.json`` and one ``<sha256>.safetensors`` per artefact.

The folder holds everything the release came from, so that lineage stays closed where it is
imported: also versions that served decoders were updated from, but no images. Whoever reads
one trusts nothing in it: hashes, names, sizes and pins are all checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from sqlalchemy.orm import Session

from clnet.decoders_registry.datasets import dataset_record, find_dataset
from clnet.decoders_registry.decoders import decoder_record
from clnet.decoders_registry.encoders import (
    body_part_record,
    encoder_record,
    find_body_part_model,
    find_encoder,
)
from clnet.decoders_registry.lineage import ORIGIN, Edge
from clnet.decoders_registry.nodes import find_decoder
from clnet.decoders_registry.records import (
    BodyPartRecord,
    DatasetRecord,
    DatasetUse,
    DecoderRecord,
    EncoderRecord,
    Moment,
    Plain,
    Record,
    Sha256,
)
from clnet.decoders_registry.refs import Node
from clnet.decoders_registry.releases import ReleaseRecord
from clnet.decoders_registry.terms import ReleaseTerms
from clnet.errors import InputError, IntegrityError, NotFound
from clnet.storage import ArtefactStore, atomic_directory

__all__ = [
    "Bundle",
    "ImportedRelease",
    "pack",
    "read_artefacts",
    "read_bundle",
    "write_bundle",
]

INDEX = "release.json"
MAX_INDEX_BYTES = 64 * 2**20
MAX_ARTEFACT_BYTES = 2 * 2**30


class _Encoder(Record):
    kind: Literal["encoder"] = "encoder"
    record: EncoderRecord


class _BodyPart(Record):
    kind: Literal["body_part_model"] = "body_part_model"
    record: BodyPartRecord


class _Decoder(Record):
    kind: Literal["decoder"] = "decoder"
    record: DecoderRecord


Entry = Annotated[_Encoder | _BodyPart | _Decoder, Field(discriminator="kind")]


class BundledRelease(Record):
    """The release itself, its members by ref."""

    name: str
    sha256: Sha256
    encoder_ref: str
    body_part_model_ref: str
    tiers: tuple[tuple[str, ...], ...]
    supporters: tuple[str, ...]
    policy: Plain
    parent: str | None
    parent_sha256: Sha256 | None
    terms: ReleaseTerms
    created: Moment


class Bundle(Record):
    """``release.json``.

    Attributes:
        artefacts: records in an order in which each comes after what it is pinned to.
        lineage: the release's upstream closure, for readers.
    """

    format: Literal["clnet-release/1"] = "clnet-release/1"
    release: BundledRelease
    datasets: tuple[DatasetRecord, ...]
    artefacts: tuple[Entry, ...]
    lineage: dict[str, Any]

    @property
    def hashes(self) -> list[str]:
        """Of all artefacts in the folder, probes included."""
        found = {entry.record.sha256 for entry in self.artefacts}
        for entry in self.artefacts:
            if isinstance(entry, _Decoder) and entry.record.probe_sha256 is not None:
                found.add(entry.record.probe_sha256)
        return sorted(found)


class ImportedRelease(ReleaseRecord):
    """The release as it is in the registry now, and what importing it did.

    Attributes:
        added, reused: refs (the release's own name among them).
        total_bytes: size of the artefacts.
    """

    added: tuple[str, ...]
    reused: tuple[str, ...]
    total_bytes: int


def pack(
    session: Session, release: ReleaseRecord, edges: Sequence[Edge], lineage: dict[str, Any]
) -> Bundle:
    """Describe `release` and all it came from; `edges` is its upstream closure.

    What a decoder only grew from (a dense checkpoint, a warm start) is in `lineage`, but its
    bytes stay behind: they would be many times those of the release.
    """
    order: TopologicalSorter[Node] = TopologicalSorter()
    carried = _without_origins(Node("release", release.name), edges)
    for edge in carried:
        order.add(edge.child, edge.parent)
    nodes = list(order.static_order())
    return Bundle(
        release=BundledRelease(
            name=release.name,
            sha256=release.sha256,
            encoder_ref=release.encoder_ref,
            body_part_model_ref=release.body_part_model_ref,
            tiers=tuple(tuple(decoder.ref for decoder in tier) for tier in release.tiers),
            supporters=tuple(decoder.ref for decoder in release.supporters),
            policy=release.policy,
            parent=release.parent,
            parent_sha256=release.parent_sha256,
            terms=release.terms,
            created=release.created,
        ),
        datasets=tuple(
            dataset_record(find_dataset(session, ref))
            for ref in dict.fromkeys(
                node.ref
                for node in (*nodes, *(edge.parent for edge in edges))
                if node.kind == "dataset"
            )
        ),
        artefacts=tuple(
            _entry(session, node, edges)
            for node in nodes
            if node.kind not in {"dataset", "release"}
        ),
        lineage=lineage,
    )


def _entry(session: Session, node: Node, edges: Sequence[Edge]) -> Entry:
    if node.kind == "encoder":
        return _Encoder(record=encoder_record(find_encoder(session, node.ref)))
    if node.kind == "body_part_model":
        return _BodyPart(record=body_part_record(find_body_part_model(session, node.ref)))
    decoder = decoder_record(find_decoder(session, node.ref))
    lineage = decoder.lineage
    if lineage.parents:
        told = lineage.config | {"grown_from": list(lineage.parents)}
        # what stays behind cannot lead to its data any more, and the data's terms must follow
        known = {use.ref for use in lineage.datasets}
        others = [use for use in _data_behind(session, node, edges) if use.ref not in known]
        lineage = lineage.model_copy(
            update={"parents": (), "config": told, "datasets": (*lineage.datasets, *others)}
        )
    return _Decoder(record=decoder.model_copy(update={"aliases": (), "lineage": lineage}))


def _data_behind(session: Session, node: Node, edges: Sequence[Edge]) -> list[DatasetUse]:
    """The data of everything that `node` grew from."""
    parents: dict[Node, list[Node]] = {}
    for edge in edges:
        parents.setdefault(edge.child, []).append(edge.parent)
    waiting = [edge.parent for edge in edges if edge.child == node and edge.role == ORIGIN]
    reached: set[Node] = set()
    while waiting:
        found = waiting.pop()
        if found not in reached:
            reached.add(found)
            waiting += parents.get(found, [])
    rows = [find_dataset(session, found.ref) for found in reached if found.kind == "dataset"]
    return [
        DatasetUse(ref=row.ref, sha256=row.sha256, terms=row.terms, held_at=row.held_at)
        for row in sorted(rows, key=lambda row: row.ref)
    ]


def _without_origins(root: Node, edges: Sequence[Edge]) -> list[Edge]:
    """The part of the closure that is reached from `root` by more than growing from it."""
    pinned: dict[Node, list[Edge]] = {}
    for edge in edges:
        if edge.role != ORIGIN:
            pinned.setdefault(edge.child, []).append(edge)
    reached, waiting, kept = {root}, [root], []
    while waiting:
        for edge in pinned.get(waiting.pop(), []):
            kept.append(edge)
            if edge.parent not in reached:
                reached.add(edge.parent)
                waiting.append(edge.parent)
    return kept


def read_bundle(folder: Path) -> Bundle:
    """Read and check ``release.json``.

    Raises:
        NotFound: no such file.
        InputError: too large, or not what an export writes.
    """
    index = folder / INDEX
    if not index.is_file():
        raise NotFound(f"{index}: not there; give the folder that an export wrote")
    if index.stat().st_size > MAX_INDEX_BYTES:
        raise InputError(f"{index}: larger than {MAX_INDEX_BYTES} bytes, not a release")
    try:
        return Bundle.model_validate_json(index.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{index}: {field}: {first['msg']}") from error


def read_artefacts(folder: Path, bundle: Bundle, store: ArtefactStore) -> int:
    """Verify every artefact and put it into `store`; returns their size in bytes.

    What the store holds already is read from there, so an interrupted import goes on.

    Raises:
        NotFound: a file is missing.
        InputError: a file is no plain file, or too large.
        IntegrityError: a file does not hash to its name.
    """
    total = 0
    for sha256 in bundle.hashes:
        file = folder / f"{sha256}.safetensors"
        if file.is_symlink() or not file.is_file():
            raise NotFound(f"{file}: not there or no plain file; copy the whole folder again")
        size = file.stat().st_size
        if size > MAX_ARTEFACT_BYTES:
            raise InputError(f"{file}: {size} bytes, more than an artefact may have")
        data = file.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise IntegrityError(f"{file}: hashes to {found}; the copy is damaged, copy it again")
        store.put(data)
        total += size
    return total


def write_bundle(folder: Path, bundle: Bundle, store: ArtefactStore) -> int:
    """Write the folder, whole or not at all; returns the artefacts' bytes.

    Raises:
        AlreadyExists: the folder is there.
    """
    total = 0
    with atomic_directory(folder) as temporary:
        for sha256 in bundle.hashes:
            total += (temporary / f"{sha256}.safetensors").write_bytes(store.get(sha256))
        text = bundle.model_dump_json(indent=1)
        (temporary / INDEX).write_text(text + "\n", encoding="utf-8")
    return total
