"""What is done with one case of a contribution, as plain values: it may be done elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clnet.anatomy.mapping import LabelMapping
from clnet.data_catalog.allocation import Allocate
from clnet.data_catalog.case import CaseContent, describe_case
from clnet.data_catalog.ingest import judge_case
from clnet.data_catalog.manifest import CaseRecord
from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.staging import Kept, StagedCases, source_key
from clnet.data_catalog.validation import Finding, IntakeRules, from_rejection, thumbnail
from clnet.errors import CaseRejected, InputError

__all__ = ["CaseOutcome", "CaseWork", "Execute", "Outcomes", "one_by_one"]


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """What became of a case.

    Attributes:
        findings: what validation found in it.
        record: its manifest line; None where it cannot be stored.
        kept: the case on disk; None in a trial.
        fresh: whether it was written now.
        rejection: why it cannot be stored.
        picture: its thumbnail, where no file has it.
        earlier: key of a case that an earlier version holds; nothing else was done then.
    """

    findings: tuple[Finding, ...] = ()
    record: CaseRecord | None = None
    kept: Kept | None = None
    fresh: bool = False
    rejection: CaseRejected | None = None
    picture: bytes | None = None
    earlier: str | None = None

    @classmethod
    def rejected(cls, source: CaseSource, rejection: CaseRejected) -> CaseOutcome:
        """Of a case that could not even be read."""
        return cls((from_rejection(rejection, source.id),), rejection=rejection)

    @classmethod
    def trial(
        cls, source: CaseSource, content: CaseContent, findings: Sequence[Finding]
    ) -> CaseOutcome:
        """Of a case that could be stored, and is not."""
        record = describe_case(source.id, content)
        return cls(tuple(findings), record, picture=thumbnail(content))

    @classmethod
    def of(cls, kept: Kept, *, fresh: bool = False) -> CaseOutcome:
        """Of a case on disk."""
        return cls(kept.findings, kept.record, kept, fresh)


@dataclass(frozen=True, slots=True)
class CaseWork:
    """How the cases of a contribution are judged and kept.

    Attributes:
        mapping: what labels mean.
        rules: how strictly to judge.
        max_bytes: largest volume taken.
        staging: folder of the finished cases; None for a trial, which keeps none.
        earlier: keys of cases that earlier versions hold.
    """

    mapping: LabelMapping
    rules: IntakeRules
    max_bytes: int
    staging: Path | None = None
    earlier: frozenset[str] = frozenset()

    def do(self, source: CaseSource, allocate: Allocate) -> CaseOutcome:
        """Judge a case, and keep it if it passes; what was kept before is not done again.

        Args:
            allocate: gives room for whole volumes.

        Raises:
            InputError: the files change while they are read.
        """
        key = source_key(source, self.mapping, self.rules)
        staged = None if self.staging is None else StagedCases(self.staging)
        if staged is not None and key is not None:
            kept = staged.find(key)
            if kept is not None:
                return CaseOutcome.of(kept.of(source))
            if key in self.earlier:
                return CaseOutcome(earlier=key)
        judged = judge_case(source, self.mapping, self.max_bytes, self.rules, allocate)
        if judged.rejection is not None:
            picture = None if judged.content is None else thumbnail(judged.content)
            return CaseOutcome(judged.findings, rejection=judged.rejection, picture=picture)
        content = judged.content
        assert content is not None
        if staged is None:
            return CaseOutcome.trial(source, content, judged.findings)
        if key is None:  # what could not be hashed could be read: somebody is writing it
            raise InputError(f"{source.image}: changes while it is read; try again when it is done")
        return CaseOutcome.of(staged.keep(key, source.id, content, judged.findings), fresh=True)

    def afresh(self) -> CaseWork:
        """The same work for a case that an earlier version no longer holds undamaged."""
        return replace(self, earlier=frozenset())


Outcomes = Generator[tuple[int, CaseOutcome], None, None]
Execute = Callable[[CaseWork, Sequence[CaseSource]], Outcomes]
"""Does the work for every case, and gives the outcomes by the index of the case, in any order."""


def one_by_one(allocate: Allocate) -> Execute:
    """Work done in this process."""

    def execute(work: CaseWork, cases: Sequence[CaseSource]) -> Outcomes:
        return ((index, work.do(source, allocate)) for index, source in enumerate(cases))

    return execute
