from __future__ import annotations

import numpy as np
import pytest

from clnet.anatomy.phantom import PHANTOM_ANATOMIES, Phantom, render
from clnet.errors import InputError
from clnet.platform.baseline import NaiveBayesBaseline, Volume, body_boxes

NAMES = {"organ": {1: "liver", 2: "spleen"}}


def block_scan(shift: int = 0) -> Volume:
    """A body of 20 x 24 voxels with an organ of its own HU and two of the same."""
    ct = np.full((8, 32, 40), -1000, dtype=np.int16)
    labels = np.zeros(ct.shape, dtype=np.uint8)
    ct[:, 6:26, 6 + shift : 30 + shift] = 40
    labels[2:6, 10:20, 8 + shift : 16 + shift] = 1
    labels[2:6, 10:20, 20 + shift : 28 + shift] = 2
    ct[labels > 0] = 100
    ct += np.random.default_rng(shift).integers(-5, 6, ct.shape).astype(np.int16)
    return ct, {"organ": labels}, NAMES, (np.arange(8) + 0.5) / 8


def phantom_volume(phantom: Phantom) -> Volume:
    return phantom.ct, phantom.labels, phantom.names, phantom.height


def test_boxes_follow_the_body_and_ignore_what_lies_beside_it() -> None:
    ct = block_scan(shift=4)[0]
    ct[:, 30:, 2:4] = 0  # a cable
    ct[0] = -1000
    boxes = body_boxes(ct)
    assert boxes[3].tolist() == [6, 26, 10, 34]
    assert boxes[0].tolist() == [0, 32, 0, 40]


def test_it_tells_apart_what_hu_and_position_tell_apart() -> None:
    baseline = NaiveBayesBaseline().fit(block_scan(shift) for shift in (0, 2, 8))
    ct, labels, _, height = block_scan(shift=5)
    predicted = baseline.predict(ct, height)["organ"]
    assert baseline.names == NAMES
    for value in (1, 2):
        both = (predicted == value).sum() + (labels["organ"] == value).sum()
        overlap = 2 * ((predicted == value) & (labels["organ"] == value)).sum() / both
        assert overlap > 0.95


def test_fitting_in_parts_is_fitting_at_once() -> None:
    volumes = [block_scan(shift) for shift in range(3)]
    parts = NaiveBayesBaseline().fit(volumes[:1]).fit(volumes[1:])
    whole = NaiveBayesBaseline().fit(volumes)
    ct, _, _, height = block_scan(4)
    assert np.array_equal(parts.predict(ct, height)["organ"], whole.predict(ct, height)["organ"])


def test_it_does_badly_on_phantoms() -> None:
    step = (12.0, 12.0, 12.0)
    baseline = NaiveBayesBaseline().fit(
        phantom_volume(render(1000 + seed, spacing=step)) for seed in range(10)
    )
    scores: dict[str, list[float]] = {name: [] for name in PHANTOM_ANATOMIES}
    for seed in range(6):
        phantom = render(5000 + seed, spacing=step)
        predicted = baseline.predict(phantom.ct, phantom.height)
        for layer, names in phantom.names.items():
            for value, name in names.items():
                truth, found = phantom.labels[layer] == value, predicted[layer] == value
                if truth.any():
                    overlap = 2 * (truth & found).sum() / (truth.sum() + found.sum())
                    scores[name].append(float(overlap))
    per_anatomy = [np.mean(values) for values in scores.values() if values]
    assert 0.2 < np.mean(per_anatomy) < 0.55


def test_wrong_input_is_refused() -> None:
    ct, labels, _, height = block_scan()
    baseline = NaiveBayesBaseline()
    with pytest.raises(InputError, match="not fitted"):
        baseline.predict(ct, height)
    with pytest.raises(InputError, match="one per slice"):
        baseline.fit([(ct, labels, NAMES, height[:-1])])
    with pytest.raises(InputError, match="differently"):
        baseline.fit([block_scan(), (ct, labels, {"organ": {1: "spleen"}}, height)])
    with pytest.raises(InputError, match="labels \\(7, 32, 40\\)"):
        baseline.fit([(ct, {"organ": labels["organ"][1:]}, NAMES, height)])
