"""Which anatomies one decoder segments: the default stratification and a user's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from clnet.anatomy.strict_yaml import load_yaml
from clnet.anatomy.vocabulary import REGIONS, Layer, Region, vocabulary
from clnet.errors import InputError, NotFound, UnknownAnatomy

__all__ = ["AnatomyGroup", "Stratification", "default_stratification"]

GroupId = Annotated[
    str, StringConstraints(pattern=rf"^({'|'.join(REGIONS)})/[a-z0-9]+(_[a-z0-9]+)*$")
]


class AnatomyGroup(BaseModel):
    """What one decoder segments.

    Attributes:
        id: ``<region slug>/<name>`` (``abdomen/liver``).
        region: the paper's region that the slug stands for.
        layer: the one layer that all its anatomies lie in.
        anatomies: leaf ids, in channel order.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    region: Region
    layer: Layer
    anatomies: tuple[str, ...]


class Stratification:
    """Anatomies split into groups.

    Raises:
        InputError: a group is listed twice, an anatomy is in two groups, or a group spans layers.
    """

    def __init__(self, groups: Iterable[AnatomyGroup]) -> None:
        self._groups: dict[str, AnatomyGroup] = {}
        self._group_of: dict[str, AnatomyGroup] = {}
        for group in groups:
            if self._groups.setdefault(group.id, group) is not group:
                raise InputError(f"{group.id} is listed twice")
            for anatomy in group.anatomies:
                other = self._group_of.setdefault(anatomy, group)
                if other is not group:
                    raise InputError(
                        f"{anatomy} is in {other.id} and in {group.id}: keep it in one group"
                    )
                layer = vocabulary()[anatomy].layer
                if layer != group.layer:
                    raise InputError(
                        f"{group.id} spans layers: {anatomy} is in {layer}, "
                        f"{group.anatomies[0]} in {group.layer}; split the group"
                    )

    def __getitem__(self, group: str) -> AnatomyGroup:
        """The group with this id.

        Raises:
            NotFound: the stratification has no such group.
        """
        try:
            return self._groups[group]
        except KeyError:
            raise NotFound(f"no anatomy group {group!r} among {len(self)} groups") from None

    def __contains__(self, group: object) -> bool:
        return group in self._groups

    def __iter__(self) -> Iterator[AnatomyGroup]:
        return iter(self._groups.values())

    def __len__(self) -> int:
        return len(self._groups)

    def group_of(self, name: str) -> AnatomyGroup:
        """The group that predicts a leaf anatomy, under whichever of its names.

        Raises:
            UnknownAnatomy: the vocabulary does not know the name.
            NotFound: no group holds the anatomy (composites are derived, not predicted).
        """
        anatomy = vocabulary().resolve(name)
        try:
            return self._group_of[anatomy]
        except KeyError:
            raise NotFound(f"no group of this stratification predicts {anatomy}") from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> Stratification:
        """Read a stratification: one YAML map from group id to the names of its anatomies.

        A composite's name stands for its leaves.

        Raises:
            InputError: the file cannot be read, or breaks a rule; the message names it.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        return cls._parse(text, str(path))

    @classmethod
    def _parse(cls, text: str, origin: str) -> Stratification:
        try:
            table = _Table(groups=load_yaml(text)).groups
            return cls(_group(name, members) for name, members in table.items())
        except yaml.YAMLError as error:
            raise InputError(f"{origin}: not valid YAML: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][1:])
            raise InputError(f"{origin}: {where}: {first['msg']}") from None
        except InputError as error:
            raise type(error)(f"{origin}: {error}") from None


class _Table(BaseModel):
    groups: dict[GroupId, Annotated[list[str], Field(min_length=1)]]


def _group(name: str, members: list[str]) -> AnatomyGroup:
    known = vocabulary()
    try:
        ids = [known.resolve(member) for member in members]
    except UnknownAnatomy as error:
        raise UnknownAnatomy(f"{name}: {error}") from None
    for anatomy in ids:
        if known[anatomy].coarse:
            raise InputError(f"{name}: {anatomy} cuts across anatomies: no decoder predicts it")
    leaves = tuple(leaf for anatomy in ids for leaf in known.leaves(anatomy))
    if len(set(leaves)) < len(leaves):
        raise InputError(f"{name}: an anatomy is listed twice")
    return AnatomyGroup(
        id=name,
        region=REGIONS[name.partition("/")[0]],
        layer=known[leaves[0]].layer,
        anatomies=leaves,
    )


@cache
def default_stratification() -> Stratification:
    """The 101 groups that ship with the package: counts are the paper's, the list is ours."""
    data = resources.files("clnet.anatomy").joinpath("data", "stratification.yaml")
    return Stratification._parse(data.read_text(encoding="utf-8"), "stratification.yaml")
