"""The baseline beside every result: what HU and mean position alone can tell.

Gaussian naive Bayes per layer over four features of a voxel: Hounsfield units, true body height
of its slice, and its position in the slice relative to the body's bounding box. A decoder
that does no better has learned nothing of shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from clnet.errors import InputError

__all__ = ["NaiveBayesBaseline", "body_boxes"]

Floats = NDArray[np.float64]
Volume = tuple[NDArray[np.int16], dict[str, NDArray[np.uint8]], dict[str, dict[int, str]], Floats]

_SKIN_HU = -300
_FLOOR = np.array([4.0, 1e-4, 1e-4, 1e-4])  # of the variances: HU^2, then squared fractions


def body_boxes(ct: NDArray[np.int16]) -> NDArray[np.int64]:
    """Per slice, (y start, y stop, x start, x stop) of the largest thing above -300 HU.

    A slice that holds nothing gets its whole extent. `ct` is (Z, Y, X).
    """
    boxes = np.tile(np.array([0, ct.shape[1], 0, ct.shape[2]], dtype=np.int64), (len(ct), 1))
    for z, mask in enumerate(ct > _SKIN_HU):
        things, count = label(mask)
        if count:
            largest = int(np.bincount(things.ravel())[1:].argmax())
            rows, columns = find_objects(things)[largest]
            boxes[z] = rows.start, rows.stop, columns.start, columns.stop
    return boxes


def _features(ct: NDArray[np.int16], height: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """HU, body height, relative y and relative x, shaped to broadcast over (Z, Y, X)."""
    if height.shape != ct.shape[:1]:
        raise InputError(f"height {height.shape}: give one per slice of the scan {ct.shape}")
    boxes = body_boxes(ct).astype(np.float64)
    y, x = (
        (np.arange(size)[None] + 0.5 - boxes[:, first : first + 1])
        / (boxes[:, first + 1] - boxes[:, first])[:, None]
        for size, first in ((ct.shape[1], 0), (ct.shape[2], 2))
    )
    return ct.astype(np.float64), height[:, None, None], y[:, :, None], x[:, None, :]


@dataclass
class _Moments:
    """Sums from which means and variances of the classes of one layer follow."""

    names: dict[int, str]
    count: Floats = field(default_factory=lambda: np.zeros(256))
    total: Floats = field(default_factory=lambda: np.zeros((4, 256)))
    squares: Floats = field(default_factory=lambda: np.zeros((4, 256)))

    def add(self, labels: NDArray[np.uint8], features: tuple[Floats, ...]) -> None:
        flat = labels.ravel()
        self.count += np.bincount(flat, minlength=256)
        for row, feature in enumerate(features):
            values = np.broadcast_to(feature, labels.shape).ravel()
            self.total[row] += np.bincount(flat, values, 256)
            self.squares[row] += np.bincount(flat, values**2, 256)


class NaiveBayesBaseline:
    """Fit on fully labelled scans, one at a time; memory does not grow with their number."""

    def __init__(self) -> None:
        self._layers: dict[str, _Moments] = {}

    def fit(self, volumes: Iterable[Volume]) -> NaiveBayesBaseline:
        """Learn from (ct, labels per layer, names per layer, body height per slice).

        Arrays are (Z, Y, X); label 0 is background; heights are 0 (pelvis) to 1 (vertex). May
        be called again with more.

        Raises:
            InputError: two volumes number the same layer differently, or shapes do not match.
        """
        for ct, labels, names, height in volumes:
            features = _features(ct, height)
            for layer, values in labels.items():
                moments = self._layers.setdefault(layer, _Moments(dict(names[layer])))
                if moments.names != names[layer]:
                    raise InputError(f"layer {layer!r}: volumes number their anatomies differently")
                if values.shape != ct.shape:
                    raise InputError(f"layer {layer!r}: labels {values.shape}, scan {ct.shape}")
                moments.add(values, features)
        return self

    @property
    def names(self) -> dict[str, dict[int, str]]:
        """Per layer, what the numbers of a prediction mean."""
        return {layer: dict(moments.names) for layer, moments in self._layers.items()}

    def predict(self, ct: NDArray[np.int16], height: Floats) -> dict[str, NDArray[np.uint8]]:
        """The most probable class of every voxel, per layer.

        Raises:
            InputError: not fitted, or `height` does not match the scan.
        """
        if not self._layers:
            raise InputError("the baseline is not fitted: call fit with labelled scans first")
        features = _features(ct, height)
        return {layer: _classify(moments, features) for layer, moments in self._layers.items()}


def _classify(moments: _Moments, features: tuple[Floats, ...]) -> NDArray[np.uint8]:
    shape = features[0].shape
    best = np.full(shape, -np.inf)
    out = np.zeros(shape, dtype=np.uint8)
    known = np.flatnonzero(moments.count)
    for value in known:
        count = moments.count[value]
        mean = moments.total[:, value] / count
        variance = np.maximum(moments.squares[:, value] / count - mean**2, _FLOOR)
        prior = np.log(count / moments.count.sum()) - 0.5 * np.log(2 * np.pi * variance).sum()
        # height, y and x broadcast: only the HU term and the sum touch every voxel
        score = -((features[0] - mean[0]) ** 2) / (2 * variance[0])
        for row in (2, 3):
            score -= (features[row] - mean[row]) ** 2 / (2 * variance[row])
        score += prior - (features[1] - mean[1]) ** 2 / (2 * variance[1])
        better = score > best
        best[better] = score[better]
        out[better] = value
    return out
