"""Terms on which data and networks are given, from the options of a command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clnet.errors import InputError

if TYPE_CHECKING:
    from clnet.data_catalog import Terms

__all__ = ["terms_of"]


def terms_of(
    terms: Terms | None,
    licence: str | None,
    attribution: str | None,
    consent: str | None,
    obligations: list[str] | None,
) -> Terms:
    """Terms of a recipe, if there is one, with what the options say in their place.

    Raises:
        InputError: names the option that is wrong.
    """
    from pydantic import ValidationError

    from clnet.data_catalog import Terms

    given = {
        "licence": licence,
        "attribution": attribution,
        "consent": consent,
        "obligations": _said(obligations or ()),
    }
    values = terms.model_dump() if terms else {}
    values |= {key: value for key, value in given.items() if value is not None}
    if "licence" not in values:
        raise InputError("--licence: say on what terms the data is given, or name a --recipe")
    try:
        return Terms.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # only the check of all terms together has no place: that obligations are said
        option = first["loc"][0] if first["loc"] else "obligation"
        raise InputError(f"--{option}: {first['msg']}") from None


def _said(obligations: Sequence[str]) -> frozenset[str] | None:
    names = frozenset(name.upper() for name in obligations)
    if names == {"NONE"}:
        return frozenset()
    return names or None
