"""The decoders registry: groups, versions, lineage, releases, jobs, in SQL."""

from __future__ import annotations

from clnet.decoders_registry.admitting import NewToken
from clnet.decoders_registry.audit import AuditCheck, AuditRecord
from clnet.decoders_registry.bundle import ImportedRelease, read_bundle
from clnet.decoders_registry.diff import Change, ReleaseDiff
from clnet.decoders_registry.jobs import JobRecord, JobStatus
from clnet.decoders_registry.lineage import Touched
from clnet.decoders_registry.records import (
    BodyPartRecord,
    DatasetRecord,
    DatasetUse,
    DecoderRecord,
    EncoderRecord,
    GroupRecord,
    Lineage,
    Supporter,
    TicketRecord,
)
from clnet.decoders_registry.registry import Registry
from clnet.decoders_registry.releases import ReleaseRecord
from clnet.decoders_registry.sites import SiteKeyRecord, SiteRecord, SiteTokenRecord
from clnet.decoders_registry.terms import ReleaseTerms, UnitedTerms
from clnet.decoders_registry.verify import Fault, VerifyReport

__all__ = [
    "AuditCheck",
    "AuditRecord",
    "BodyPartRecord",
    "Change",
    "DatasetRecord",
    "DatasetUse",
    "DecoderRecord",
    "EncoderRecord",
    "Fault",
    "GroupRecord",
    "ImportedRelease",
    "JobRecord",
    "JobStatus",
    "Lineage",
    "NewToken",
    "Registry",
    "ReleaseDiff",
    "ReleaseRecord",
    "ReleaseTerms",
    "SiteKeyRecord",
    "SiteRecord",
    "SiteTokenRecord",
    "Supporter",
    "TicketRecord",
    "Touched",
    "UnitedTerms",
    "VerifyReport",
    "read_bundle",
]
