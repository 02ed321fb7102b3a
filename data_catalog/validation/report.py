"""What validation tells a contributor: for a terminal, for a program, and as one page."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from clnet.data_catalog.validation.findings import Finding, Severity
from clnet.storage import atomic_write

__all__ = ["Judgement", "Report"]

_RANK: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}


class Report(BaseModel):
    """The findings of one contribution.

    Attributes:
        dataset: ``site/name``.
        ref: the version that was stored; None if nothing was (refused, or only tried).
        stored: ids of the cases that are stored, or would be.
        quarantined: ids of the cases that are not.
        refused: the contribution as a whole cannot be stored.
        findings: all of them, by severity and case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    ref: str | None
    stored: tuple[str, ...]
    quarantined: tuple[str, ...]
    refused: bool
    findings: tuple[Finding, ...]

    @property
    def summary(self) -> str:
        """One line."""
        cases = len(self.stored) + len(self.quarantined)
        counts = Counter(found.severity for found in self.findings)
        told = ", ".join(f"{counts[name]} {name}(s)" for name in _RANK if counts[name])
        return (
            f"{self.dataset}: {len(self.stored)} of {cases} cases usable, "
            f"{len(self.quarantined)} quarantined; {told or 'no findings'}"
        )

    def rows(self) -> list[dict[str, Any]]:
        """The findings as rows of a table."""
        return [
            {
                "severity": found.severity,
                "case": found.case,
                "code": found.code,
                "file": found.file,
                "explanation": found.explanation,
                "way_out": found.way_out,
            }
            for found in self.findings
        ]

    def quarantine(self) -> list[dict[str, str]]:
        """Per quarantined case why it is not stored."""
        return [
            {"case": found.case, "code": found.code, "explanation": found.explanation}
            for found in self.findings
            if found.severity == "error" and found.case in self.quarantined
        ]

    def without_folders(self) -> Report:
        """The same with bare file names: folders of a site's disk are nobody's business."""
        findings = tuple(
            found.model_copy(update={"file": Path(found.file).name}) for found in self.findings
        )
        return self.model_copy(update={"findings": findings})

    @staticmethod
    def ordered(findings: list[Finding]) -> tuple[Finding, ...]:
        """Errors first, then by case."""
        return tuple(sorted(findings, key=lambda f: (_RANK[f.severity], f.case, f.code)))


@dataclass(frozen=True, slots=True)
class Judgement:
    """A report with its pictures.

    Attributes:
        pictures: case id to a small PNG.
    """

    report: Report
    pictures: Mapping[str, bytes]

    def html(self) -> str:
        """The report as one page that needs no network: the pictures are within it."""
        from jinja2 import Environment

        path = resources.files(__package__).joinpath("report.html")
        page = Environment(autoescape=True, trim_blocks=True).from_string(
            path.read_text(encoding="utf-8")
        )
        by_case: dict[str, list[Finding]] = {}
        for found in self.report.findings:
            by_case.setdefault(found.case, []).append(found)
        return page.render(
            report=self.report,
            by_case=by_case,
            clean=[case for case in self.report.stored if case not in by_case],
            pictures={
                case: "data:image/png;base64," + base64.b64encode(png).decode("ascii")
                for case, png in self.pictures.items()
            },
        )

    def write(self, folder: Path) -> list[Path]:
        """Write ``report.json`` and ``report.html`` into `folder`; returns both paths."""
        paths = [folder / "report.json", folder / "report.html"]
        atomic_write(paths[0], (self.report.model_dump_json(indent=1) + "\n").encode())
        atomic_write(paths[1], self.html().encode())
        return paths
