"""A dataset as files again: on the grid and in the orientation that each scan came in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from clnet.anatomy.contract import UNKNOWN, LabelEntry
from clnet.data_catalog.case import Case
from clnet.errors import InputError
from clnet.storage import atomic_directory

if TYPE_CHECKING:
    from clnet.data_catalog.dataset import Dataset

__all__ = ["ExportFormat", "export"]

ExportFormat = Literal["nifti", "nnunet"]
Progress = Callable[[float, str], None]

UNKNOWN_NAME = "unknown"
IGNORE_NAME = "ignore"
Combination = tuple[int, ...]
"""Value of a voxel in each layer, in the order of the layers."""


def export(
    dataset: Dataset, folder: Path, format: ExportFormat, progress: Progress | None = None
) -> None:
    """Write all cases of `dataset` to a new folder: all of them, or nothing.

    ``nifti``: ``images/ID.nii.gz``, ``labels/ID/NAME.nii.gz`` and ``mapping.yaml``, which gives
    the same dataset when it is contributed again. ``nnunet``: nnU-Net v2 raw; labels of
    several layers become regions, what is unknown becomes the ignore label.

    Raises:
        AlreadyExists: `folder` is there.
        InputError: an unknown format, or nnU-Net's cannot say what the contracts do.
    """
    if format not in ("nifti", "nnunet"):
        raise InputError(f"export format {format!r}: give nifti or nnunet")
    with atomic_directory(folder) as made:
        write = _write_nifti if format == "nifti" else _write_nnunet
        for done, case_id in enumerate(write(dataset, made), start=1):
            if progress is not None:
                progress(done / len(dataset), case_id)
        terms = dataset.manifest.terms.model_dump(mode="json")
        (made / "terms.json").write_text(json.dumps(terms, indent=1) + "\n", encoding="utf-8")


def _write_nifti(dataset: Dataset, folder: Path) -> Iterator[str]:
    meanings: dict[str, list[LabelEntry]] = {}
    unknown = False
    for case in dataset:
        _save(case, case.ct(), folder / "images" / f"{case.id}.nii.gz")
        masks = folder / "labels" / case.id
        names = _names(case.contract.entries)
        somewhere = np.zeros(case.shape, bool)
        for layer in case.layers:
            grid = case.labels(layer)
            somewhere |= grid == UNKNOWN
            for entry in case.contract.for_layer(layer):
                name = names[entry]
                meanings.setdefault(name, []).append(entry)
                mask = (grid == entry.value).astype(np.uint8)
                _save(case, mask, masks / f"{name}.nii.gz")
        if somewhere.any():
            unknown = True
            _save(case, somewhere.astype(np.uint8), masks / f"{UNKNOWN_NAME}.nii.gz")
        yield case.id
    mapping: dict[str, Any] = {name: _spec(entries) for name, entries in meanings.items()}
    if unknown:
        mapping[UNKNOWN_NAME] = UNKNOWN_NAME
    text = yaml.safe_dump(mapping, sort_keys=True)
    (folder / "mapping.yaml").write_text(text, encoding="utf-8")


def _names(entries: tuple[LabelEntry, ...]) -> dict[LabelEntry, str]:
    """A file name for every entry; a number tells apart what the contract's names do not."""
    names: dict[LabelEntry, str] = {}
    for entry in sorted(entries, key=lambda e: (e.layer, e.value)):
        name = entry.name if len(entry.name) <= 100 else f"{entry.layer}-{entry.value}"
        names[entry] = name if name not in names.values() else f"{name}-{entry.value}"
    return names


def _spec(entries: list[LabelEntry]) -> dict[str, Any]:
    members = entries[0].members
    spec: dict[str, Any] = {"exact": members[0]} if len(members) == 1 else {"union": list(members)}
    extents = {entry.within for entry in entries}
    if extents == {None}:
        return spec
    # extents that differ from case to case came from the slices that were drawn
    (extent, *others) = extents
    return spec | {"within": "auto" if others or extent is None else list(extent)}


def _write_nnunet(dataset: Dataset, folder: Path) -> Iterator[str]:
    entries = _common_entries(dataset)
    layers = tuple(sorted({entry.layer for entry in entries}))
    seen: set[Combination] = set()
    for case in dataset:
        seen |= set(_combined(case, layers)[1])
    blank = (0,) * len(layers)
    known = sorted(c for c in seen if c != blank and UNKNOWN not in c)
    ids: dict[Combination, int] = {c: n for n, c in enumerate(known, start=1)} | {blank: 0}
    ignore = len(ids)
    ids |= dict.fromkeys((c for c in seen if UNKNOWN in c), ignore)
    dtype = np.uint8 if ignore <= np.iinfo(np.uint8).max else np.uint16
    ignored = False
    for case in dataset:
        codes, combinations = _combined(case, layers)
        table = np.array([ids[c] for c in combinations], dtype)
        grid = table[codes]
        outside = _outside(case)
        grid[outside] = np.where(grid[outside] == 0, ignore, grid[outside])
        ignored |= bool((grid == ignore).any())
        _save(case, case.ct(), folder / "imagesTr" / f"{case.id}_0000.nii.gz")
        _save(case, grid, folder / "labelsTr" / f"{case.id}.nii.gz")
        yield case.id
    about = _dataset_json(dataset, _regions(entries, layers, known), ignore if ignored else None)
    (folder / "dataset.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _common_entries(dataset: Dataset) -> tuple[LabelEntry, ...]:
    """The entries, extents aside, that all cases share.

    Raises:
        InputError: cases know different anatomies; in nnU-Net's format what is not labelled
            is background, so that would be a lie.
    """
    found: dict[str, set[tuple[str, int, str]]] = {}
    entries: tuple[LabelEntry, ...] = ()
    for case in dataset:
        entries = case.contract.entries
        found[case.id] = {(e.layer, e.value, e.name) for e in entries}
    first, *others = found.items()
    for case_id, other in others:
        if other != first[1]:
            names = ", ".join(sorted({name for _, _, name in other ^ first[1]}))
            raise InputError(
                f"{dataset.ref}: {names} is known in {first[0]} or in {case_id}, not in both; "
                "nnU-Net's format would call it background: export as nifti"
            )
    return entries


def _combined(case: Case, layers: tuple[str, ...]) -> tuple[NDArray[np.intp], list[Combination]]:
    """Number of its combination at every voxel, and the combinations by number."""
    codes = np.zeros(case.shape, np.intp)
    combinations: list[Combination] = [()]
    for layer in layers:
        codes = codes * 256 + case.labels(layer)
        present, codes = np.unique(codes, return_inverse=True)
        combinations = [(*combinations[int(p) // 256], int(p) % 256) for p in present]
        codes = codes.reshape(case.shape)
    return codes, combinations


def _outside(case: Case) -> NDArray[np.bool_]:
    """Slices on which some anatomy is unknown, as they lie beyond its extent."""
    z_mm = np.arange(case.shape[0]) * case.spacing[0]
    outside = np.zeros(case.shape[0], bool)
    for entry in case.contract.entries:
        if entry.within is not None:
            outside |= (z_mm < entry.within[0] - 1e-6) | (z_mm > entry.within[1] + 1e-6)
    return outside


def _regions(
    entries: tuple[LabelEntry, ...], layers: tuple[str, ...], known: list[Combination]
) -> dict[str, list[int]]:
    """Ids by label, larger regions first, as nnU-Net paints them in that order."""
    names = _names(entries)
    regions = {
        names[entry]: [
            n for n, c in enumerate(known, start=1) if c[layers.index(entry.layer)] == entry.value
        ]
        for entry in entries
    }
    return dict(sorted(regions.items(), key=lambda item: (-len(item[1]), item[0])))


def _dataset_json(
    dataset: Dataset, regions: Mapping[str, list[int]], ignore: int | None
) -> dict[str, Any]:
    empty = [name for name, ids in regions.items() if not ids]
    if empty:
        raise InputError(
            f"{dataset.ref}: no voxel of {', '.join(empty)} in any case; nnU-Net's format has no "
            "way to say so: export as nifti"
        )
    single = all(len(ids) == 1 for ids in regions.values())
    labels: dict[str, Any] = {"background": 0}
    labels |= {name: ids[0] if single else ids for name, ids in regions.items()}
    about: dict[str, Any] = {
        "name": dataset.ref,
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": len(dataset),
        "file_ending": ".nii.gz",
        "licence": dataset.manifest.terms.licence,
    }
    if not single:
        about["regions_class_order"] = [ids[0] for ids in regions.values()]
    if ignore is not None:
        labels[IGNORE_NAME] = ignore
    return about


def _save(case: Case, zyx: NDArray[Any], path: Path) -> None:
    """Canonical voxels as NIfTI in the case's original orientation."""
    import nibabel as nib
    from nibabel import orientations

    path.parent.mkdir(parents=True, exist_ok=True)
    canonical = orientations.axcodes2ornt(("L", "P", "S"))
    transform = orientations.ornt_transform(
        canonical, orientations.axcodes2ornt(tuple(case.axcodes))
    )
    xyz = zyx.transpose(2, 1, 0)
    affine = case.affine @ orientations.inv_ornt_aff(transform, xyz.shape)
    image = nib.Nifti1Image(orientations.apply_orientation(xyz, transform), affine)
    image.set_qform(affine, code=1)
    nib.save(image, path)
