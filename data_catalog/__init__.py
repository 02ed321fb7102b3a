"""Datasets that sites contribute: validated, canonical, versioned, immutable; and what training
reads of them."""

from __future__ import annotations

from clnet.data_catalog.case import Case
from clnet.data_catalog.case_work import CaseOutcome, CaseWork, Execute, Outcomes
from clnet.data_catalog.catalog import Catalog
from clnet.data_catalog.dataset import Dataset
from clnet.data_catalog.export import ExportFormat, export
from clnet.data_catalog.fingerprint import fingerprint
from clnet.data_catalog.intake import WITHDRAWN
from clnet.data_catalog.manifest import CaseRecord, Manifest
from clnet.data_catalog.plan_store import PlanStore
from clnet.data_catalog.quota import Allowance, Usage
from clnet.data_catalog.read_ahead import ReadAhead
from clnet.data_catalog.recipe import Recipe, load_recipe, recipes
from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.sources import Layout, SourceFolder, format_names, open_source
from clnet.data_catalog.stream import DatasetPin, PatchStream, StreamSpec, split_cases
from clnet.data_catalog.teaching import LabelUse, Taught, check_teachable
from clnet.data_catalog.terms import Obligation, Terms
from clnet.data_catalog.validation import (
    CrossSiteDuplicate,
    Finding,
    IntakeRules,
    Judgement,
    Report,
)

__all__ = [
    "WITHDRAWN",
    "Allowance",
    "Case",
    "CaseOutcome",
    "CaseRecord",
    "CaseSource",
    "CaseWork",
    "Catalog",
    "CrossSiteDuplicate",
    "Dataset",
    "DatasetPin",
    "Execute",
    "ExportFormat",
    "Finding",
    "IntakeRules",
    "Judgement",
    "LabelUse",
    "Layout",
    "Manifest",
    "Obligation",
    "Outcomes",
    "PatchStream",
    "PlanStore",
    "ReadAhead",
    "Recipe",
    "Report",
    "SourceFolder",
    "StreamSpec",
    "Taught",
    "Terms",
    "Usage",
    "check_teachable",
    "export",
    "fingerprint",
    "format_names",
    "load_recipe",
    "open_source",
    "recipes",
    "split_cases",
]
