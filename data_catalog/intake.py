"""The cases of one contribution, judged one by one and together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property

from clnet.data_catalog.case_work import CaseOutcome, CaseWork, Execute
from clnet.data_catalog.manifest import CaseRecord
from clnet.data_catalog.source import CaseSource, check_ids
from clnet.data_catalog.staging import Kept, Staging
from clnet.data_catalog.validation import (
    Finding,
    IntakeRules,
    Judgement,
    KnownScan,
    Report,
    as_rejection,
    check_together,
    finding,
    from_rejection,
)
from clnet.data_catalog.withdrawn import WithdrawnScan
from clnet.errors import CaseRejected, ContributionRefused, InputError

__all__ = ["WITHDRAWN", "Intake", "take_in"]

Progress = Callable[[float, str], None]

WITHDRAWN = "duplicate.withdrawn"
"""Code of the finding."""

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

    def note(self, found: Finding) -> None:
        """Take note of what was seen before any case was read; an error keeps its case out."""
        self.findings.append(found)
        if found.severity == "error":
            self.rejections.setdefault(found.case, as_rejection(found))

    def add(self, source: CaseSource, outcome: CaseOutcome) -> None:
        """Take note of what became of a case."""
        self.findings += outcome.findings
        if outcome.picture is not None:
            self.pictures[source.id] = outcome.picture
        if outcome.rejection is not None:
            self.rejections[source.id] = outcome.rejection
            return
        assert outcome.record is not None
        self.records.append((outcome.record, str(source.image)))
        if outcome.kept is not None:
            self.kept.append(outcome.kept)

    def set_aside(self, withdrawn: Mapping[str, WithdrawnScan]) -> None:
        """Leave out cases whose scan was withdrawn, unless the contributor accepts them."""
        out = set()
        for record, file in self.records:
            if record.arrays["ct"] not in withdrawn:
                continue
            told = f"the voxels of {withdrawn[record.arrays['ct']]}"
            found = self.rules.overruled(finding(WITHDRAWN, file, record.id, told))
            self.findings.append(found)
            if found.severity == "error":
                reason = f"{told}. {found.way_out}"
                self.rejections[record.id] = CaseRejected(file, found.code, reason, found.code)
                out.add(record.id)
        self.records = [kept for kept in self.records if kept[0].id not in out]
        self.kept = [kept for kept in self.kept if kept.record.id not in out]

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
    work: CaseWork,
    known: Mapping[str, Sequence[KnownScan]],
    withdrawn: Mapping[str, WithdrawnScan],
    staging: Staging | None,
    execute: Execute,
    progress: Progress | None = None,
    seen: Sequence[Finding] = (),
) -> Intake:
    """Judge every case, and keep what can be stored in `staging` (None: only a trial).

    Args:
        work: what is done with a case.
        known: scans of other datasets, by the hash of their voxels.
        withdrawn: scans that the site withdrew, likewise.
        execute: does it, here or elsewhere.
        seen: findings about the source; of an error the case is no whole one to begin with.

    Raises:
        InputError: there is no case at all.
        QuotaExceeded: there is no room for more.
    """
    if not cases and not seen:
        check_ids(cases)
    intake = Intake(name, work.rules)
    for one in seen:
        intake.note(one)
    named = list(_with_ids(cases))
    good = [source for source, no_id in named if no_id is None]
    outcomes: dict[str, CaseOutcome] = {}
    with closing(execute(work, good)) as found:
        for done, (index, outcome) in enumerate(found, start=1):
            source = good[index]
            if staging is not None:
                outcome = _counted(outcome, source, work, staging, execute)
            outcomes[source.id] = outcome
            if progress is not None:
                progress(done / len(good), source.id)
    # in the order in which they were given, whoever was done first
    for source, no_id in named:
        if no_id is not None:
            intake.reject(source.id, no_id)
        else:
            intake.add(source, outcomes[source.id])
    intake.set_aside(withdrawn)
    site = name.partition("/")[0]
    intake.findings += check_together(site, intake.records, known)
    return intake


def _counted(
    outcome: CaseOutcome,
    source: CaseSource,
    work: CaseWork,
    staging: Staging,
    execute: Execute,
) -> CaseOutcome:
    """The outcome with its case at hand, and counted in if it was written now."""
    if outcome.earlier is not None:
        kept = staging.find(outcome.earlier, source)
        if kept is not None:
            return CaseOutcome.of(kept)
        _, outcome = next(execute(work.afresh(), [source]))
    if outcome.fresh and outcome.kept is not None:
        staging.admit(outcome.kept)
    return outcome


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
