"""Findings: what validation saw in a contribution, and what the contributor can do about it."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from clnet.anatomy.strict_yaml import load_yaml
from clnet.errors import CaseRejected, InputError

__all__ = [
    "Code",
    "Finding",
    "Severity",
    "as_rejection",
    "check_acceptable",
    "codes",
    "finding",
    "from_rejection",
]

Severity = Literal["error", "warning", "info"]


class Code(BaseModel):
    """One kind of finding.

    Attributes:
        severity: an ``error`` keeps the case out, a ``warning`` or ``info`` does not.
        title: what it is, in a few words.
        way_out: what the contributor can do.
        judged: an error that the contributor may know better about, and overrule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Severity
    title: str
    way_out: str
    judged: bool = False


class Finding(BaseModel):
    """Something that a contributor should know, most often about one case.

    Attributes:
        code: its kind, a key of :func:`codes`.
        file: the file at fault, as the contributor named it.
        case: id of the case; empty where it is about the source as a whole.
        explanation: what was seen, with figures.
        way_out: what to do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    severity: Severity
    file: str
    case: str
    explanation: str
    way_out: str

    @property
    def title(self) -> str:
        """What kind of finding it is, in a few words."""
        return codes()[self.code].title


@cache
def codes() -> dict[str, Code]:
    """Every kind of finding, by code."""
    text = resources.files(__package__).joinpath("codes.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Code]).validate_python(load_yaml(text))


def finding(code: str, file: str, case: str, explanation: str) -> Finding:
    """A finding with the severity and the way out of its code."""
    kind = codes()[code]
    return Finding(
        code=code,
        severity=kind.severity,
        file=file,
        case=case,
        explanation=explanation,
        way_out=kind.way_out,
    )


def from_rejection(rejection: CaseRejected, case: str) -> Finding:
    """The finding that keeps a case out because reading it failed."""
    code = rejection.code if rejection.code in codes() else "case.rejected"
    return finding(code, rejection.file, case, f"{rejection.field}: {rejection.reason}")


def as_rejection(found: Finding) -> CaseRejected:
    """The error that says what a finding says."""
    reason = f"{found.explanation}. {found.way_out}"
    return CaseRejected(found.file, found.code, reason, found.code)


def check_acceptable(accepted: frozenset[str]) -> None:
    """Refuse codes that nobody may overrule.

    Raises:
        InputError: a code that is unknown, or whose cases cannot be stored.
    """
    judged = sorted(code for code, kind in codes().items() if kind.judged)
    for code in sorted(accepted):
        if code not in judged:
            raise InputError(f"accept {code!r}: only {', '.join(judged)} can be overruled")
