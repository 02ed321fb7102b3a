"""Judging what a site contributes, before anything of it is stored."""

from __future__ import annotations

from clnet.data_catalog.validation.across import (
    CrossSiteDuplicate,
    KnownScan,
    check_together,
    cross_site,
)
from clnet.data_catalog.validation.checks import judge_content
from clnet.data_catalog.validation.findings import (
    Finding,
    Severity,
    as_rejection,
    codes,
    finding,
    from_rejection,
)
from clnet.data_catalog.validation.identity import check_case_id, check_identity
from clnet.data_catalog.validation.report import Judgement, Report
from clnet.data_catalog.validation.rules import IntakeRules
from clnet.data_catalog.validation.subject import Subject
from clnet.data_catalog.validation.thumbnail import thumbnail

__all__ = [
    "CrossSiteDuplicate",
    "Finding",
    "IntakeRules",
    "Judgement",
    "KnownScan",
    "Report",
    "Severity",
    "Subject",
    "as_rejection",
    "check_case_id",
    "check_identity",
    "check_together",
    "codes",
    "cross_site",
    "finding",
    "from_rejection",
    "judge_content",
    "thumbnail",
]
