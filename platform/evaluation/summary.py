"""From rows to figures: per anatomy, group and region, with bootstrap confidence intervals.

The unit that is resampled is the case: patients are independent, the anatomies of one are not.
A group's value in a case is the mean over its anatomies there.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from clnet.anatomy.stratification import default_stratification
from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import NotFound
from clnet.platform.evaluation.comparison import Row

__all__ = ["METRICS", "OTHER", "Figure", "Place", "Summary", "place_of", "summarise"]

METRICS = ("dsc", "nsd", "hd95_mm", "volume_error_ml", "volume_error_percent")
CONFIDENCE = 0.95
RESAMPLES = 2000
OTHER = "other"
"""Group of what spans several groups, region of what spans several regions."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Frozen):
    """Where an anatomy belongs; ``other`` if in several places, or in none."""

    group: str
    region: str
    layer: str


class Figure(_Frozen):
    """One metric over cases.

    Attributes:
        n: cases that have a value.
        mean, median: over them; None without any.
        low, high: 95 % bootstrap interval (BCa) of the mean; None below two cases.
    """

    n: int
    mean: float | None = None
    median: float | None = None
    low: float | None = None
    high: float | None = None


class Summary(_Frozen):
    """What is known of an anatomy, a group of them, or all.

    Attributes:
        cases: in which it was evaluated.
        findings: anatomies by who holds them: matched, missed, false positive, absent.
        not_evaluated: reason to how often.
        figures: by metric.
    """

    cases: int
    findings: dict[str, int]
    not_evaluated: dict[str, int]
    figures: dict[str, Figure]


def place_of(anatomy: str) -> Place:
    """Group, region and layer of a canonical id, or of members joined by ``+``."""
    known = vocabulary()
    names = [anatomy] if anatomy in known else anatomy.split("+")
    if any(name not in known for name in names):
        return Place(group=OTHER, region=OTHER, layer=OTHER)
    leaves = [leaf for name in names for leaf in known.leaves(name)]
    return Place(
        group=_only([_group(leaf) for leaf in leaves]),
        region=_only([known[name].region for name in names]),
        layer=_only([known[name].layer for name in names]),
    )


def _group(leaf: str) -> str:
    try:
        return default_stratification().group_of(leaf).id
    except NotFound:
        return OTHER


def _only(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else OTHER


def summarise(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, Summary]:
    """Summaries of rows that share a key, by key."""
    sorted_out: dict[str, list[Row]] = {}
    for row in rows:
        sorted_out.setdefault(key(row), []).append(row)
    return {name: _summary(held) for name, held in sorted(sorted_out.items())}


def _summary(rows: Sequence[Row]) -> Summary:
    evaluated = [row for row in rows if row.evaluated]
    by_case: dict[str, list[Row]] = {}
    for row in evaluated:
        by_case.setdefault(row.case, []).append(row)
    figures = {}
    for metric in METRICS:
        means = []
        for held in by_case.values():
            values = [v for row in held if (v := getattr(row, metric)) is not None]
            if values:
                means.append(float(np.mean(values)))
        figures[metric] = figure_of(means)
    return Summary(
        cases=len(by_case),
        findings=dict(Counter(str(row.finding) for row in evaluated)),
        not_evaluated=dict(Counter(row.reason for row in rows if not row.evaluated)),
        figures=figures,
    )


def figure_of(values: Sequence[float]) -> Figure:
    """Mean, median and the interval of the mean; equal values give an interval of no width."""
    if not values:
        return Figure(n=0)
    found = np.asarray(values, dtype=np.float64)
    mean, median = float(found.mean()), float(np.median(found))
    if len(found) < 2:
        return Figure(n=1, mean=mean, median=median)
    low, high = (mean, mean) if np.ptp(found) == 0 else _interval(found)
    return Figure(n=len(found), mean=mean, median=median, low=low, high=high)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import bootstrap

    def resampled(method: Any) -> tuple[float, float]:
        found = bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method=method,
            rng=np.random.default_rng(0),
        ).confidence_interval
        return float(found.low), float(found.high)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # BCa says in a warning what it says with NaN as well
        low, high = resampled("BCa")
    return (low, high) if np.isfinite([low, high]).all() else resampled("percentile")
