"""Does a header name a person? Text in NIfTI, NRRD and MHA headers, and DICOM tags."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources

from clnet.anatomy.strict_yaml import load_yaml
from clnet.data_catalog.validation.findings import Finding, finding
from clnet.data_catalog.volume import Volume

__all__ = ["check_identity", "identifying"]

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
