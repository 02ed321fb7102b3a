"""Body-part regression: how high in the body a slice lies, 0 pelvis bottom to 1 head top."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from monai.networks.blocks import Convolution
from numpy.typing import NDArray
from torch import Tensor, nn

from clnet.errors import IntegrityError
from clnet.model.artefact import pack_artefact, unpack_artefact
from clnet.model.body_part_curve import BodyPartCurve, fit_curve
from clnet.model.geometry import Spacing, plan_shape, resample
from clnet.model.numerics import seeded

__all__ = [
    "BodyPartConfig",
    "BodyPartModel",
    "BodyPartNetwork",
    "decode_body_part_model",
    "encode_body_part_model",
]

WINDOWS_HU = ((-1000.0, -200.0), (-160.0, 240.0), (150.0, 1150.0))  # lung, soft tissue, bone
PATIENT_HU = -300.0
PATIENT_AREA_MM2 = 3000.0
PATIENT_SHARE = 0.02  # of a slice: enough in small fields of view, of a wrist or a cut-out
CROPPED = 0.6  # share of a slice's rim inside the patient at which it is a detail, not a section
BATCH_SLICES = 64


@dataclass(frozen=True, slots=True)
class BodyPartConfig:
    """Shape of the slice network and the intensities it expects.

    Attributes:
        pixels, pixel_mm: the square grid that slices are resampled to.
        widths: features per stage, each halving the grid.
        mean, std: what normalised volumes were shifted and scaled by, in HU.
    """

    pixels: int = 64
    pixel_mm: float = 8.0
    widths: tuple[int, ...] = (16, 32, 64, 128)
    mean: float = -187.85
    std: float = 490.7

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BodyPartConfig:
        """Inverse of :meth:`to_dict`, of an imported network's configuration too."""
        if values.get("kind") == "bpreg":
            from clnet.model.bpreg import BpregConfig

            return BpregConfig()
        widths = tuple(values["widths"])
        return BodyPartConfig(**{**values, "widths": widths})

    def normalise(self, hu: NDArray[Any]) -> NDArray[np.float32]:
        """HU to the intensities that the network expects."""
        return ((hu.astype(np.float32) - self.mean) / self.std).astype(np.float32)

    def make(self) -> BodyPartNetwork:
        """A network of this shape; its weights are still to be loaded or initialised."""
        return BodyPartNetwork(self)


class BodyPartNetwork(nn.Module):
    """Scores axial slices: normalised ``(B, 1, Y, X)`` to raw scores ``(B,)``."""

    score: nn.Linear

    def __init__(self, config: BodyPartConfig) -> None:
        super().__init__()
        self.config = config
        self._build()

    def _build(self) -> None:
        config = self.config
        low, high = zip(*WINDOWS_HU, strict=True)
        bounds = (torch.tensor((low, high)) - config.mean) / config.std
        self.register_buffer("low", bounds[0].view(1, -1, 1, 1), persistent=False)
        self.register_buffer("high", bounds[1].view(1, -1, 1, 1), persistent=False)
        blocks: list[nn.Module] = []
        channels = len(WINDOWS_HU)
        for width in config.widths:
            blocks.append(
                Convolution(
                    spatial_dims=2,
                    in_channels=channels,
                    out_channels=width,
                    strides=2,
                    act=("LEAKYRELU", {"negative_slope": 0.01, "inplace": True}),
                    norm="BATCH",
                    adn_ordering="NA",
                )
            )
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.score = nn.Linear(2 * channels, 1)

    def features(self, slices: Tensor) -> Tensor:
        """Mean and maximum of every channel ``(B, 2 C)``: what the score is a sum of."""
        low, high = self.get_buffer("low"), self.get_buffer("high")
        windows = ((slices - low) / (high - low)).clamp(0, 1)
        # torch's 2D convolution on CPU trains 1.6 times as fast with the channels last
        maps: Tensor = self.blocks(windows.contiguous(memory_format=torch.channels_last))
        return torch.cat((maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))), dim=1)

    def forward(self, slices: Tensor) -> Tensor:
        """Raw scores of `slices`."""
        scores: Tensor = self.score(self.features(slices))
        return scores.squeeze(1)


@dataclass(frozen=True, slots=True)
class BodyPartModel:
    """A trained slice network with its calibration to body height. Frozen, like the encoder.

    Attributes:
        network: the slice network, in evaluation mode.
        raw, heights: knots of the monotone map from raw scores to heights.
        per_mm: usual rise of the height per mm.
        error: how far fitted scores were from known heights, 90th percentile over cases that
            were left out of the fit.
    """

    network: BodyPartNetwork
    raw: tuple[float, ...]
    heights: tuple[float, ...]
    per_mm: float
    error: float = 0.0

    @property
    def config(self) -> BodyPartConfig:
        """Shape of the network and the intensities it expects."""
        return self.network.config

    def normalise(self, hu: NDArray[Any]) -> NDArray[np.float32]:
        """HU to the intensities that the network expects."""
        return self.config.normalise(hu)

    @torch.inference_mode()
    def features(
        self, volume: NDArray[Any], spacing: Spacing, check: Callable[[], None] | None = None
    ) -> Tensor:
        """Features of each slice of a normalised volume ``(Z, 2 C)``, on the CPU."""
        device = next(self.network.parameters()).device
        parts = []
        for first in range(0, len(volume), BATCH_SLICES):
            if check is not None:
                check()
            batch = volume[first : first + BATCH_SLICES]
            slices = body_part_slices(batch, spacing, self.config)
            parts.append(self.network.features(slices.to(device)).cpu())
        return torch.cat(parts)

    def raw_scores(
        self, volume: NDArray[Any], spacing: Spacing, check: Callable[[], None] | None = None
    ) -> NDArray[np.float64]:
        """Raw network output per slice, float64 ``(Z,)``."""
        weight = self.network.score.weight.detach().cpu().double()
        bias = self.network.score.bias.detach().cpu().double()
        scores = self.features(volume, spacing, check).double() @ weight[0] + bias
        return scores.numpy().astype(np.float64)

    def curve(
        self, volume: NDArray[Any], spacing: Spacing, check: Callable[[], None] | None = None
    ) -> BodyPartCurve:
        """The scan-wide curve of a scan.

        Args:
            volume: normalised ``(Z, Y, X)``; it may lie in a file.
            spacing: in mm (z, y, x).
            check: called often; what it raises ends the work.
        """
        threshold = (PATIENT_HU - self.config.mean) / self.config.std
        voxels, rims = [], []
        for first in range(0, len(volume), BATCH_SLICES):
            inside = volume[first : first + BATCH_SLICES] > threshold
            voxels.append(inside.sum(axis=(1, 2)))
            rims.append(_rim_shares(inside))
        pixel = spacing[1] * spacing[2]
        least = min(PATIENT_AREA_MM2, PATIENT_SHARE * volume[0].size * pixel)
        patient = np.concatenate(voxels) * pixel > least
        cropped = float(np.median(np.concatenate(rims))) > CROPPED
        heights = self.height_of(self.raw_scores(volume, spacing, check))
        curve = fit_curve(heights, spacing[0], patient, self.per_mm, self.error)
        # a detail cut out of a body looks like nothing that the network knows
        return replace(curve, quality=0.0) if cropped else curve

    def scores(self, volume: NDArray[Any], spacing: Spacing) -> NDArray[np.float64]:
        """Fitted score per slice, float64 ``(Z,)``; see :meth:`curve` for its quality."""
        return self.curve(volume, spacing).scores

    def height_of(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Heights of raw scores; the end pieces of the map go on past its ends."""
        x, y = np.asarray(self.raw), np.asarray(self.heights)
        overall = (y[-1] - y[0]) / (x[-1] - x[0])
        inside = np.interp(raw, x, y)
        outside = np.minimum(raw - x[0], 0) + np.maximum(raw - x[-1], 0)
        return np.asarray(inside + overall * outside, dtype=np.float64)


def body_part_slices(volume: NDArray[Any], spacing: Spacing, config: BodyPartConfig) -> Tensor:
    """Slices of a normalised volume on the network's grid, cropped or padded with air."""
    depth, rows, columns = volume.shape
    grid = (spacing[0], config.pixel_mm, config.pixel_mm)
    shape = plan_shape((depth, rows, columns), spacing, grid)
    planes = torch.from_numpy(resample(volume, shape))
    air = (-1000.0 - config.mean) / config.std
    out = torch.full((len(planes), 1, config.pixels, config.pixels), air)
    (to_y, from_y), (to_x, from_x) = (_centred(size, config.pixels) for size in shape[1:])
    out[:, 0, to_y, to_x] = planes[:, from_y, from_x]
    return out


def _centred(size: int, room: int) -> tuple[slice, slice]:
    """Where the middle of an axis of `size` goes in one of `room`, and what is taken of it."""
    taken = min(size, room)
    to, start = (room - taken) // 2, (size - taken) // 2
    return slice(to, to + taken), slice(start, start + taken)


def _rim_shares(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Per slice the share of its outermost voxels that is inside the patient."""
    rim = np.concatenate(
        (inside[:, 0], inside[:, -1], inside[:, 1:-1, 0], inside[:, 1:-1, -1]), axis=1
    )
    return np.asarray(rim.mean(axis=1), dtype=np.float64)


def build_body_part_network(config: BodyPartConfig, seed: int) -> BodyPartNetwork:
    """A freshly initialised slice network; equal seeds give equal weights."""
    with seeded(seed):
        return BodyPartNetwork(config)


def encode_body_part_model(model: BodyPartModel) -> bytes:
    """The model as a safetensors file with its calibration in the metadata."""
    facts = {
        "config": model.config.to_dict(),
        "raw": model.raw,
        "heights": model.heights,
        "per_mm": model.per_mm,
        "error": model.error,
    }
    return pack_artefact("body-part model", model.network.state_dict(), facts)


def decode_body_part_model(data: bytes) -> BodyPartModel:
    """Inverse of :func:`encode_body_part_model`.

    Raises:
        IntegrityError: `data` is not such a file.
    """
    tensors, facts = unpack_artefact("body-part model", data)
    try:
        network = BodyPartConfig.from_dict(facts["config"]).make()
        network.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        raise IntegrityError(f"body-part model: weights do not fit: {error}") from error
    network.requires_grad_(False).eval()
    return BodyPartModel(
        network,
        tuple(facts["raw"]),
        tuple(facts["heights"]),
        float(facts["per_mm"]),
        float(facts["error"]),
    )
