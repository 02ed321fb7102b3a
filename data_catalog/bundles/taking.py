"""The cases of a bundle, judged as those of any contribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clnet.data_catalog.bundles.reading import BundleReader
from clnet.data_catalog.case_work import CaseOutcome
from clnet.data_catalog.ingest import judge_read
from clnet.data_catalog.intake import Intake
from clnet.data_catalog.manifest import content_sha256
from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.staging import Staging
from clnet.data_catalog.validation import IntakeRules, KnownScan, check_together
from clnet.data_catalog.withdrawn import WithdrawnScan
from clnet.errors import CaseRejected

__all__ = ["take_bundle"]


def take_bundle(
    bundle: BundleReader,
    rules: IntakeRules,
    known: Mapping[str, Sequence[KnownScan]],
    withdrawn: Mapping[str, WithdrawnScan],
    max_bytes: int,
    staging: Staging | None,
    progress: Callable[[float, str], None] | None = None,
) -> Intake:
    """Judge every case of a bundle, and keep what can be stored in `staging` (None: a trial).

    Args:
        known: scans of other datasets, by the hash of their voxels.
        withdrawn: scans that the site withdrew, likewise.
        max_bytes: largest volume taken.

    Raises:
        IntegrityError: voxels that are not those that were signed.
    """
    intake = Intake(bundle.manifest.name, rules)
    total = len(bundle.manifest.cases)
    for index, case in enumerate(bundle.manifest.cases):
        file = bundle.file(index)
        source = CaseSource(case.record.id, Path(file), Path(file).parent)
        intake.add(source, _take_one(bundle, index, source, rules, max_bytes, staging))
        if progress is not None:
            progress((index + 1) / total, case.record.id)
    intake.set_aside(withdrawn)
    intake.findings += check_together(bundle.signer.site, intake.records, known)
    return intake


def _take_one(
    bundle: BundleReader,
    index: int,
    source: CaseSource,
    rules: IntakeRules,
    max_bytes: int,
    staging: Staging | None,
) -> CaseOutcome:
    record = bundle.manifest.cases[index].record
    key = content_sha256({"bundled": record.sha256, "id": record.id, "by": rules.of_cases()})
    kept = staging.find(key, source) if staging is not None else None
    if kept is not None:
        return CaseOutcome.of(kept)
    try:
        content = bundle.content(index, max_bytes)
    except CaseRejected as rejection:
        return CaseOutcome.rejected(source, rejection)
    judged = judge_read(source, content, (), rules)
    if judged.rejection is not None:
        return CaseOutcome(judged.findings, rejection=judged.rejection)
    if staging is None:
        return CaseOutcome.trial(source, content, judged.findings)
    return CaseOutcome.of(
        staging.admit(staging.cases.keep(key, source.id, content, judged.findings))
    )
