"""Folders of labels, as this platform and others write them.

| layout | files of one case | what a label means |
|---|---|---|
| label maps | ``CASE.nii.gz`` | its value, by the mapping |
| masks | ``CASE/NAME.nii.gz`` or ``CASE/segmentations/NAME.nii.gz`` | its name, by the mapping, \
else by the vocabulary |
| results | ``CASE/labels.json`` and ``CASE/masks/LAYER.nii.gz`` | what ``labels.json`` says |

A folder that is itself one case of masks or of results is taken as such. NIfTI, NRRD and MHA.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.mapping import LabelMapping, load_mapping
from clnet.anatomy.vocabulary import LAYERS, vocabulary
from clnet.data_catalog.canonical import Canonical, to_canonical
from clnet.data_catalog.labels import translate_map
from clnet.data_catalog.source import volumes_in
from clnet.data_catalog.volume import read_volume
from clnet.errors import CaseRejected, InputError, NotFound
from clnet.platform.evaluation.labelled_scan import Grid, LabelledScan, Part

__all__ = [
    "WHOLE_FOLDER",
    "Labels",
    "MapLabels",
    "MaskLabels",
    "ResultLabels",
    "are_maps",
    "find_labels",
]

INDEX = "labels.json"
MAX_INDEX_BYTES = 8 * 2**20
WHOLE_FOLDER = ""
"""Id of the only case of a folder that is itself the case."""

NO_MEANINGS = LabelMapping({})


@dataclass(frozen=True, slots=True)
class MapLabels:
    """One label map whose values a mapping explains."""

    file: Path
    mapping: LabelMapping

    def open(self) -> LabelledScan:
        """Read the map.

        Raises:
            CaseRejected: unreadable, or a value that the mapping does not explain.
        """
        volume = to_canonical(read_volume(self.file))
        ids = {key: value for key, value in self.mapping.meanings.items() if key.isdecimal()}
        maps, contract = translate_map(
            volume.voxels, str(self.file), LabelMapping(ids), volume.spacing[0]
        )
        parts = tuple(
            Part(e.name, frozenset(e.members), e.within, _equals(maps[e.layer], (e.value,)))
            for e in contract.entries
        )
        return LabelledScan(Grid.of(volume), parts, {})


@dataclass(frozen=True, slots=True)
class MaskLabels:
    """One mask per anatomy, any non-zero voxel counts; read when it is needed."""

    files: dict[str, Path]
    mapping: LabelMapping

    def open(self) -> LabelledScan:
        """Read the grid, and what the names mean.

        Raises:
            CaseRejected: the first mask is unreadable.
        """
        first = next(iter(self.files.values()))
        grid = Grid.of(to_canonical(read_volume(first)))
        parts: list[Part] = []
        unusable = {}
        for name, file in self.files.items():
            try:
                meanings = _meanings_of(name, self.mapping)
            except InputError as error:
                unusable[name] = str(error)
                continue
            read = _mask_reader(file, grid)
            parts += [
                Part(m.name, frozenset(m.members), m.within, read)
                for m in meanings.meanings.get(name, ())
            ]
        return LabelledScan(grid, tuple(parts), unusable)


@dataclass(frozen=True, slots=True)
class ResultLabels:
    """What ``clnet segment`` writes: a map per layer, and what their values mean."""

    folder: Path

    def open(self) -> LabelledScan:
        """Read the maps.

        Raises:
            CaseRejected: a file is damaged, or the maps are not on one grid.
        """
        names = _read_index(self.folder / INDEX)
        parts: list[Part] = []
        grid = None
        for layer, values in names.items():
            file = self.folder / "masks" / f"{layer}.nii.gz"
            volume = to_canonical(read_volume(file))
            if grid is None:
                grid = Grid.of(volume)
            _check_grid(grid, volume, file)
            for name in values.values():
                # finer anatomies of the layer were written over what contains them
                held = tuple(v for v, other in values.items() if vocabulary().lies_in(other, name))
                parts.append(
                    Part(name, frozenset(_leaves(name)), None, _equals(volume.voxels, held))
                )
        if grid is None:
            raise CaseRejected(str(self.folder / INDEX), "layers", "names no layer")
        return LabelledScan(grid, tuple(parts), {})


Labels = MapLabels | MaskLabels | ResultLabels


def find_labels(
    folder: Path, mapping: LabelMapping | None, *, as_maps: bool = False
) -> dict[str, Labels]:
    """The cases of a folder by id, in whichever layout they are.

    Args:
        folder: of the cases, or of one case.
        mapping: what labels mean.
        as_maps: whether its files are label maps even where all their names are anatomies'.

    Raises:
        NotFound: no such folder, or nothing in it.
        InputError: label maps without a mapping, or two cases of one name.
    """
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such folder")
    meanings = mapping or NO_MEANINGS
    if (folder / INDEX).is_file():
        return {WHOLE_FOLDER: ResultLabels(folder)}
    files = volumes_in(folder)
    if files and not as_maps and all(_known(name, meanings) for name in files):
        return {WHOLE_FOLDER: MaskLabels(files, meanings)}
    found: dict[str, Labels] = {}
    for case in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (case / INDEX).is_file():
            found[case.name] = ResultLabels(case)
            continue
        inner = case / "segmentations"
        masks = volumes_in(inner if inner.is_dir() else case)
        if masks and not case.name.startswith("."):
            found[case.name] = MaskLabels(masks, meanings)
    if files and not _explains_values(meanings):
        raise InputError(
            f"{folder}: {next(iter(files.values())).name} is a label map; say what its values "
            "mean: --mapping FILE with lines such as `1: liver`"
        )
    for name, file in files.items():
        if name in found:
            raise InputError(f"{folder}: {name} is there twice, as a file and as a folder")
        found[name] = MapLabels(file, meanings)
    if not found:
        raise NotFound(
            f"{folder}: holds no labels; give CASE.nii.gz label maps, CASE/NAME.nii.gz masks, "
            "or folders that `clnet segment` wrote"
        )
    return dict(sorted(found.items()))


def are_maps(found: Mapping[str, Labels], others: Mapping[str, Labels]) -> bool:
    """Whether what was taken for one case of masks is label maps of cases named like anatomies.

    ``C1`` and ``T1`` name vertebrae, and cases. With a mapping that explains values they are
    cases, unless what they are compared with is one case of another name.

    Args:
        found: the cases of a folder.
        others: of the folder that it is compared with.
    """
    files = _unexplained_masks(found)
    if not files:
        return False
    return len(others) != 1 or bool(_unexplained_masks(others)) or bool(files & others.keys())


def _unexplained_masks(found: Mapping[str, Labels]) -> set[str]:
    """Masks that a mapping does not name, though it explains values."""
    one = found.get(WHOLE_FOLDER)
    if not isinstance(one, MaskLabels) or not _explains_values(one.mapping):
        return set()
    return one.files.keys() - one.mapping.meanings.keys()


def _explains_values(mapping: LabelMapping) -> bool:
    return any(key.isdecimal() for key in mapping.meanings)


def _known(name: str, mapping: LabelMapping) -> bool:
    return name in mapping.meanings or vocabulary().find(name) is not None


def _meanings_of(name: str, mapping: LabelMapping) -> LabelMapping:
    if name in mapping.meanings:
        return mapping
    return load_mapping({name: vocabulary().resolve(name)})


def _equals(ids: NDArray[Any], values: tuple[int, ...]) -> Callable[[], NDArray[np.bool_]]:
    return lambda: np.isin(ids, values) if len(values) > 1 else ids == values[0]


def _mask_reader(file: Path, grid: Grid) -> Callable[[], NDArray[np.bool_]]:
    def read() -> NDArray[np.bool_]:
        volume = to_canonical(read_volume(file))
        _check_grid(grid, volume, file)
        if volume.voxels.dtype.kind == "f" and np.isnan(volume.voxels).any():
            raise CaseRejected(
                str(file), "voxels", "holds NaN, so which voxels are meant is not known"
            )
        return np.asarray(volume.voxels != 0)

    return read


def _check_grid(grid: Grid, volume: Canonical, file: Path) -> None:
    different = grid.difference(Grid.of(volume))
    if different:
        raise CaseRejected(str(file), "grid", f"is not that of the case's other masks: {different}")


def _read_index(file: Path) -> dict[str, dict[int, str]]:
    """Layer to label value to anatomy, as ``labels.json`` says."""
    if file.stat().st_size > MAX_INDEX_BYTES:
        raise CaseRejected(str(file), "file", f"larger than {MAX_INDEX_BYTES} bytes")
    try:
        layers = json.loads(file.read_bytes())["layers"]
        names = {
            str(layer): {int(v): str(label["anatomy"]) for v, label in entry["labels"].items()}
            for layer, entry in layers.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaseRejected(str(file), "file", f"not what `clnet segment` writes: {error}") from None
    known = vocabulary()
    for layer, values in names.items():
        if layer not in LAYERS:  # the layer names a file
            raise CaseRejected(str(file), f"layers.{layer}", f"not one of {', '.join(LAYERS)}")
        for name in values.values():
            if unknown := [n for n in name.split("+") if name not in known and n not in known]:
                raise CaseRejected(str(file), f"layers.{layer}", f"unknown anatomy {unknown[0]}")
    return names


def _leaves(name: str) -> tuple[str, ...]:
    """Leaf anatomies of a canonical id, or of members joined by ``+``."""
    return vocabulary().leaves(name) if name in vocabulary() else tuple(name.split("+"))
