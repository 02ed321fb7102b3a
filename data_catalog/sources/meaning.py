"""From the names in a source and a site's mapping to one meaning per label."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clnet.anatomy import LabelMapping, Meaning, load_mapping
from clnet.data_catalog.sources.folder import SourceFolder
from clnet.errors import ContractError, UnknownAnatomy

__all__ = ["meanings_of"]

SHOWN = 12
BACKGROUND = "background"


def meanings_of(
    source: SourceFolder, mapping: Mapping[Any, Any] | str | Path | LabelMapping | None
) -> LabelMapping:
    """What the labels of `source` mean.

    The keys of a mapping are label ids or names. A name that the source gives to an id (as
    ``dataset.json`` does) is put in its place; where regions overlap, an id takes of each layer
    the meaning of the smallest region around it. Without a mapping the names in the source
    must be the vocabulary's.

    Raises:
        UnknownAnatomy, ContractError: from the mapping, or names that nobody explains.
    """
    if mapping is None:
        given = _by_vocabulary(source)
    elif isinstance(mapping, LabelMapping):
        given = mapping
    else:
        given = load_mapping(mapping)
    ids = {name: [i for i, own in source.names.items() if name in own] for name in _names(source)}
    meanings = {key: m for key, m in given.meanings.items() if key not in ids}
    unknown = {key for key in given.unknown if key not in ids}
    if source.names:
        strangers = [key for key in meanings if not key.isdecimal()]
        if strangers:
            raise ContractError(
                f"mapping.{strangers[0]}: the source has no label of that name; it has "
                f"{', '.join(sorted(ids)[:SHOWN])}"
            )
    for label in source.names:
        key = str(label)
        if key in meanings:
            continue
        own = [name for name in source.names[label] if name in given.meanings]
        if any(name in given.unknown for name in own):
            unknown.add(key)
        if own:
            meanings[key] = _finest(own, {n: len(ids[n]) for n in own}, given)
    for label in source.unknown:
        if str(label) not in meanings:
            meanings[str(label)] = ()
            unknown.add(str(label))
    return LabelMapping(meanings, frozenset(unknown), given.rest_ignored)


def _finest(names: list[str], sizes: Mapping[str, int], given: LabelMapping) -> tuple[Meaning, ...]:
    chosen: dict[str, Meaning] = {}
    for name in sorted(names, key=lambda n: (sizes[n], n)):
        for meaning in given.meanings[name]:
            chosen.setdefault(meaning.layer, meaning)
    return tuple(chosen[layer] for layer in sorted(chosen))


def _names(source: SourceFolder) -> list[str]:
    return sorted({name for names in source.names.values() for name in names})


def _by_vocabulary(source: SourceFolder) -> LabelMapping:
    """Every name in the source as the anatomy of that name."""
    names = _names(source)
    for case in source.cases:
        if isinstance(case.labels, Mapping):
            names += case.labels
    if not names:
        raise ContractError(
            "the labels of this source have no names: say what their ids mean with --mapping"
        )
    meanings: dict[str, tuple[Meaning, ...]] = {}
    failed: list[str] = []
    for name in dict.fromkeys(names):
        try:
            meanings |= load_mapping({name: name}).meanings
        except (ContractError, UnknownAnatomy):
            failed.append(name)
    if failed:
        more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        raise ContractError(
            f"the vocabulary does not know {', '.join(map(repr, failed[:SHOWN]))}{more}: say what "
            "the labels mean with --mapping (docs/labels.md), or ignore"
        )
    return LabelMapping(meanings)
