"""The cases of one contribution, judged one by one and together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from clnet.anatomy.mapping import LabelMapping
from clnet.data_catalog.case import CaseContent, describe_case
from clnet.data_catalog.ingest import judge_case
from clnet.data_catalog.manifest import CaseRecord
from clnet.data_catalog.source import CaseSource, check_ids
from clnet.data_catalog.staging import Kept, Staging, source_key
from clnet.data_catalog.validation import (
    Finding,
    IntakeRules,
    Judgement,
    KnownScan,
    Report,
    check_together,
    from_rejection,
    thumbnail,
)
from clnet.errors import CaseRejected, ContributionRefused, InputError

__all__ = ["Intake", "take_in"]

Progress = Callable[[float, str], None]

MOST_PICTURES = 200
"""Thumbnails of stored cases in a report, those with findings first: a page stays readable."""


@dataclass
class Intake:
    """What became of the cases of a contribution.

    Attributes:
        name: ``site/name``.
        records: manifest lines of the cases that can be stored, with their image files.
        kept: the same cases, on disk; empty in a trial.
        rejections: why the others cannot.
        findings: all of them.
        pictures: thumbnails by case; those of stored cases only in a trial.
    """

    name: str
    rules: IntakeRules
    records: list[tuple[CaseRecord, str]] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    rejections: dict[str, CaseRejected] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def reject(self, case: str, rejection: CaseRejected) -> None:
        """Leave a case out that could not even be tried."""
        self.rejections[case] = rejection
        self.findings.append(from_rejection(rejection, case))

    def add_trial(
        self, source: CaseSource, content: CaseContent, findings: Sequence[Finding]
    ) -> None:
        """Take note of a case that could be stored, and is not."""
        self.records.append((describe_case(source.id, content), str(source.image)))
        self.findings += findings
        self.pictures[source.id] = thumbnail(content)

    @property
    def refused(self) -> bool:
        """Whether the contribution as a whole cannot be stored."""
        return not self.records or bool(self.rules.strict and self.rejections)

    @cached_property
    def refusal(self) -> InputError:
        """The error that says why."""
        rejections = list(self.rejections.values())
        if len(rejections) == 1:
            return rejections[0]
        total = len(rejections) + len(self.records)
        shown = "; ".join(str(rejection) for rejection in rejections[:3])
        more = f"; and {len(rejections) - 3} more" if len(rejections) > 3 else ""
        return ContributionRefused(
            f"{self.name}: {len(rejections)} of {total} cases cannot be stored, so none is: "
            f"{shown}{more}; --report DIR writes all of it down"
        )

    def judgement(self, ref: str | None) -> Judgement:
        """What the contributor is told; `ref` is the version that was stored."""
        report = Report(
            dataset=self.name,
            ref=ref,
            stored=tuple(record.id for record, _ in self.records),
            quarantined=tuple(self.rejections),
            refused=self.refused,
            findings=Report.ordered(self.findings),
        )
        stored = {k.record.id: k.picture for k in self.kept if k.picture.is_file()}
        told = {found.case for found in self.findings}
        shown = sorted(stored, key=lambda case: (case not in told, case))[:MOST_PICTURES]
        return Judgement(report, self.pictures | {c: stored[c].read_bytes() for c in shown})


def take_in(
    name: str,
    cases: Sequence[CaseSource],
    mapping: LabelMapping,
    rules: IntakeRules,
    known: Mapping[str, Sequence[KnownScan]],
    max_bytes: int,
    staging: Staging | None,
    progress: Progress | None,
    rejected: Sequence[CaseRejected] = (),
) -> Intake:
    """Judge every case, and keep what can be stored in `staging` (None: only a trial).

    Args:
        known: scans of other datasets, by the hash of their voxels.
        rejected: what is no whole case to begin with.

    Raises:
        InputError: there is no case at all.
    """
    if not cases and not rejected:
        check_ids(cases)
    intake = Intake(name, rules)
    for rejection in rejected:
        intake.reject(Path(rejection.file).name, rejection)
    for done, (source, no_id) in enumerate(_with_ids(cases), start=1):
        if no_id is not None:
            intake.reject(source.id, no_id)
        else:
            _take_one(intake, source, mapping, max_bytes, staging)
        if progress is not None:
            progress(done / len(cases), source.id)
    site = name.partition("/")[0]
    intake.findings += check_together(site, intake.records, known)
    return intake


def _take_one(
    intake: Intake,
    source: CaseSource,
    mapping: LabelMapping,
    max_bytes: int,
    staging: Staging | None,
) -> None:
    key = source_key(source, mapping, intake.rules)
    kept = staging.find(key, source) if staging is not None and key is not None else None
    if kept is None:
        judged = judge_case(source, mapping, max_bytes, intake.rules)
        if judged.rejection is not None:
            intake.rejections[source.id] = judged.rejection
            intake.findings += judged.findings
            if judged.content is not None:
                intake.pictures[source.id] = thumbnail(judged.content)
            return
        assert judged.content is not None
        if staging is None:
            intake.add_trial(source, judged.content, judged.findings)
            return
        if key is None:  # what could not be hashed could be read: somebody is writing it
            raise InputError(f"{source.image}: changes while it is read; try again when it is done")
        kept = staging.keep(key, source.id, judged.content, judged.findings)
    intake.kept.append(kept)
    intake.records.append((kept.record, str(source.image)))
    intake.findings += kept.findings


def _with_ids(cases: Sequence[CaseSource]) -> Iterator[tuple[CaseSource, CaseRejected | None]]:
    """Each case, and why its id cannot be stored, if so."""
    seen: set[str] = set()
    for source in cases:
        rejection: CaseRejected | None = None
        try:
            check_ids([source])
            if source.id.casefold() in seen:
                rejection = CaseRejected(
                    str(source.image), "id", f"{source.id!r} is there twice", "case.id"
                )
            seen.add(source.id.casefold())
        except CaseRejected as found:
            rejection = CaseRejected(found.file, found.field, found.reason, "case.id")
        yield source, rejection
