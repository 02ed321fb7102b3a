"""The public body-part regression model ``bpreg``, read from the folder a user has it in.

Schuhegger 2021, "Body Part Regression for CT Images" (package ``bpreg``, Apache-2.0): the
features of a VGG-16 on slices of 128 x 128 pixels of 3.5 mm, -1000 to 1500 HU put on -1 to 1.
Its folder holds ``model.pt``, weights alone, and ``inference-settings.json``, which says where
landmarks score. It was trained on volumes as ITK stores them, x first, so slices are transposed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from clnet.errors import Incompatible, InputError, NotFound
from clnet.model.body_part import BodyPartConfig, BodyPartModel, BodyPartNetwork
from clnet.model.weights_file import read_weights_file

__all__ = ["BpregConfig", "BpregNetwork", "read_bpreg"]

WEIGHTS, SETTINGS = "model.pt", "inference-settings.json"
LARGEST_SETTINGS = 1 << 20
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Channels of its convolutions, 0 where it halves the grid (Simonyan & Zisserman 2015, D)."""

BOTTOM, EYES = "pelvis_start", "eyes_end"
EYES_TO_TOP_MM = 100.0
"""From the upper edge of the eyes to the top of the head; the scale of ``bpreg`` ends at 100 with
the eyes. An assumption for adults, taken from no measurement of ours."""

ADULT_EYES = 8 / 9
"""Height of the upper edge of the eyes in adults, whom it lies 800 mm above the pelvis' bottom. An
assumption like the one above; the model's own slope says it of the model."""

ERROR = 0.05
"""By how much its scores may be off, in body heights. An assumption, as its settings do not say."""

AT_ONCE = 2
"""Slices in one forward pass: 2 take 27 MiB, 8 take 99 MiB and are hardly faster on a CPU."""


@dataclass(frozen=True, slots=True)
class BpregConfig(BodyPartConfig):
    """The one shape of ``bpreg``: its grid and intensities are fixed."""

    pixels: int = 128
    pixel_mm: float = 3.5
    widths: tuple[int, ...] = tuple(width for width in VGG16 if width)
    mean: float = 250.0
    std: float = 1250.0

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-able values."""
        return {"kind": "bpreg"}

    def normalise(self, hu: NDArray[Any]) -> NDArray[np.float32]:
        """HU to -1 .. 1, clipped before anything is resampled."""
        clipped = np.clip(hu.astype(np.float32), -1000, 1500)
        return ((clipped - self.mean) / self.std).astype(np.float32)

    def make(self) -> BpregNetwork:
        """The network; its weights are still to be loaded."""
        return BpregNetwork(self)


class BpregNetwork(BodyPartNetwork):
    """Convolutions of VGG-16 on one channel, one 1 x 1 convolution, mean, one score."""

    def _build(self) -> None:
        layers: list[nn.Module] = []
        channels = 1
        for width in VGG16:
            if not width:
                layers.append(nn.MaxPool2d(2))
                continue
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=channels > 1))
            layers.append(nn.ReLU(inplace=True))
            channels = width
        self.blocks = nn.Sequential(*layers)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.score = nn.Linear(channels, 1)

    def features(self, slices: Tensor) -> Tensor:
        """Means of the last maps ``(B, 512)``: what the score is a sum of."""
        seen = slices.clamp(-1, 1).transpose(2, 3)
        return torch.cat(
            [F.relu(self.mix(self.blocks(part))).mean(dim=(2, 3)) for part in seen.split(AT_ONCE)]
        )


def read_bpreg(folder: Path) -> BodyPartModel:
    """The model of a folder as ``bpreg`` keeps it, its scale put on 0 to 1.

    The bottom of the pelvis, its 0, stays 0; its 100, the upper edge of the eyes, lies below
    the top of the head, which is 1.

    Raises:
        NotFound: folder or file is not there.
        IntegrityError: the weights' file is damaged, or asks for code to be run.
        Incompatible: weights of another network.
        InputError: settings that do not say where pelvis and eyes score.
    """
    bottom, top, per_mm = _scale(folder / SETTINGS)
    content = read_weights_file(
        folder / WEIGHTS,
        f"bpreg keeps {WEIGHTS} and {SETTINGS} in one folder",
        "Take the model from where bpreg publishes it",
    )
    network = BpregConfig().make()
    network.load_state_dict(_renamed(content, network, folder / WEIGHTS))
    network.requires_grad_(False).eval()
    eyes = 1 / per_mm / (1 / per_mm + EYES_TO_TOP_MM)
    return BodyPartModel(network, (bottom, top), (0.0, eyes), per_mm * eyes, ERROR)


def _renamed(content: Any, network: BpregNetwork, path: Path) -> dict[str, Tensor]:
    """The weights under our names, every one of the right shape."""
    found: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
    names = {"blocks": "model", "mix": "conv6", "score": "fc7"}
    renamed = {}
    for name, own in network.state_dict().items():
        part, _, rest = name.partition(".")
        theirs = f"{names[part]}.{rest}"
        value = found.get(theirs)
        if not isinstance(value, Tensor) or value.shape != own.shape:
            raise Incompatible(
                f"{path}: {theirs} is missing or of another shape; only bpreg's VGG-16 is known"
            )
        renamed[name] = value
    return renamed


def _scale(path: Path) -> tuple[float, float, float]:
    """Raw scores of pelvis and eyes, and the share of that way that a mm takes."""
    if not path.is_file():
        raise NotFound(f"{path}: not there; bpreg keeps {WEIGHTS} and {SETTINGS} in one folder")
    if path.stat().st_size > LARGEST_SETTINGS:
        raise InputError(f"{path}: larger than {LARGEST_SETTINGS} bytes; not bpreg's settings")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        ends = (settings["settings"]["start-landmark"], settings["settings"]["end-landmark"])
        table = settings["lookuptable_train_val"]["original"]
        bottom, top = (float(table[name]["mean"]) for name in ends)
        per_mm = float(settings["slope_mean"]) / 100
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not bpreg's settings ({error!r})") from error
    if ends != (BOTTOM, EYES):
        raise InputError(f"{path}: its scale runs from {ends}, expected {(BOTTOM, EYES)}")
    if not (math.isfinite(bottom) and math.isfinite(top) and bottom < top and 0 < per_mm < 1):
        raise InputError(f"{path}: scores of pelvis and eyes, or the slope, make no scale")
    return bottom, top, per_mm
