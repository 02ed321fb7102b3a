"""Under what terms a dataset was given, which follow it into everything made from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from clnet.data_catalog.licence import has_own_terms, spdx_expression

__all__ = ["STORED", "Licence", "Obligation", "Terms", "check_obligations_said"]

Obligation = Literal["BY", "NC", "SA", "ND", "AGREEMENT"]

STORED: dict[str, Any] = {"stored": True}
"""Validation context of what was checked when it came in: it is read as it was written."""


def _known(licence: str, info: ValidationInfo) -> str:
    if info.context == STORED:
        return licence
    try:
        return spdx_expression(licence)
    except ValueError as error:
        raise PydanticCustomError("licence", "{why}", {"why": str(error)}) from None


Licence = Annotated[str, Field(max_length=200), AfterValidator(_known)]
"""An SPDX expression; other usual spellings of it become that."""


class Terms(BaseModel):
    """Licence and consent of a dataset.

    Attributes:
        licence: SPDX identifier or expression (``CC-BY-4.0``, ``LicenseRef-hospital-a``).
        attribution: whom to name, and how.
        consent: on what ground the images may be used (ethics vote, patients' consent).
        notes: anything else that a later user must know.
        obligations: what the terms demand of everything made from the data: BY name the
            source, NC no commerce, SA share alike, ND no derivatives, AGREEMENT bound by
            a contract. A ``LicenseRef-`` says nothing by its name, so with one they must be
            said, be it that there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    licence: Licence
    attribution: str = ""
    consent: str = ""
    notes: str = ""
    obligations: frozenset[Obligation] = frozenset()

    @model_validator(mode="after")
    def _says_what_it_demands(self, info: ValidationInfo) -> Terms:
        if info.context != STORED:
            check_obligations_said(self.licence, self)
        return self

    @field_serializer("obligations")
    def _sorted(self, obligations: frozenset[Obligation]) -> list[Obligation]:
        return sorted(obligations)


def check_obligations_said(licence: str, said: BaseModel) -> None:
    """Refuse terms of one's own that leave open what they demand.

    Raises:
        PydanticCustomError: `said` was given no ``obligations``, not even an empty set.
    """
    if has_own_terms(licence) and "obligations" not in said.model_fields_set:
        raise PydanticCustomError(
            "obligations",
            "what {licence} demands is not known by its name: say the obligations (BY, NC, SA, "
            "ND, AGREEMENT), or that there are none",
            {"licence": licence},
        )
