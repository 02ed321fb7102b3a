"""Which DICOM tags of a file still tell who the patient is."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

__all__ = ["identifying_tags"]

_PERSON = re.compile(
    r"(Patient|OtherPatient|ResponsiblePerson|Physician|Operators?|Person|Reader|Reviewer)\w*"
    r"|\w*(Address|Telephone\w*|Institution\w*|Insurance\w*|Comments?|Occupation|BirthDate)"
    r"|AccessionNumber|ContentCreatorName|ROIInterpreter"
)
"""Keywords that name a person, or the way to one. The profile also removes descriptions of the
study and devices, which the catalog does not keep but which need not refuse a scan."""

_TRAITS = re.compile(r"Patient(Sex|Age|Size|Weight|SexNeutered|State|Position|IdentityRemoved)")

_NEVER = re.compile(r"\w*(BirthDate|Address|Telephone\w*)")
"""What no file has that was de-identified, whatever it says of itself."""

_PLACEHOLDERS = re.compile(
    r"|0+|none|unknown|removed|anon\w*|de-?identified|redacted|[x*^ -]+", re.IGNORECASE
)


_IN_PRIVATE = re.compile(
    r"[\w.+-]+@[\w-]+\.\w"  # an address
    r"|[^\W\d_]{2,}\^[^\W\d_]"  # a person name
    r"|\b(patient.?(name|id)|birth|dob|mrn)\b",
    re.IGNORECASE,
)
_OWN = ("PatientName", "PatientID", "PatientBirthDate")
_SHORTEST_WORD = 4

_TEXTS = frozenset({"LO", "LT", "SH", "ST", "UC", "UN", "UT"})
_MANY_ITEMS = frozenset({(0x3006, 0x0039), (0x5200, 0x9230)})
"""Contours and frames: numbers, in many thousands of items."""


def identifying_tags(header: Dataset) -> dict[str, str]:
    """Tags of the PS3.15 basic profile that name a person, and what they say.

    Sequences are looked into. Of private tags, all of which the profile removes, those count
    that hold a person name, an address, or what the file says of its patient elsewhere: scanners
    write others by the hundred. A file that says ``PatientIdentityRemoved: YES`` may keep
    pseudonyms as name and id, and private tags.
    """
    from pydicom.tag import Tag

    told = Tag("PatientIdentityRemoved")
    removed = told in header and _text(header, told).upper() == "YES"
    own = " ".join(_text(header, Tag(name)) for name in _OWN if name in header)
    words = frozenset(
        word
        for word in re.split(r"[\W_]+", own.casefold())
        if len(word) >= _SHORTEST_WORD and not _PLACEHOLDERS.fullmatch(word)
    )
    found: dict[str, str] = {}
    for item in _items(header):
        found |= _public(item, _NEVER if removed else _PERSON)
        if not removed:
            found |= _private(item, words)
    return found


def _items(header: Dataset) -> Iterator[Dataset]:
    """A data set, and those in its sequences."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    yield header
    for tag in list(header.keys()):
        if (tag.group, tag.element) in _MANY_ITEMS or not dictionary_has_tag(tag):
            continue
        if dictionary_VR(tag) == "SQ":
            for item in _sequence(header, tag):
                yield from _items(item)


def _sequence(header: Dataset, tag: BaseTag) -> list[Dataset]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(header[tag].value or [])
    except Exception:  # noqa: BLE001 - a damaged one is told where it is used
        return []


def _public(header: Dataset, telling: re.Pattern[str]) -> dict[str, str]:
    from pydicom.datadict import keyword_for_tag

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


def _private(header: Dataset, words: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for tag in header.keys():  # noqa: SIM118 - as above
        if not tag.is_private or tag.is_private_creator:
            continue
        kind, text = _private_text(header, tag)
        if _PLACEHOLDERS.fullmatch(text):
            continue
        told = set(re.split(r"[\W_]+", text.casefold()))
        if kind == "PN" or (kind in _TEXTS and (_IN_PRIVATE.search(text) or told & words)):
            found[f"private tag {tag}"] = text
    return found


def _private_text(header: Dataset, tag: BaseTag) -> tuple[str, str]:
    """Kind of value and text of a private element; no text where it holds bytes that are none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            element = header[tag]
            value = element.value
            if isinstance(value, bytes):
                value = value.rstrip(b"\0 ").decode("utf-8")
                value = value if value.isprintable() else ""
            return str(element.VR), str(value or "").strip()
    except Exception:  # noqa: BLE001 - a damaged value makes the parser raise anything
        return "", ""


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
