"""Which DICOM tags of a file still tell who the patient is."""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

__all__ = ["identifying_tags"]

_PERSON = re.compile(
    r"(Patient|OtherPatient|ResponsiblePerson|Physician|Operators?|Person|Reader|Reviewer)\w*"
    r"|\w*(Address|Telephone\w*|Institution\w*|Insurance\w*|Comments?|Occupation|BirthDate)"
    r"|AccessionNumber|ContentCreatorName"
)
"""Keywords that name a person, or the way to one. The profile also removes descriptions of the
study and devices, which the catalog does not keep but which need not refuse a scan."""

_TRAITS = re.compile(r"Patient(Sex|Age|Size|Weight|SexNeutered|State|Position|IdentityRemoved)")

_NEVER = re.compile(r"\w*(BirthDate|Address|Telephone\w*)")
"""What no file has that was de-identified, whatever it says of itself."""

_PLACEHOLDERS = re.compile(
    r"|0+|none|unknown|removed|anon\w*|de-?identified|redacted|[x*^ -]+", re.IGNORECASE
)


def identifying_tags(header: Dataset) -> dict[str, str]:
    """Tags of the PS3.15 basic profile that name a person, and what they say.

    A file that says ``PatientIdentityRemoved: YES`` may keep pseudonyms as name and id.
    """
    from pydicom.datadict import keyword_for_tag
    from pydicom.tag import Tag

    told = Tag("PatientIdentityRemoved")
    removed = told in header and _text(header, told).upper() == "YES"
    telling = _NEVER if removed else _PERSON
    found: dict[str, str] = {}
    for tag in header.keys():  # noqa: SIM118 - iterating a data set would decode all of it
        if (tag.group, tag.element) not in _profile():
            continue
        keyword = keyword_for_tag(tag)
        if not telling.fullmatch(keyword) or _TRAITS.fullmatch(keyword):
            continue
        text = _text(header, tag)
        if not _PLACEHOLDERS.fullmatch(text):
            found[f"{keyword} {tag}"] = text
    return found


def _text(header: Dataset, tag: BaseTag) -> str:
    """An element's value as text, however badly it is encoded; empty for a sequence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values too long, and the like: they are read anyway
            element = header[tag]
            return "" if element.VR == "SQ" else str(element.value or "").strip()
    except Exception as error:  # noqa: BLE001 - a damaged value makes the parser raise anything
        return f"(cannot be decoded: {type(error).__name__})"


@cache
def _profile() -> frozenset[tuple[int, int]]:
    """Tags that the basic application confidentiality profile (PS3.15, table E.1-1) removes."""
    from dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c import ALL_TAGS

    # entries of four numbers are ranges of curves and overlays, which hold no text
    return frozenset((tag[0], tag[1]) for tag in ALL_TAGS if len(tag) == 2)
