"""Scans through the HTTP endpoint of the released model, as an application would send them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from clnet.decoders_registry import ReleaseRecord
from clnet.hub import Hub
from clnet.platform.evaluation import LabelMaps
from clnet.platform.ray_runtime import ray_runtime
from clnet.quickstart.recipe import OwnDeployment
from clnet.serve import Placement, SegmentationClient, deploy, own
from clnet.stages import Tell

__all__ = ["read_result", "segment_over_http"]


def segment_over_http(
    hub: Hub,
    release: ReleaseRecord,
    scans: Sequence[Path],
    folder: Path,
    apart: OwnDeployment,
    tell: Tell,
) -> dict[str, Path]:
    """Serve `release`, send every scan, save masks, statistics and picture per scan.

    Returns:
        Name of each scan to its folder.
    """
    outputs: dict[str, Path] = {}
    placement = Placement({apart.group: own(apart.replicas)})
    with ray_runtime(hub.ray, token_file=hub.workspace.ray_token):
        tell(0.0, "starting the service")
        with (
            deploy(hub.workspace, release.name, placement, port=0) as service,
            SegmentationClient(service.url, service.token) as client,
        ):
            for index, scan in enumerate(scans):
                name = scan.name.removesuffix(".gz").removesuffix(".nii")
                share = 1 / len(scans)

                def told(fraction: float, text: str, start: float = index * share) -> None:
                    tell(start + fraction * share, f"{name}: {text}")  # noqa: B023 (called now)

                result = client.segment(scan, progress=told)
                result.save(folder / name)
                result.delete()
                outputs[name] = folder / name
    return outputs


def read_result(folder: Path) -> LabelMaps:
    """Label maps of a saved result, on the scan's own grid."""
    described: dict[str, Any] = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    labels, names = {}, {}
    for layer, content in described["layers"].items():
        labels[layer] = np.asarray(nib.Nifti1Image.from_filename(folder / content["file"]).dataobj)
        names[layer] = {int(v): entry["anatomy"] for v, entry in content["labels"].items()}
    return LabelMaps(labels, names)
