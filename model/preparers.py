"""Schemes by which scans are prepared for networks that were not trained here, by kind of plan.

Light to import: what stores planned cases takes these along without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from clnet.model.geometry import Spacing
    from clnet.model.nnunet.preprocessing import Prepared

__all__ = ["PREPARERS", "prepare_nnunet"]


def prepare_nnunet(
    ct: NDArray[Any], spacing: Spacing, axcodes: str, plan: Mapping[str, Any]
) -> Prepared:
    """A scan as an imported nnU-Net sees it.

    Args:
        ct: HU ``(Z, Y, X)`` in LPS.
        spacing: of its axes, mm.
        axcodes: how its file had its axes.
        plan: of kind ``nnunet``, as :meth:`clnet.model.plan.Plan.to_dict` gives it.
    """
    from clnet.model.geometry import orientation_from
    from clnet.model.nnunet.plan import NnunetPlan
    from clnet.model.nnunet.preprocessing import prepare
    from clnet.model.scratch import Scratch

    return prepare(ct, spacing, orientation_from(axcodes), NnunetPlan.of(plan), Scratch())


PREPARERS = {"nnunet": prepare_nnunet}
