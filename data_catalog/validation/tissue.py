"""Do labels lie on tissue: inside the body, and of about the density that it should have?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.validation.facts import facts, lineage_of
from clnet.data_catalog.validation.findings import Finding
from clnet.data_catalog.validation.subject import Subject

__all__ = ["body_mask", "check_density", "check_inside_body"]

AIR_HU = -900.0
"""Between the air around a body (-1000) and lungs at full breath (-870)."""

MIN_VOXELS = 20
"""Fewer voxels of a label in the sample say nothing about its density or place."""

MOST = 0.5
SOME = 0.05


def body_mask(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Where the body is, lungs and bowel included, ``(z, y, x)``.

    Noise is averaged away first; what a slice encloses belongs to the body.
    """
    from scipy.ndimage import binary_fill_holes, uniform_filter

    dense = uniform_filter(hu.astype(np.float32), size=3, mode="nearest") > AIR_HU
    return np.stack([np.asarray(binary_fill_holes(plane), dtype=np.bool_) for plane in dense])


def check_inside_body(subject: Subject) -> Iterator[Finding]:
    """Labels in the air around the body: shifted, flipped or of another scan."""
    body = body_mask(subject.sample)
    outside, inside = 0, 0
    worst: list[tuple[float, str]] = []
    for layer, grid in subject.content.labels.items():
        codes = grid[subject.steps]
        total = np.bincount(codes.reshape(-1), minlength=256)
        within = np.bincount(codes[body], minlength=256)
        for entry in subject.content.contract.for_layer(layer):
            if facts().airy & set(lineage_of(entry.name)) or total[entry.value] < MIN_VOXELS:
                continue
            inside += int(within[entry.value])
            outside += int(total[entry.value] - within[entry.value])
            share = 1.0 - float(within[entry.value] / total[entry.value])
            if share > SOME:
                worst.append((share, entry.name))
    if not worst:
        return
    worst.sort(reverse=True)
    named = ", ".join(f"{name} {share:.0%}" for share, name in worst[:5])
    whole = outside / (inside + outside)
    code = "label.outside-body" if whole > MOST else "label.partly-outside-body"
    yield subject.about_labels(code, f"outside the body: {named}; {whole:.0%} of all labels")


def check_density(subject: Subject) -> Iterator[Finding]:
    """Labels on tissue of a density that theirs does not have."""
    odd = []
    for name, region in subject.regions.items():
        expected = next(
            (facts().density[n] for n in (*lineage_of(name), region.layer) if n in facts().density),
            None,
        )
        if expected is None or region.voxels < MIN_VOXELS:
            continue
        low, high = expected
        if not low <= region.hu <= high:
            odd.append(f"{name} has {region.hu:.0f} HU on average, {low:g} to {high:g} is usual")
    if odd:
        yield subject.about_labels("hu.tissue", "; ".join(odd[:5]))
