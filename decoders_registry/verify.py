"""Whether every artefact that a row names is there and hashes right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clnet.decoders_registry.records import Record
from clnet.errors import IntegrityError, NotFound
from clnet.storage import ArtefactStore

__all__ = ["Fault", "VerifyReport", "check_artefacts", "check_named"]


class Fault(Record):
    """An artefact that is not what a row says, and the things that need it."""

    sha256: str
    refs: tuple[str, ...]
    reason: str


class VerifyReport(Record):
    """The outcome of a check.

    Attributes:
        checked: artefacts that rows name.
        total_bytes: their size, of those that are right.
        faults: missing or damaged ones.
        orphans: stored, but named by no row: left by a crash between artefact and row, or
            being registered right now.
    """

    checked: int
    total_bytes: int
    faults: tuple[Fault, ...]
    orphans: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every row keeps its word."""
        return not self.faults


def check_artefacts(store: ArtefactStore, named: Sequence[tuple[str, str]]) -> VerifyReport:
    """Read every artefact of the (sha256, ref) pairs in `named`, and look for orphans."""
    wanted = {sha256 for sha256, _ in named}
    orphans = tuple(sha256 for sha256 in store.hashes() if sha256 not in wanted)
    return check_named(store, named).model_copy(update={"orphans": orphans})


def check_named(store: ArtefactStore, named: Iterable[tuple[str, str]]) -> VerifyReport:
    """Read every artefact of the (sha256, ref) pairs in `named`."""
    refs: dict[str, list[str]] = {}
    for sha256, ref in named:
        refs.setdefault(sha256, []).append(ref)
    faults, size = [], 0
    for sha256 in sorted(refs):
        try:
            size += len(store.get(sha256))
        except (NotFound, IntegrityError) as error:
            faults.append(Fault(sha256=sha256, refs=tuple(refs[sha256]), reason=str(error)))
    return VerifyReport(
        checked=len(refs),
        total_bytes=size,
        faults=tuple(faults),
        orphans=(),
    )
