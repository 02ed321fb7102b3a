"""Where things came from and what they led to: edges, and their closure both ways."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.records import Record
from clnet.decoders_registry.refs import Node
from clnet.decoders_registry.tables import EdgeRow

__all__ = ["ORIGIN", "Edge", "Touched", "add_edges", "downstream", "nested", "touched", "upstream"]

ORIGIN = "origin"
"""Role of what a record only grew from, as its lineage's `parents` say."""

_CHUNK = 200  # pairs per query, far below any database's limit on bound values


class Edge(NamedTuple):
    """`parent` went into `child`, as its ``data``, ``encoder``, ``supporter`` ..."""

    child: Node
    parent: Node
    role: str


class Touched(Record):
    """Everything downstream of a dataset version, that is: what to retrain if it is withdrawn.

    Attributes:
        direct: refs that learned from the dataset itself, the others only through these.
    """

    dataset: str
    encoders: tuple[str, ...]
    body_part_models: tuple[str, ...]
    decoders: tuple[str, ...]
    releases: tuple[str, ...]
    direct: tuple[str, ...]


def add_edges(session: Session, child: Node, parents: Iterable[tuple[str, Node]]) -> None:
    """Record what went into `child`, as (role, node) pairs; repeats are one edge."""
    for role, parent in dict.fromkeys(parents):
        session.add(
            EdgeRow(
                child_kind=child.kind,
                child_ref=child.ref,
                parent_kind=parent.kind,
                parent_ref=parent.ref,
                role=role,
            )
        )


def upstream(session: Session, nodes: Iterable[Node]) -> list[Edge]:
    """Every edge between `nodes` and what they came from, directly or not."""
    return _closure(session, nodes, towards_parents=True)


def downstream(session: Session, nodes: Iterable[Node]) -> list[Edge]:
    """Every edge between `nodes` and what was made from them, directly or not."""
    return _closure(session, nodes, towards_parents=False)


def _closure(session: Session, nodes: Iterable[Node], *, towards_parents: bool) -> list[Edge]:
    end = (
        sa.tuple_(EdgeRow.child_kind, EdgeRow.child_ref)
        if towards_parents
        else sa.tuple_(EdgeRow.parent_kind, EdgeRow.parent_ref)
    )
    frontier = list(dict.fromkeys(nodes))
    seen = set(frontier)
    edges: list[Edge] = []
    while frontier:
        found = [
            _edge(row)
            for start in range(0, len(frontier), _CHUNK)
            for row in session.scalars(
                sa.select(EdgeRow)
                .where(end.in_([tuple(node) for node in frontier[start : start + _CHUNK]]))
                .order_by(EdgeRow.id)
            )
        ]
        edges += found
        reached = (edge.parent if towards_parents else edge.child for edge in found)
        frontier = [node for node in dict.fromkeys(reached) if node not in seen]
        seen.update(frontier)
    return edges


def _edge(row: EdgeRow) -> Edge:
    return Edge(
        Node(row.child_kind, row.child_ref),  # type: ignore[arg-type]
        Node(row.parent_kind, row.parent_ref),  # type: ignore[arg-type]
        row.role,
    )


def nested(
    root: Node, edges: Sequence[Edge], facts: Mapping[Node, dict[str, Any]]
) -> dict[str, Any]:
    """The closure as nested JSON: each node's facts and, under ``from``, what it came from.

    A node is written out once, nearest to the root; elsewhere it appears as ``repeated``
    only, so that shared encoders and long histories stay readable.
    """
    parents: dict[Node, list[Edge]] = {}
    for edge in edges:
        parents.setdefault(edge.child, []).append(edge)
    top: dict[str, Any] = {"kind": root.kind, "ref": root.ref}
    written: set[Node] = set()
    waiting = deque([(root, top)])
    while waiting:
        node, entry = waiting.popleft()
        entry |= facts[node] if node not in written else {"repeated": True}
        if node in written:
            continue
        written.add(node)
        entry["from"] = []
        for edge in parents.get(node, []):
            parent = {"role": edge.role, "kind": edge.parent.kind, "ref": edge.parent.ref}
            entry["from"].append(parent)
            waiting.append((edge.parent, parent))
    return top


def touched(session: Session, dataset: Node) -> Touched:
    """What the dataset went into, by kind, sorted."""
    edges = downstream(session, [dataset])
    reached = {edge.child for edge in edges}

    def refs(kind: str) -> tuple[str, ...]:
        return tuple(sorted(node.ref for node in reached if node.kind == kind))

    return Touched(
        dataset=dataset.ref,
        encoders=refs("encoder"),
        body_part_models=refs("body_part_model"),
        decoders=refs("decoder"),
        releases=refs("release"),
        direct=tuple(sorted({edge.child.ref for edge in edges if edge.parent == dataset})),
    )
