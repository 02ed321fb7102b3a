"""Slices that were written twice, or that were lost and filled with nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from clnet.data_catalog.validation.findings import Finding
from clnet.data_catalog.validation.subject import Subject

__all__ = ["check_slices"]

THICK_MM = 10.0


def check_slices(subject: Subject) -> Iterator[Finding]:
    """Doubled, blank and very thick axial slices."""
    ct = subject.content.ct
    # blank padding above and below the scan is usual, in between it is a loss
    blank = np.array([int(plane.min()) == int(plane.max()) for plane in ct])
    filled = np.flatnonzero(~blank)
    if len(filled):
        lost = np.flatnonzero(blank[: filled[-1]])
        lost = lost[lost > filled[0]]
        if len(lost):
            yield subject.about_image(
                "slices.blank", f"{len(lost)} blank slices: {_numbers(lost.tolist())}"
            )
    hashes = [hashlib.blake2b(np.ascontiguousarray(plane).data).digest() for plane in ct]
    doubled = [z for z in range(1, len(ct)) if hashes[z] == hashes[z - 1] and not blank[z]]
    if doubled:
        yield subject.about_image(
            "slices.doubled",
            f"{len(doubled)} of {len(ct)} slices equal the one below: {_numbers(doubled)}",
        )
    if subject.content.spacing[0] > THICK_MM:
        yield subject.about_image(
            "image.coarse", f"slices of {subject.content.spacing[0]:.3g} mm; small organs vanish"
        )


def _numbers(slices: list[int], shown: int = 10) -> str:
    """Numbers from the feet, 0 first, as the stored case has them."""
    more = " ..." if len(slices) > shown else ""
    return "z = " + ", ".join(map(str, slices[:shown])) + more
