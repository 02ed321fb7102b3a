"""What a release promises to those who used its parent: nothing old changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from clnet.judging import HeldOutScan
from clnet.model.segmentation import SegmentationModel, logits_sha256
from clnet.platform.evaluation import LabelMaps

__all__ = ["changed_voxels", "logits_hashes"]

SLICES = 48


def logits_hashes(
    model: SegmentationModel, scan: HeldOutScan, refs: Sequence[str]
) -> dict[str, str]:
    """Hash of each decoder's logits on the middle slices of a scan, bit for bit."""
    ct = scan.phantom.ct
    first = max(0, (len(ct) - SLICES) // 2)
    middle = ct[first : first + SLICES].transpose(2, 1, 0)
    logits = model.logits(middle, scan.phantom.affine, refs)
    return {ref: logits_sha256(values) for ref, values in logits.items()}


def changed_voxels(
    before: Mapping[str, LabelMaps], after: Mapping[str, LabelMaps], updated: Collection[str]
) -> int:
    """Voxels of anatomies of `before` that are not the same in `after`, over all scans.

    Args:
        before, after: results by scan name.
        updated: anatomies with a newer decoder version, which may change.
    """
    changed = 0
    for name, old in before.items():
        for layer, names in old.names.items():
            for value, anatomy in names.items():
                if anatomy in updated:
                    continue
                now = after[name].mask(anatomy)
                was = old.labels[layer] == value
                changed += int((was != now).sum()) if now is not None else int(np.sum(was))
    return changed
