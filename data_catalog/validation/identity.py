"""Is a person named? In text of NIfTI, NRRD and MHA headers, in DICOM tags, in a case's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources

from clnet.anatomy.strict_yaml import load_yaml
from clnet.data_catalog.validation.findings import Finding, finding
from clnet.data_catalog.volume import Volume

__all__ = ["check_case_id", "check_identity", "identifying"]

_STRUCTURE = re.compile(
    # of NRRD and MetaImage
    r"ITK_(InputFilterName|original_\w+|sform_corrected|\w*[Dd]irection|non_uniform\w+)"
    r"|NRRD_(kinds|space|measurement frame|thicknesses|centerings|labels|units|space units)"
    r"(\[\d+\])?"
    r"|AnatomicalOrientation|CenterOfRotation|Modality|ElementSize"
    # of NIfTI, which ITK writes into whatever is made from it
    r"|(dim|pixdim)\[\d\]|dim_info|datatype|bitpix|vox_offset|scl_(slope|inter)|xyzt_units"
    r"|slice_(code|duration|end|start)|cal_(max|min)|toffset|intent_(code|p[123])|nifti_type"
    r"|[qs]form_code(_name)?|quatern_[bcd]|qoffset_[xyz]|srow_[xyz]|qfac|qto_xyz"
)
"""Fields of ITK's formats that describe the grid, not the person."""

_DICOM_TAG = re.compile(r".* \([0-9a-fA-F]{4},[0-9a-fA-F]{4}\)")
"""How DICOM readers name what they found to identify a person."""

_LABEL_TABLE = re.compile(r"<\?xml[^>]*\?>\s*<CaretExtension>.*</CaretExtension>\s*", re.DOTALL)
_TABLE_DATE = re.compile(r"<Date>.*?</Date>", re.DOTALL)
_PERSONAL = re.compile(
    r"[\w.]+@[\w.]+"  # an address
    r"|\w\^\w"  # a DICOM person name
    r"|(19|20)\d\d[-./]?(0[1-9]|1[0-2])[-./]?(0[1-9]|[12]\d|3[01])"  # a date
    r"|\b(patient|birth|dob|mrn|physician|hospital)",
    re.IGNORECASE,
)

_DATE = re.compile(
    r"(?<!\d)(19|20)\d\d[-._]?(0[1-9]|1[0-2])[-._]?(0[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?<!\d)(0[1-9]|[12]\d|3[01])[-._]?(0[1-9]|1[0-2])[-._]?(19|20)\d\d(?!\d)"
)
_UID = re.compile(r"\d+(\.\d+){4,}")
_PERSON_NAME = re.compile(r"\w\^\w")
_SHORTEST_NAME, _SHORTEST_NUMBER = 3, 4


def identifying(texts: Mapping[str, str]) -> tuple[str, ...]:
    """The fields whose text may name a person: any but what software is known to write."""
    return tuple(
        name for name, text in texts.items() if not _STRUCTURE.match(name) and not _harmless(text)
    )


def check_identity(volume: Volume, case: str, *, deidentify: bool) -> Iterator[Finding]:
    """What a header tells about a person. The text itself is never repeated.

    Args:
        deidentify: leave the text behind, instead of refusing the case.
    """
    fields = identifying(volume.texts)
    if not fields:
        return
    named = ", ".join(f"{name} ({len(volume.texts[name])} characters)" for name in fields)
    if deidentify:
        yield finding("identity.removed", volume.file, case, f"not stored: {named}")
    else:
        dicom = any(_DICOM_TAG.fullmatch(name) for name in fields)
        code = "identity.dicom-tags" if dicom else "identity.header-text"
        yield finding(code, volume.file, case, f"text that may name a person: {named}")


def check_case_id(case: str, file: str, texts: Mapping[str, str]) -> Iterator[Finding]:
    """Whether a case is called after its patient: ids are kept, and are no secret.

    Args:
        file: of its image, whose name became the id.
        texts: of the image's header.
    """
    reasons = []
    if not _UID.fullmatch(case) and _DATE.search(case):
        reasons.append("it holds a date")
    words = set(re.split(r"[\W_]+", case.casefold()))
    for field, text in texts.items():
        told = set(re.split(r"[\W_]+", text.casefold()))
        if field.startswith("PatientName "):
            names = {word for word in told if len(word) >= _SHORTEST_NAME}
            if names and names <= words:
                reasons.append("it holds the PatientName of the DICOM header")
        elif field.startswith("PatientID ") and len(text) >= _SHORTEST_NUMBER and told <= words:
            reasons.append("it holds the PatientID of the DICOM header")
    if _PERSON_NAME.search(file):
        reasons.append("the path of its image holds a DICOM person name")
    if reasons:
        yield finding("identity.case-id", file, case, "; ".join(reasons))


def _harmless(text: str) -> bool:
    if _LABEL_TABLE.fullmatch(text):
        return not _PERSONAL.search(_TABLE_DATE.sub("", text))
    if _PERSONAL.search(text):
        return False
    return any(pattern.fullmatch(text) for pattern in _patterns())


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    text = resources.files(__package__).joinpath("harmless_text.yaml").read_text(encoding="utf-8")
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in load_yaml(text))
