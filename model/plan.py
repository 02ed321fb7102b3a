"""The preprocessing plan: what an encoder expects of a CT, used unchanged by all its decoders."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.errors import InputError

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Target grid and intensity scheme of one encoder.

    The default intensities are the fixed scheme of the authors' code: clip to
    [-995, 1265] HU, then subtract -187.85 and divide by 490.7.

    Attributes:
        spacing: target voxel size in mm, ``(z, y, x)``.
        patch_size: voxels of a training patch and inference window, ``(z, y, x)``.
        clip: lowest and highest HU kept.
        mean, std: what normalisation subtracts and divides by, in HU.
        orientation: axis codes of the canonical grid.
    """

    spacing: tuple[float, float, float]
    patch_size: tuple[int, int, int]
    clip: tuple[float, float] = (-995.0, 1265.0)
    mean: float = -187.85
    std: float = 490.7
    orientation: str = "LPS"

    def __post_init__(self) -> None:
        if len(self.spacing) != 3 or not all(0 < mm < math.inf for mm in self.spacing):
            raise InputError(f"plan: spacing {self.spacing}: three positive mm values expected")
        if len(self.patch_size) != 3 or min(self.patch_size) < 1:
            raise InputError(f"plan: patch_size {self.patch_size}: three positive sizes expected")
        finite = all(map(math.isfinite, (*self.clip, self.mean, self.std)))
        if not finite or self.std <= 0 or self.clip[0] >= self.clip[1]:
            raise InputError(
                f"plan: clip {self.clip}, mean {self.mean}, std {self.std}: not an intensity scheme"
            )
        self._check_orientation()

    def _check_orientation(self) -> None:
        if self.orientation != "LPS":
            raise InputError(f"plan: orientation {self.orientation}: only LPS is supported")

    def normalise(self, hu: NDArray[Any]) -> NDArray[np.float32]:
        """HU to the network's intensities, float32, same shape."""
        clipped = np.clip(hu.astype(np.float32), *self.clip)
        return ((clipped - self.mean) / self.std).astype(np.float32)

    @property
    def air(self) -> float:
        """Normalised value of air, which pads what lies outside a scan."""
        return (self.clip[0] - self.mean) / self.std

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-able values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """Inverse of :meth:`to_dict`, of an imported network's plan too."""
        if values.get("kind") == "nnunet":
            from clnet.model.nnunet.plan import NnunetPlan

            return NnunetPlan.of(values)
        z, y, x = values["spacing"]
        pz, py, px = values["patch_size"]
        low, high = values["clip"]
        return Plan(
            spacing=(float(z), float(y), float(x)),
            patch_size=(int(pz), int(py), int(px)),
            clip=(float(low), float(high)),
            mean=float(values["mean"]),
            std=float(values["std"]),
            orientation=str(values["orientation"]),
        )

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
