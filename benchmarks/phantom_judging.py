"""Held-out figures of the phantom benchmark, kept as they are made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from clnet.anatomy.phantom import render
from clnet.judging import HeldOutScan, baseline_scores, held_out_scans, scores_of
from clnet.model.segmentation import SegmentationModel
from clnet.platform.evaluation import Score, mean_dsc
from clnet.quickstart.recipe import Baseline, HeldOut
from clnet.stages import Tell
from clnet.storage import atomic_write

__all__ = ["Column", "Judge", "mean"]

Column = dict[str, dict[str, float]]
"""Anatomy to its ``dsc`` and ``false_positive_ml``, means over the held-out scans."""


class Judge:
    """Judges networks on the held-out scans; what was judged once is read from `folder`.

    Args:
        folder: where figures are kept.
        held_out: the scans.
    """

    def __init__(self, folder: Path, held_out: HeldOut) -> None:
        self.folder = folder
        self.held_out = held_out

    @cached_property
    def scans(self) -> list[HeldOutScan]:
        """The held-out scans."""
        part = self.held_out
        return list(
            held_out_scans(
                part.first_seed, part.count, part.field_of_view, part.spacing, part.orientations
            )
        )

    def networks(
        self,
        name: str,
        content: str,
        load: Callable[[], SegmentationModel],
        anatomies: Sequence[str],
        tell: Tell,
    ) -> Column:
        """How well networks find `anatomies`.

        Args:
            name: of the column.
            content: hash of the networks.
            load: gives them, if they were not judged before.
        """

        def measure() -> list[dict[str, Score]]:
            model, found = load(), []
            for index, scan in enumerate(self.scans):
                tell(index / len(self.scans), f"{name}: {scan.name}")
                found.append(scores_of(model, scan, anatomies))
            return found

        return self._kept(name, (content, *sorted(anatomies)), measure)

    def baseline(self, part: Baseline, anatomies: Sequence[str], tell: Tell) -> Column:
        """How well Hounsfield units and mean position alone find `anatomies`."""

        def measure() -> list[dict[str, Score]]:
            tell(0.0, "baseline")
            seeds = range(part.first_seed, part.first_seed + part.count)
            return baseline_scores([render(seed) for seed in seeds], self.scans, anatomies)

        return self._kept("baseline", (part.model_dump_json(), *sorted(anatomies)), measure)

    def _kept(
        self, name: str, content: Sequence[str], measure: Callable[[], list[dict[str, Score]]]
    ) -> Column:
        key = "\n".join((*content, self.held_out.model_dump_json()))
        file = self.folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
        if file.exists():
            column: Column = json.loads(file.read_text(encoding="utf-8"))
            return column
        column = _column(measure())
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, json.dumps(column, indent=2).encode())
        return column


def mean(column: Column, anatomies: Sequence[str] | None = None) -> float | None:
    """Mean DSC of a column, over those of `anatomies` that the held-out scans hold."""
    chosen = column if anatomies is None else [name for name in anatomies if name in column]
    return float(np.mean([column[name]["dsc"] for name in chosen])) if chosen else None


def _column(scans: Sequence[Mapping[str, Score]]) -> Column:
    return {
        name: {
            "dsc": dsc,
            "false_positive_ml": float(np.mean([scan[name].false_positive_ml for scan in scans])),
        }
        for name, dsc in mean_dsc(scans).items()
    }
