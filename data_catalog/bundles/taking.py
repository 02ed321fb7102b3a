"""The cases of a bundle, judged as those of any contribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clnet.data_catalog.bundles.reading import BundleReader
from clnet.data_catalog.case import CaseContent
from clnet.data_catalog.ingest import judge_read
from clnet.data_catalog.intake import Intake
from clnet.data_catalog.manifest import content_sha256
from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.staging import Kept, Staging
from clnet.data_catalog.validation import IntakeRules, KnownScan, check_together, from_rejection
from clnet.errors import CaseRejected

__all__ = ["take_bundle"]


def take_bundle(
    bundle: BundleReader,
    rules: IntakeRules,
    known: Mapping[str, Sequence[KnownScan]],
    max_bytes: int,
    staging: Staging | None,
    progress: Callable[[float, str], None] | None = None,
) -> Intake:
    """Judge every case of a bundle, and keep what can be stored in `staging` (None: a trial).

    Args:
        known: scans of other datasets, by the hash of their voxels.
        max_bytes: largest volume taken.

    Raises:
        IntegrityError: voxels that are not those that were signed.
    """
    intake = Intake(bundle.manifest.name, rules)
    total = len(bundle.manifest.cases)
    for index, case in enumerate(bundle.manifest.cases):
        _take_one(intake, bundle, index, max_bytes, staging)
        if progress is not None:
            progress((index + 1) / total, case.record.id)
    intake.findings += check_together(bundle.signer.site, intake.records, known)
    return intake


def _take_one(
    intake: Intake, bundle: BundleReader, index: int, max_bytes: int, staging: Staging | None
) -> None:
    record = bundle.manifest.cases[index].record
    file = bundle.file(index)
    source = CaseSource(record.id, Path(file), Path(file).parent)
    key = content_sha256({"bundled": record.sha256, "id": record.id, "by": intake.rules.of_cases()})
    kept = staging.find(key, source) if staging is not None else None
    if kept is None:
        try:
            content = bundle.content(index, max_bytes)
        except CaseRejected as rejection:
            intake.rejections[record.id] = rejection
            intake.findings.append(from_rejection(rejection, record.id))
            return
        kept = _judged(intake, key, source, content, staging)
        if kept is None:
            return
    intake.kept.append(kept)
    intake.records.append((kept.record, file))
    intake.findings += kept.findings


def _judged(
    intake: Intake, key: str, source: CaseSource, content: CaseContent, staging: Staging | None
) -> Kept | None:
    judged = judge_read(source, content, (), intake.rules)
    if judged.rejection is not None:
        intake.rejections[source.id] = judged.rejection
        intake.findings += judged.findings
        return None
    if staging is None:
        intake.add_trial(source, content, judged.findings)
        return None
    return staging.keep(key, source.id, content, judged.findings)
