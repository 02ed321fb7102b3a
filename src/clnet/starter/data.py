"""What the starter learns from: phantoms, and openly licensed scans for the encoder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clnet.anatomy import vocabulary
from clnet.anatomy.phantom import PHANTOM_ANATOMIES, render
from clnet.data_catalog import CaseSource, Catalog, Dataset, Terms, fingerprint
from clnet.hub import Hub
from clnet.phantom_cases import write_case
from clnet.starter.recipe import StarterRecipe

__all__ = ["contribute_phantoms", "contribute_real_scans", "record"]

Progress = Callable[[float, str], None]

PHANTOM_TERMS = Terms(licence="CC0-1.0", notes="procedural phantoms, no patient")

TS_TERMS = Terms(
    licence="Apache-2.0",
    attribution="TotalSegmentator test data, wasserth/TotalSegmentator",
    notes="labels are model output checked by its maintainers, not expert truth",
)
CIP_TERMS = Terms(
    licence="LicenseRef-CIP-BSD-style",
    attribution="Chest Imaging Platform test data, acil-bwh/ChestImagingPlatform",
    obligations=frozenset(),
)

# Chest Imaging Platform: region + 256 * type; regions 9-11 are thirds of the left lung, 12-14
# of the right; type 2 is airway, 3 vessel. Airways reach beyond the vocabulary's trachea.
CIP_REGIONS = {"lung_left": (9, 10, 11), "lung_right": (12, 13, 14)}
CIP_TYPES_IN_LUNG = (0, 3)


def contribute_phantoms(
    catalog: Catalog, recipe: StarterRecipe, progress: Progress | None = None
) -> Dataset:
    """The encoder's phantoms, every anatomy labelled but those held back."""
    labels = {a: (a,) for a in PHANTOM_ANATOMIES if a not in recipe.held_back}
    spacings = recipe.phantoms.spacings
    with tempfile.TemporaryDirectory(prefix="clnet-phantoms-") as temporary:
        cases = []
        for index in range(recipe.phantoms.count):
            seed = recipe.phantoms.first_seed + index
            phantom = render(seed, spacing=spacings[index % len(spacings)])
            cases.append(write_case(phantom, Path(temporary), f"phantom-{seed}", labels))
            if progress is not None:
                progress((index + 1) / recipe.phantoms.count / 2, f"phantom {seed} drawn")
        return catalog.contribute(
            "reference/phantoms",
            cases,
            {name: name for name in labels},
            PHANTOM_TERMS,
            None if progress is None else lambda f, text: progress(0.5 + f / 2, f"{text} stored"),
        )


def contribute_real_scans(catalog: Catalog, recipe: StarterRecipe, folder: Path) -> list[Dataset]:
    """The scans in `folder` (the layout of the project's real test data) that licences permit.

    Whatever is not there is left out; anatomies held back are mapped to nothing.
    """
    found = []
    abdomen = folder / "ts_abdomen_pelvis"
    if abdomen.is_dir():
        case = CaseSource(
            "ts-example",
            abdomen / "example_ct.nii.gz",
            abdomen / "example_seg_fast_force_split.nii.gz",
        )
        mapping = _total_mapping(abdomen / "total_class_map.json", recipe.held_back)
        found.append(catalog.contribute("reference/ts-example", [case], mapping, TS_TERMS))
    chest = folder / "cip_chest64"
    if chest.is_dir():
        case = CaseSource("cip-chest64", chest / "ct-64.nrrd", chest / "lm-64.nrrd")
        found.append(catalog.contribute("reference/cip-chest64", [case], _cip_mapping(), CIP_TERMS))
    return found


def record(hub: Hub, dataset: Dataset) -> None:
    """Let the registry know a dataset, for lineage."""
    hub.registry.record_dataset(
        dataset.ref,
        dataset.sha256,
        dataset.manifest.terms.model_dump(mode="json"),
        fingerprint=fingerprint(dataset),
    )


def _total_mapping(path: Path, held_back: tuple[str, ...]) -> dict[str, Any]:
    names = json.loads(path.read_text(encoding="utf-8"))
    resolved = {value: vocabulary().resolve(name) for value, name in names.items()}
    return {value: None if name in held_back else name for value, name in resolved.items()}


def _cip_mapping() -> dict[str, Any]:
    mapping: dict[str, Any] = {"512": None, "768": None}
    for lung, regions in CIP_REGIONS.items():
        for region in regions:
            mapping[str(512 + region)] = None
            for kind in CIP_TYPES_IN_LUNG:
                mapping[str(256 * kind + region)] = lung
    return mapping
