"""How strictly a contribution is judged."""

from __future__ import annotations

from dataclasses import dataclass

from clnet.data_catalog.validation.findings import Finding, check_acceptable

__all__ = ["IntakeRules"]


@dataclass(frozen=True, slots=True)
class IntakeRules:
    """What a contributor allows and demands.

    Attributes:
        strict: one bad case refuses the whole contribution; by default it is quarantined.
        deidentify: text that may name a person is left behind; by default it keeps a case out.
        resample: labels on another grid are put on the image's; by default they keep it out.
        accept: codes of errors that the contributor knows better about and overrules, such as
            ``orientation.mirrored`` for situs inversus.

    Raises:
        InputError: `accept` holds a code that nobody may overrule.
    """

    strict: bool = False
    deidentify: bool = False
    resample: bool = False
    accept: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_acceptable(self.accept)

    def of_cases(self) -> dict[str, object]:
        """What decides about single cases, JSON-able."""
        return {
            "deidentify": self.deidentify,
            "resample": self.resample,
            "accept": sorted(self.accept),
        }

    def overruled(self, found: Finding) -> Finding:
        """The finding, as a warning where the contributor accepts it."""
        if found.severity == "error" and found.code in self.accept:
            return found.model_copy(update={"severity": "warning"})
        return found
