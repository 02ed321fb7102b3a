"""The things that lineage connects: found by reference, linked, and described."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.datasets import ensure_datasets, find_dataset
from clnet.decoders_registry.lineage import ORIGIN, add_edges, upstream
from clnet.decoders_registry.records import Lineage
from clnet.decoders_registry.refs import PREFIXES, Kind, Node, parse_ref
from clnet.decoders_registry.tables import (
    AliasRow,
    BodyPartRow,
    DatasetRow,
    DecoderRow,
    EncoderRow,
    GroupRow,
    ReleaseRow,
)
from clnet.errors import Incompatible, InputError, NotFound

__all__ = [
    "connect",
    "data_behind",
    "describe",
    "find_decoder",
    "find_node",
    "find_release",
    "refuse_touched",
]


def find_decoder(session: Session, ref: str) -> DecoderRow:
    """The version `ref` names: by number, by alias, or the newest of the group.

    Raises:
        NotFound: there is none.
    """
    group, version, alias = parse_ref(ref, "decoder")
    query = sa.select(DecoderRow).join(DecoderRow.group).where(GroupRow.name == group)
    if version is not None:
        query = query.where(DecoderRow.version == version)
    if alias is not None:
        query = query.join(AliasRow, AliasRow.decoder_id == DecoderRow.id)
        query = query.where(AliasRow.alias == alias)
    row = session.scalar(query.order_by(DecoderRow.version.desc()).limit(1))
    if row is None:
        raise NotFound(f"decoder {ref!r} is not in the registry")
    return row


def find_release(session: Session, name: str) -> ReleaseRow:
    """The release called `name`.

    Raises:
        NotFound: there is none.
    """
    row = session.scalar(sa.select(ReleaseRow).where(ReleaseRow.name == name))
    if row is None:
        raise NotFound(f"release {name!r} is not in the registry")
    return row


def find_node(session: Session, ref: str, kind: Kind | None = None) -> Node:
    """What `ref` names, of any kind unless `kind` says which.

    Raises:
        NotFound: nothing has that name.
        InputError: a decoder version and a dataset share it and `kind` is missing.
    """
    for prefixed, prefix in PREFIXES.items():
        if ref.startswith(prefix) and kind is None:
            kind = prefixed  # type: ignore[assignment]
    kinds: tuple[Kind, ...] = (kind,) if kind else ("release", "decoder", "dataset")
    found = [node for node in (_look(session, ref, each) for each in kinds) if node is not None]
    if not found:
        raise NotFound(f"{ref!r} is not in the registry")
    if len(found) > 1:
        names = " and ".join(node.kind for node in found)
        raise InputError(f"{ref!r} is a {names}: say which kind is meant")
    return found[0]


def _look(session: Session, ref: str, kind: Kind) -> Node | None:
    if kind in {"release", "dataset"}:
        column = ReleaseRow.name if kind == "release" else DatasetRow.ref
        return Node(kind, ref) if session.scalar(sa.select(column).where(column == ref)) else None
    if kind == "decoder":
        try:
            return Node(kind, find_decoder(session, ref).ref)
        except NotFound:
            return None
    table = EncoderRow if kind == "encoder" else BodyPartRow
    name, version, _ = parse_ref(ref, kind)
    query = sa.select(sa.func.max(table.version)).where(table.name == name)
    if version is not None:
        query = query.where(table.version == version)
    highest = session.scalar(query)
    return None if highest is None else Node(kind, f"{name}@{highest}")


def connect(
    session: Session, child: Node, lineage: Lineage, pins: Iterable[tuple[str, Node]]
) -> None:
    """Link `child` to what it is pinned to, its datasets and its lineage's other parents.

    Raises:
        Incompatible: data that went into any of these was withdrawn.
    """
    sources = [*pins, *((ORIGIN, _artefact(session, ref)) for ref in lineage.parents)]
    for _, source in sources:
        refuse_touched(session, source)
    add_edges(session, child, [*sources, *ensure_datasets(session, lineage.datasets)])


def data_behind(session: Session, nodes: Iterable[Node]) -> list[DatasetRow]:
    """Every dataset version among `nodes` and what they came from, by ref."""
    roots = list(nodes)
    reached = {*roots, *(edge.parent for edge in upstream(session, roots))}
    refs = sorted(node.ref for node in reached if node.kind == "dataset")
    return [find_dataset(session, ref) for ref in refs]


def refuse_touched(session: Session, node: Node) -> None:
    """Look whether something new may be made from what is registered.

    Raises:
        Incompatible: data that went into it was withdrawn, however far back.
    """
    gone = [
        f"{row.ref}, withdrawn since ({row.withdrawn_reason})"
        for row in data_behind(session, [node])
        if row.withdrawn
    ]
    if gone:
        raise Incompatible(
            f"{node.ref} learned from {', and from '.join(gone)}: nothing new is made from it; "
            "take a version that did not, or train one without that data"
        )


def _artefact(session: Session, ref: str) -> Node:
    """What a record grew from: a decoder where the data of an imported one has the same name."""
    prefixed = ref.startswith(tuple(PREFIXES.values()))
    return find_node(session, ref, None if prefixed else "decoder")


def describe(session: Session, nodes: Iterable[Node]) -> dict[Node, dict[str, Any]]:
    """What lineage says about each node: its hash, how it was made, its terms or ticket."""
    return {node: _facts(session, node) for node in nodes}


def _facts(session: Session, node: Node) -> dict[str, Any]:
    if node.kind == "dataset":
        data = session.scalars(sa.select(DatasetRow).where(DatasetRow.ref == node.ref)).one()
        return {
            "sha256": data.sha256,
            "terms": data.terms,
            "held_at": data.held_at,
            "withdrawn": data.withdrawn.isoformat() if data.withdrawn else None,
        }
    if node.kind == "release":
        release = find_release(session, node.ref)
        return {"sha256": release.sha256, "terms": release.terms, "policy": release.policy}
    if node.kind == "decoder":
        decoder = find_decoder(session, node.ref)
        ticket = decoder.ticket
        return {
            "sha256": decoder.sha256,
            "lineage": decoder.lineage,
            "ticket": None
            if ticket is None
            else {
                "rate": ticket.rate,
                "sparsity": ticket.sparsity,
                "rewind": ticket.rewind,
                "mask_sha256": ticket.mask_sha256,
            },
        }
    table = EncoderRow if node.kind == "encoder" else BodyPartRow
    name, version, _ = parse_ref(node.ref, node.kind)
    model = session.scalars(
        sa.select(table).where(table.name == name, table.version == version)
    ).one()
    return {"sha256": model.sha256, "lineage": model.lineage}
