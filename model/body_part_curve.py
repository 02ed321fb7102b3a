"""The scan-wide curve of body-part scores, and the ranges in which anatomies live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter1d
from scipy.stats import theilslopes

__all__ = ["BodyPartCurve", "Range", "fit_curve", "ranges_from_labels"]

TRUSTED = 0.5  # quality from which a curve may gate
SHORT_MM = 100.0  # a scan shorter than this says nothing of its slope
UNCHECKED = 0.49  # highest quality of such a scan: any few slices agree with each other
PRIOR_MM = 150.0  # length at which a scan's own slope counts as much as the usual one
SLOPES = (0.85, 1.2)  # of the usual slope: bodies differ by height
SMOOTH_MM = 60.0
BEND = 0.02  # how far a body may leave the straight line, in body heights
FALLING = -0.3  # slope, in terms of the usual one, below which a scan may lie upside down
SPREAD = 0.15  # scatter about the line at which the quality is zero
TOP = 0.05  # below the top of the head within which a body may end, beside a curve's error
BEYOND = 0.3  # body heights past either end at which a score means no torso or head
FIT_SLICES = 300
SCATTERED_LAYERS = frozenset({"gtv", "lns"})


@dataclass(frozen=True, slots=True)
class Range:
    """Where along the body an anatomy was seen in training, 0 pelvis bottom to 1 head top.

    Attributes:
        p005, p995: percentiles 0.5 and 99.5 of the scores of its labelled slices.
        low, high: the widened range that gates.
    """

    p005: float
    p995: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The range as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Range:
        """Inverse of :meth:`to_dict`."""
        return cls(*(float(values[key]) for key in ("p005", "p995", "low", "high")))


@dataclass(frozen=True, slots=True)
class BodyPartCurve:
    """Body-part scores of one scan.

    Attributes:
        scores: fitted score per slice, float64 ``(Z,)``.
        spacing_mm: distance of the slices.
        patient: whether a slice shows a patient, bool ``(Z,)``.
        quality: 0 to 1, how well the slices' own scores agree with a body's course.
        upside_down: scores fall towards the end that the header calls superior, and the other
            way round they fit a body.
        error: by how much scores may be off.
    """

    scores: NDArray[np.float64]
    spacing_mm: float
    patient: NDArray[np.bool_]
    quality: float
    upside_down: bool
    error: float = 0.0

    @property
    def trusted(self) -> bool:
        """Whether the curve is good enough to gate by."""
        return self.quality >= TRUSTED and bool(self.patient.any())

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest score among the slices with a patient."""
        seen = self.scores[self.patient] if self.patient.any() else self.scores
        return float(seen.min()), float(seen.max())

    @property
    def view(self) -> tuple[float, float]:
        """What the scan shows of a body: its span and half a slice to either side.

        Endless upwards where slices without a patient follow the top of the head, as there the
        body itself ends. Never downwards, as it goes on below the pelvis; and air that follows
        any other part was put there.
        """
        low, high = self.span
        half = (high - low) / max(1, 2 * (int(self.patient.sum()) - 1))
        ends = bool(self.patient.any()) and not self.patient[-1]
        if ends and high >= 1 - self.error - TOP:
            return low - half, np.inf
        return low - half, high + half

    def patient_on_grid(self, depth: int, margin_mm: float = 0.0) -> NDArray[np.bool_]:
        """Which of `depth` slices of the same field of view show a patient, bool ``(depth,)``.

        Args:
            depth: number of slices.
            margin_mm: how far beyond these slices count as well, the next slice at least where
                it is not 0.
        """
        shown = self.patient
        if margin_mm:
            slices = max(1, round(margin_mm / self.spacing_mm))
            shown = binary_dilation(shown, iterations=slices)
        own = len(shown)
        nearest = ((np.arange(depth) + 0.5) * own / depth).astype(int)
        return np.asarray(shown[nearest], dtype=np.bool_)

    def on_grid(self, depth: int) -> NDArray[np.float64]:
        """Scores of `depth` slices that cut the same field of view."""
        own = len(self.scores)
        centres = np.clip((np.arange(depth) + 0.5) * own / depth - 0.5, 0, own - 1)
        return np.interp(centres, np.arange(own), self.scores)


def fit_curve(
    slice_scores: NDArray[np.float64],
    spacing_mm: float,
    patient: NDArray[np.bool_],
    per_mm: float,
    error: float = 0.0,
) -> BodyPartCurve:
    """Fit a body's course through noisy scores of equidistant slices.

    A Theil-Sen line, its slope drawn towards that of bodies the shorter the scan is, and bent a
    little by what the residuals of many slices agree on: bodies differ in proportion, single
    slices err. A scan too short for its slope to be checked is not trusted.

    Args:
        slice_scores: calibrated score of each slice, ``(Z,)``.
        spacing_mm: distance of the slices.
        patient: slices to fit, ``(Z,)``.
        per_mm: usual rise of the score per mm, more than 0.
        error: by how much fitted scores may be off.
    """
    if not patient.any():
        line = np.arange(len(slice_scores)) * spacing_mm * per_mm
        return BodyPartCurve(line.astype(np.float64), spacing_mm, patient, 0.0, False, error)
    curve, agreement = _fit(slice_scores, spacing_mm, patient, per_mm, error)
    if agreement >= FALLING:
        return curve
    turned, _ = _fit(slice_scores[::-1], spacing_mm, patient[::-1], per_mm, error)
    return replace(curve, upside_down=turned.trusted)


def _fit(
    slice_scores: NDArray[np.float64],
    spacing_mm: float,
    patient: NDArray[np.bool_],
    per_mm: float,
    error: float,
) -> tuple[BodyPartCurve, float]:
    """The curve as it lies, and the slope of the scores in terms of the usual one."""
    z = np.arange(len(slice_scores)) * spacing_mm
    where = np.flatnonzero(patient)
    chosen = where[np.unique(np.linspace(0, len(where) - 1, FIT_SLICES).round().astype(int))]
    length = z[chosen[-1]] - z[chosen[0]]
    agreement = 1.0
    if len(chosen) >= 4:
        agreement = float(theilslopes(slice_scores[chosen], z[chosen]).slope) / per_mm
    weight = length**2 / (length**2 + PRIOR_MM**2)
    slope = per_mm * float(np.clip(1 + weight * (agreement - 1), *SLOPES))
    line = slope * z + np.median(slice_scores[chosen] - slope * z[chosen])
    residual = np.interp(np.arange(len(z)), where, (slice_scores - line)[where])
    agreed = gaussian_filter1d(
        np.clip(residual, -2 * BEND, 2 * BEND), SMOOTH_MM / spacing_mm, mode="reflect"
    )
    scores = np.maximum.accumulate(line + np.clip(agreed, -BEND, BEND)).astype(np.float64)
    quality = max(0.0, 1 - float(np.median(np.abs(residual[chosen]))) / SPREAD)
    if length < SHORT_MM:
        quality = min(quality, UNCHECKED)
    else:
        likeness = min(agreement, 1 / agreement) if agreement > 0 else 0.0
        quality *= float(np.clip((likeness - 0.2) / 0.4, 0, 1))
    if scores[where].max() < -BEYOND or scores[where].min() > 1 + BEYOND:
        quality = 0.0
    return BodyPartCurve(scores, spacing_mm, patient, quality, False, error), agreement


def ranges_from_labels(
    cases: Iterable[tuple[BodyPartCurve, Mapping[str, NDArray[np.bool_]]]], layer: str
) -> dict[str, Range]:
    """Ranges of the anatomies of one decoder from the training cases that label them.

    Organs widen by a quarter of their extent, lymph-node stations and tumours, which scatter,
    to one standard deviation past their extremes. Cases with an untrusted curve do not count;
    labels with an extent (``within``) must not be passed. An anatomy without a labelled slice
    gets no range, and so is never gated.

    Args:
        cases: per case its curve and, per anatomy, which slices hold it, bool ``(Z,)``.
        layer: the decoder's layer.
    """
    seen: dict[str, list[NDArray[np.float64]]] = {}
    for curve, labelled in cases:
        if curve.trusted:
            for anatomy, slices in labelled.items():
                seen.setdefault(anatomy, []).append(curve.scores[slices])
    ranges = {}
    for anatomy in sorted(seen):
        scores = np.concatenate(seen[anatomy])
        if not len(scores):
            continue
        p005, p995 = (float(p) for p in np.percentile(scores, (0.5, 99.5)))
        if layer in SCATTERED_LAYERS:
            spread = float(scores.std())
            low, high = float(scores.min()) - spread, float(scores.max()) + spread
        else:
            low, high = p005 - 0.25 * (p995 - p005), p995 + 0.25 * (p995 - p005)
        ranges[anatomy] = Range(p005, p995, low, high)
    return ranges
