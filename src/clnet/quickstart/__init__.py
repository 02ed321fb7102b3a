"""The main job, end to end, on made-up patients: what a newcomer runs first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clnet.stages import Stages

__all__ = ["run"]


def run(
    workspace: str | Path | None = None,
    *,
    ct: str | Path | None = None,
    from_scratch: bool = False,
    ray: str | None = None,
    stages: Stages | None = None,
) -> dict[str, Any]:
    """Run the quickstart; a second run reuses what the first made.

    Args:
        workspace: folder of the hub; ``CLNET_WORKSPACE`` or ``./clnet-workspace`` by default.
        ct: a CT to segment too, as NIfTI.
        from_scratch: make the starter release first instead of importing the shipped one.
        ray: address of a Ray cluster; a local Ray by default.

    Returns:
        The summary, as in ``<workspace>/quickstart/summary.json``.

    Raises:
        InputError: the service would not take `ct`, or the workspace cannot be used.
        ServiceError: `ray` cannot be reached, or the service failed.
    """
    from clnet.quickstart.journey import Journey

    return Journey(workspace, ct=ct, from_scratch=from_scratch, ray=ray, stages=stages).run()
