"""The preprocessing plan of an nnU-Net: what it did to a scan, to be done again exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.errors import Incompatible, InputError
from clnet.model.geometry import Orientation, Shape, Spacing, orientation_from
from clnet.model.plan import Plan

__all__ = ["ANISOTROPIC", "AS_STORED", "SCHEMES", "NnunetPlan"]

AS_STORED = "as stored"
SCHEMES = ("CTNormalization", "ZScoreNormalization", "RescaleTo01Normalization", "NoNormalization")
ANISOTROPIC = 3.0  # ratio of spacings above which nnU-Net resamples an axis on its own


@dataclass(frozen=True, slots=True, kw_only=True)
class NnunetPlan(Plan):
    """A plan whose ``spacing`` and ``patch_size`` are in the network's own axis order.

    A scan is brought to `orientation`, its axes are permuted by `transpose`, it is cropped to
    what is not zero, normalised, and resampled by splines (order 1: linearly).

    Attributes:
        orientation: axis codes that the network saw, or ``as stored``: whatever a file has.
        transpose: the network's axis ``n`` is axis ``transpose[n]`` of ``(z, y, x)``.
        scheme: one of :data:`SCHEMES`; clip, mean and std are those of CTNormalization.
        masked: whether ZScoreNormalization looks at what is not zero only.
        order, order_z: of the splines, within planes and across them where these are far apart.
        logits_order_z: across planes, 1 linear or 0 nearest, for logits on their way back.
        separate_z: whether planes are resampled on their own; None where spacings differ by
            more than a factor of 3.
        resampled: whether scans are brought to `spacing` at all; if not, it says nothing.
        mirror: the network's axes along which windows may be seen mirrored: those that it was
            trained on mirrored. All in plans that do not say.
    """

    orientation: str = AS_STORED
    transpose: tuple[int, int, int] = (0, 1, 2)
    scheme: str = "CTNormalization"
    masked: bool = False
    order: int = 3
    order_z: int = 0
    logits_order_z: int = 0
    separate_z: bool | None = None
    resampled: bool = True
    mirror: tuple[int, ...] = (0, 1, 2)

    def _check_orientation(self) -> None:
        codes = [{"L": "R", "P": "A", "I": "S"}.get(c, c) for c in self.orientation]
        if self.orientation != AS_STORED and sorted(codes) != ["A", "R", "S"]:
            raise InputError(
                f"plan: orientation {self.orientation!r}: axis codes such as RAS, or {AS_STORED!r}"
            )
        if sorted(self.transpose) != [0, 1, 2]:
            raise InputError(f"plan: transpose {self.transpose}: a permutation of 0, 1, 2 expected")
        if self.scheme not in SCHEMES:
            raise Incompatible(
                f"plan: normalisation {self.scheme!r} is not one of {', '.join(SCHEMES)}"
            )
        if not set(self.mirror) <= {0, 1, 2} or len(set(self.mirror)) != len(self.mirror):
            raise InputError(f"plan: mirror {self.mirror}: axes among 0, 1, 2 expected")
        orders = (self.order in range(6), self.order_z in (0, 1), self.logits_order_z in (0, 1))
        if not all(orders):
            raise Incompatible(
                f"plan: interpolation orders {self.order}, {self.order_z} for images, "
                f"{self.logits_order_z} across planes for logits are not supported"
            )

    @property
    def air(self) -> float:
        """What windows reach past the image into."""
        return 0.0

    def normalise(self, hu: NDArray[Any]) -> NDArray[np.float32]:
        """HU to the network's intensities, float32, same shape; all of `hu` counts as the scan."""
        from clnet.model.nnunet.intensities import normalise

        image = np.array(hu, dtype=np.float32, order="C")
        normalise(image, None, self)
        return image

    def frame(self, stored: Orientation) -> Orientation:
        """How the network's axes lie to the canonical ones, for a scan stored like `stored`."""
        own = stored if self.orientation == AS_STORED else orientation_from(self.orientation)
        # files are read as (x, y, z), networks see (z, y, x), permuted
        z, y, x = (self.transpose.index(2 - axis) for axis in own.axes)
        return Orientation((z, y, x), own.flips)

    def separate_axis(self, spacing: Spacing) -> int | None:
        """The network's axis across which a scan of `spacing` (its own order) is resampled alone.

        As nnU-Net chooses: the one coarse axis of the scan if it is far coarser than another,
        else of the plan.
        """
        return self._coarse_axis(spacing, self.spacing)

    def separate_axis_back(self, spacing: Spacing) -> int | None:
        """:meth:`separate_axis` of logits, which go from the plan's spacing back to the scan's.

        nnU-Net chooses again, the plan first, and may choose another axis.
        """
        return self._coarse_axis(self.spacing, spacing)

    def _coarse_axis(self, source: Spacing, target: Spacing) -> int | None:
        if self.separate_z is False:
            return None
        candidates = [source] if self.separate_z else [source, target]
        for values in candidates:
            if self.separate_z or max(values) / min(values) > ANISOTROPIC:
                coarse = [axis for axis, v in enumerate(values) if max(values) / v == 1]
                return coarse[0] if len(coarse) == 1 else None
        return None

    def grid(self, shape: Shape, spacing: Spacing) -> Shape:
        """Voxels of a cropped scan of `shape` and `spacing`, both in the network's order."""
        if not self.resampled:
            return shape
        a, b, c = (
            max(1, round(old / new * size))
            for size, old, new in zip(shape, spacing, self.spacing, strict=True)
        )
        return a, b, c

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-able values."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {**values, "kind": "nnunet"}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> NnunetPlan:
        """Inverse of :meth:`to_dict`."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        fields.pop("kind", None)
        try:
            return cls(**fields)
        except TypeError as error:
            raise InputError(f"plan of an imported network: {error}") from error
