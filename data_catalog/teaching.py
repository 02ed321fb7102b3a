"""Which anatomies the labels of a dataset can teach, known without opening its cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clnet.anatomy.contract import LabelContract
from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import InputError

__all__ = [
    "LABELS",
    "LabelUse",
    "Taught",
    "check_teachable",
    "label_uses",
    "read_label_uses",
    "taught",
    "write_label_uses",
]

LABELS = "labels.json"


class LabelUse(BaseModel):
    """One meaning of a dataset's labels.

    Attributes:
        name: as the label contract shows it; a composite for most unions.
        members: leaf anatomies, sorted; one is `exact`, several are a `union`.
        cases: how many cases know it, whether or not they show it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    members: tuple[str, ...] = Field(min_length=1)
    cases: int = Field(ge=1)


class _Summary(BaseModel):
    """``labels.json``, beside the manifest that it belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: str
    labels: tuple[LabelUse, ...]


@dataclass(frozen=True, slots=True)
class Taught:
    """How a dataset can teach an anatomy.

    Attributes:
        anatomy: its canonical id.
        how: ``exact``: a label names it and nothing else; ``parts``: labels name all of its
            parts; ``union``: only labels that name others with it.
        labels: names of these labels, sorted.
        cases: how many cases know them; for parts, how many know the rarest of them.
    """

    anatomy: str
    how: Literal["exact", "parts", "union"]
    labels: tuple[str, ...]
    cases: int

    def __str__(self) -> str:
        with_others = "" if self.how == "exact" else f" ({', '.join(self.labels)})"
        cases = "1 case" if self.cases == 1 else f"{self.cases} cases"
        return f"{self.anatomy}: {self.how}{with_others}, {cases}"


def check_teachable(anatomy: str) -> str:
    """Canonical id of an anatomy that something can learn.

    Raises:
        UnknownAnatomy: the vocabulary does not know it.
        InputError: a coarse name, which nothing learns.
    """
    known = vocabulary()
    name = known.resolve(anatomy)
    if known[name].coarse:
        raise InputError(
            f"anatomy {anatomy!r} cuts across {', '.join(known.leaves(name))} without being "
            "their union, so nothing learns it; ask for one of these"
        )
    return name


def taught(labels: Iterable[LabelUse], anatomy: str) -> Taught | None:
    """How `labels` can teach an anatomy; None where they cannot.

    Args:
        anatomy: any name of it that the vocabulary knows.

    Raises:
        UnknownAnatomy: the vocabulary does not know it.
        InputError: a coarse name, which nothing learns.
    """
    name = check_teachable(anatomy)
    leaves = frozenset(vocabulary().leaves(name))
    members = {use: frozenset(use.members) for use in labels}
    exact = [use for use, of in members.items() if of == leaves]
    parts = [use for use, of in members.items() if of < leaves]
    wider = [use for use, of in members.items() if of > leaves]
    if exact:
        return Taught(name, "exact", _names(exact), max(use.cases for use in exact))
    if leaves == frozenset().union(*(members[use] for use in parts)):
        most: Counter[str] = Counter()
        for use in parts:
            for leaf in use.members:
                most[leaf] = max(most[leaf], use.cases)
        return Taught(name, "parts", _names(parts), min(most.values()))
    if wider:
        return Taught(name, "union", _names(wider), max(use.cases for use in wider))
    return None


def label_uses(contracts: Iterable[LabelContract]) -> tuple[LabelUse, ...]:
    """What the labels of cases mean, and how many cases know each meaning."""
    cases: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for contract in contracts:
        cases.update({(entry.name, entry.members) for entry in contract.entries})
    return tuple(
        LabelUse(name=name, members=members, cases=count)
        for (name, members), count in sorted(cases.items())
    )


def write_label_uses(folder: Path, manifest: str, labels: tuple[LabelUse, ...]) -> None:
    """Write ``labels.json`` into the folder of a new version.

    Args:
        manifest: hash of the version.
    """
    text = _Summary(manifest=manifest, labels=labels).model_dump_json(indent=1)
    (folder / LABELS).write_text(text + "\n", encoding="utf-8")


def read_label_uses(folder: Path, manifest: str) -> tuple[LabelUse, ...] | None:
    """What ``labels.json`` says; None where there is none for the version with this hash."""
    try:
        summary = _Summary.model_validate_json((folder / LABELS).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return summary.labels if summary.manifest == manifest else None


def _names(labels: Iterable[LabelUse]) -> tuple[str, ...]:
    return tuple(sorted(label.name for label in labels))
