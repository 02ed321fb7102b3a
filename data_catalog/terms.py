"""Under what terms a dataset was given, which follow it into everything made from it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer

__all__ = ["Obligation", "Terms"]

Obligation = Literal["BY", "NC", "SA", "ND", "AGREEMENT"]


class Terms(BaseModel):
    """Licence and consent of a dataset.

    Attributes:
        licence: SPDX identifier or expression (``CC-BY-4.0``, ``LicenseRef-hospital-a``).
        attribution: whom to name, and how.
        consent: on what ground the images may be used (ethics vote, patients' consent).
        notes: anything else that a later user must know.
        obligations: what the terms demand of everything made from the data: BY name the
            source, NC no commerce, SA share alike, ND no derivatives, AGREEMENT bound by
            a contract.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    licence: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+() -]*$", max_length=200)
    attribution: str = ""
    consent: str = ""
    notes: str = ""
    obligations: frozenset[Obligation] = frozenset()

    @field_serializer("obligations")
    def _sorted(self, obligations: frozenset[Obligation]) -> list[Obligation]:
        return sorted(obligations)
