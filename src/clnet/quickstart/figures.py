"""The quickstart's figures: Dice scores on held-out phantoms, pruning, the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clnet.anatomy.phantom import Phantom
from clnet.decoders_registry import DecoderRecord, Registry, ReleaseRecord
from clnet.judging import HeldOutScan, baseline_scores, channels_of, dense_model, scores_of
from clnet.model.segmentation import SegmentationModel
from clnet.model.ticket import sparsity
from clnet.platform.evaluation import LabelMaps, Score, mean_dsc, score

__all__ = ["Figures"]


class Figures:
    """Collects what `summary.json` says of the result."""

    def __init__(
        self,
        release: ReleaseRecord,
        scans: Sequence[HeldOutScan],
        results: Mapping[str, LabelMaps],
    ) -> None:
        self.anatomies = channels_of(release.decoders)
        self.scans = scans
        self._scores = [
            score(results[scan.name], scan.truth, self.anatomies, scan.voxel_ml) for scan in scans
        ]
        self._new: list[str] = []
        self._delta: dict[str, float] = {}
        self._stored: dict[str, float] = {}
        self._pruned = 0.0
        self._baseline: dict[str, float] = {}

    def compare(
        self,
        registry: Registry,
        model: SegmentationModel,
        dense: Mapping[str, DecoderRecord],
        pruned: Mapping[str, DecoderRecord],
        starter: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Dense against pruned, new groups here and now, the starter's as it was measured.

        Args:
            model: the release, whose decoders of new groups are the pruned ones.
            starter: per anatomy, ``dense`` and ``pruned`` DSC on the same held-out scans.
        """
        self._new = channels_of(list(pruned.values()))
        unpruned = dense_model(registry, model, dense)
        # of all anatomies, as they were served: those of the starter take their voxels first
        before = mean_dsc(scores_of(unpruned, scan, self.anatomies) for scan in self.scans)
        after = mean_dsc(self._scores)
        self._delta = {name: after[name] - before[name] for name in self._new if name in before}
        self._stored = {name: v["pruned"] - v["dense"] for name, v in starter.items()}
        self._pruned = sparsity(
            [d.decoder for d in model.decoders if d.served and d.decoder is not None]
        )

    def baseline(self, training: Sequence[Phantom]) -> None:
        """What HU and mean position alone can tell."""
        self._baseline = mean_dsc(baseline_scores(training, self.scans, self.anatomies))

    def summary(self) -> dict[str, Any]:
        """The figures, JSON-able."""
        dsc = mean_dsc(self._scores)
        new = [dsc[name] for name in self._new if name in dsc]
        delta = self._delta | self._stored
        return {
            "phantoms": True,
            "dsc": dsc,
            "false_positive_ml": _false_positives(self._scores),
            "mean_dsc": float(np.mean(list(dsc.values()))),
            "mean_dsc_new": float(np.mean(new)),
            "new": sorted(self._new),
            "baseline_dsc": float(np.mean(list(self._baseline.values()))),
            "baseline": self._baseline,
            "mean_pruned": self._pruned,
            "delta_dsc": delta,
            "delta_dsc_stored": sorted(self._stored),
            "mean_abs_delta_dsc": float(np.mean(np.abs(list(delta.values())))),
            "mean_abs_delta_dsc_new": float(np.mean(np.abs(list(self._delta.values())))),
        }


def _false_positives(scans: Sequence[Mapping[str, Score]]) -> dict[str, float]:
    names = sorted({name for scan in scans for name in scan})
    return {
        name: float(np.mean([scan[name].false_positive_ml for scan in scans if name in scan]))
        for name in names
    }
