"""A site's label mapping: what each of its source labels means in the vocabulary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from clnet.anatomy.strict_yaml import load_yaml
from clnet.anatomy.vocabulary import Layer, vocabulary
from clnet.errors import ContractError, UnknownAnatomy

__all__ = ["LabelMapping", "Meaning", "Within", "load_mapping"]

Within = Literal["auto"] | tuple[float, float] | None
IGNORE = "ignore"
UNKNOWN = "unknown"
REST = "*"


@dataclass(frozen=True, slots=True)
class Meaning:
    """One meaning of a source label, in one layer.

    Attributes:
        name: canonical id shown to users: the leaf, the composite with exactly these members,
            or the members joined by ``+``.
        members: leaf anatomies, sorted; one is `exact`, several are a `union`.
        layer: the layer of all members.
        within: where along z the label was drawn: ``"auto"`` from its first to its last slice,
            a pair in mm from the centre of the canonical slice 0, or None for everywhere.
    """

    name: str
    members: tuple[str, ...]
    layer: Layer
    within: Within = None

    @property
    def exact(self) -> bool:
        """Whether the label is one anatomy, not a union of several."""
        return len(self.members) == 1


@dataclass(frozen=True, slots=True)
class LabelMapping:
    """What the source labels of a site mean.

    Attributes:
        meanings: source label (an id as text, or the stem of a mask's file name) to its
            meanings, at most one per layer; empty for a label that is ignored or unknown.
        unknown: source labels whose voxels are unknown: nothing is said of any anatomy there,
            as of nnU-Net's ignore label.
        rest_ignored: whether masks that `meanings` does not list are left out.
    """

    meanings: dict[str, tuple[Meaning, ...]]
    unknown: frozenset[str] = frozenset()
    rest_ignored: bool = False

    @property
    def ignored(self) -> frozenset[str]:
        """Source labels that deliberately mean nothing."""
        nothing = frozenset(label for label, meanings in self.meanings.items() if not meanings)
        return nothing - self.unknown

    def leaves_out(self, label: str) -> bool:
        """Whether a mask of that name is to be left out."""
        return label in self.ignored or (self.rest_ignored and label not in self.meanings)

    @property
    def anatomies(self) -> frozenset[str]:
        """Every leaf anatomy that some label names, alone or in a union."""
        return frozenset(
            member
            for meanings in self.meanings.values()
            for meaning in meanings
            for member in meaning.members
        )


class _Spec(BaseModel):
    """One meaning as a site writes it."""

    model_config = ConfigDict(extra="forbid")

    anatomy: str | None = None
    exact: str | None = None
    union: list[str] | None = None
    within: Literal["auto"] | tuple[float, float] | None = None


_VALUE: TypeAdapter[str | _Spec | list[str | _Spec] | None] = TypeAdapter(
    str | _Spec | list[str | _Spec] | None
)


def load_mapping(source: Mapping[Any, Any] | str | Path) -> LabelMapping:
    """Read a site's mapping from source labels to anatomies.

    The source is a dict, or a YAML or JSON file with one. A value is one of::

        liver                                   # a leaf; a composite means the union of its leaves
        {exact: liver}                          # a leaf, and nothing else will do
        {union: [kidney_left, kidney_right]}    # these, undivided
        {anatomy: aorta, within: auto}          # drawn from its first to its last slice only
        {exact: liver, within: [120.0, 310.0]}  # drawn on these mm along z only
        [liver, liver_tumor]                    # several meanings, in different layers
        ignore                                  # (or null) deliberately unmapped
        unknown                                 # its voxels: nobody says what is there

    The label ``"*": ignore`` leaves out every mask, ROI or segment that is not listed.

    Raises:
        UnknownAnatomy: a name that the vocabulary does not know; the message names the label.
        ContractError: anything else that is wrong; the message names the label.
    """
    if isinstance(source, (str, Path)):
        try:
            return _read(_parse(Path(source)))
        except (ContractError, UnknownAnatomy) as error:
            raise type(error)(f"{source}: {error}") from None
    return _read(source)


def _parse(path: Path) -> Any:
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"the mapping cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ContractError(f"the mapping is not valid YAML: {error}") from None


def _read(table: Any) -> LabelMapping:
    if not isinstance(table, Mapping) or not table:
        raise ContractError("a mapping is a table from source labels to anatomies; this is none")
    meanings: dict[str, tuple[Meaning, ...]] = {}
    unknown: set[str] = set()
    rest_ignored = False
    for label, value in table.items():
        if isinstance(label, bool) or not isinstance(label, (str, int)):
            raise ContractError(f"mapping: label {label!r} is neither an id nor a name; quote it")
        key = str(label)
        if key in meanings:
            raise ContractError(f"mapping.{key}: the label is listed twice")
        if key == REST:
            if value not in (IGNORE, None):
                raise ContractError(f"mapping.{key}: all that is not listed can only be ignored")
            rest_ignored = True
            continue
        if value == UNKNOWN:
            unknown.add(key)
            meanings[key] = ()
            continue
        try:
            meanings[key] = _meanings(value)
        except (ContractError, UnknownAnatomy) as error:
            raise type(error)(f"mapping.{key}: {error}") from None
    return LabelMapping(meanings, frozenset(unknown), rest_ignored)


def _meanings(value: Any) -> tuple[Meaning, ...]:
    try:
        spec = _VALUE.validate_python(value)
    except ValidationError:
        raise ContractError(
            f"{value!r} is not a meaning; write a name, {{exact: NAME}}, {{union: [NAME, ...]}} "
            "(with `within: auto` or `within: [from_mm, to_mm]` if need be), a list of these, "
            "ignore or unknown"
        ) from None
    if spec is None or spec == IGNORE:
        return ()
    if spec == []:
        raise ContractError("an empty list means nothing; write ignore to leave the label out")
    found: dict[str, Meaning] = {}
    for meaning in map(_meaning, spec if isinstance(spec, list) else [spec]):
        other = found.setdefault(meaning.layer, meaning)
        if other is not meaning:
            raise ContractError(
                f"{other.name} and {meaning.name} are both in layer {meaning.layer}, where "
                "anatomies exclude each other; if the label does not divide them, write "
                f"{{union: [{other.name}, {meaning.name}]}}"
            )
    return tuple(found.values())


def _meaning(spec: str | _Spec) -> Meaning:
    if isinstance(spec, str):
        spec = _Spec(anatomy=spec)
    given = [key for key in ("anatomy", "exact", "union") if getattr(spec, key) is not None]
    if len(given) != 1:
        raise ContractError("give one of anatomy, exact and union")
    names = spec.union if spec.union is not None else [spec.anatomy or spec.exact or ""]
    known = vocabulary()
    members = tuple(sorted({leaf for name in names for leaf in _leaves(name)}))
    if not members:
        raise ContractError("a union of nothing; name its members")
    if spec.exact is not None and len(members) > 1:
        raise ContractError(
            f"{spec.exact} is made of {', '.join(members)}: an exact label names one of these, "
            f"a label that does not divide them is {{union: [{spec.exact}]}}"
        )
    layers = sorted({known[member].layer for member in members})
    if len(layers) > 1:
        raise ContractError(
            f"a union lies in one layer, but {', '.join(members)} are in {' and '.join(layers)}"
        )
    if isinstance(spec.within, tuple):
        low, high = spec.within
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ContractError(f"within [{low:g}, {high:g}] is no extent: from_mm <= to_mm")
    return Meaning(_name(members), members, known[members[0]].layer, spec.within)


def _leaves(name: str) -> tuple[str, ...]:
    known = vocabulary()
    anatomy = known[known.resolve(name)]
    if anatomy.coarse:
        parts = ", ".join(anatomy.parts)
        raise ContractError(
            f"{anatomy.id} cuts across {parts} without being their union, so no decoder learns "
            "it; map it to ignore, or to the anatomy itself where the label shows all of it, "
            "alone or with other labels (add `within: auto` if on some slices only)"
        )
    return known.leaves(anatomy.id)


def _name(members: tuple[str, ...]) -> str:
    """The leaf, the composite with exactly these members, or the members joined."""
    if len(members) == 1:
        return members[0]
    for composite in vocabulary().composites:
        if tuple(sorted(vocabulary().leaves(composite.id))) == members:
            return composite.id
    return "+".join(members)
