"""Licences by their SPDX identifiers, whichever usual way they were typed."""

from __future__ import annotations

import difflib
import re

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

# the list of identifiers has no public name in `packaging`
from packaging.licenses._spdx import LICENSES

__all__ = ["has_own_terms", "spdx_expression"]

_START, _END = r"(?<![\w.-])", r"(?![\w.])"
_CREATIVE_COMMONS = re.compile(
    rf"{_START}CC[\s_-]*BY((?:[\s_-]*(?:NC|ND|SA))*)[\s_-]*v?(\d\.\d){_END}", re.IGNORECASE
)
_CREATIVE_COMMONS_ZERO = re.compile(rf"{_START}CC[\s_-]*(?:0|zero)[\s_-]*v?1\.0{_END}", re.I)
_OWN = "LicenseRef-"


def spdx_expression(text: str) -> str:
    """`text` as SPDX writes it: ``CC BY-NC 4.0`` is ``CC-BY-NC-4.0``, ``mit`` is ``MIT``.

    An expression (``CC-BY-4.0 AND LicenseRef-hospital-a``) may be given too.

    Raises:
        ValueError: a licence that is not on SPDX's list, nor a ``LicenseRef-NAME``.
    """
    spelt = _CREATIVE_COMMONS.sub(_as_spdx_writes, text.strip())
    spelt = _CREATIVE_COMMONS_ZERO.sub("CC0-1.0", spelt)
    try:
        return canonicalize_license_expression(spelt)
    except InvalidLicenseExpression:
        near = _nearest(spelt)
    hint = f"did you mean {near}? Else " if near else ""
    raise ValueError(
        f"{text!r} is not a licence that SPDX lists; {hint}give an identifier of "
        f"https://spdx.org/licenses, or {_OWN}NAME for terms of your own"
    )


def has_own_terms(expression: str) -> bool:
    """Whether an SPDX expression names a licence whose text nobody but its owner knows."""
    return _OWN in expression


def _as_spdx_writes(found: re.Match[str]) -> str:
    # NC stands before ND and SA, which exclude each other: alphabetical
    parts = sorted(set(re.findall("NC|ND|SA", found[1].upper())))
    return "-".join(["CC-BY", *parts, found[2]])


def _nearest(text: str) -> str | None:
    """The identifier that was probably meant; the newest where only a version is missing."""
    meant = "-".join(text.lower().split())
    known = {key: about["id"] for key, about in LICENSES.items() if not about["deprecated"]}
    versions = [key for key in known if re.match(rf"{re.escape(meant)}-\d", key)]
    close = [max(versions)] if versions else difflib.get_close_matches(meant, known, n=1)
    return known[close[0]] if close else None
