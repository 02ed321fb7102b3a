"""Scans through the HTTP endpoint of the released model, as an application would send them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from clnet.decoders_registry import ReleaseRecord
from clnet.errors import InputError, ServiceError
from clnet.hub import Hub
from clnet.platform.evaluation import LabelMaps
from clnet.platform.ray_runtime import ray_runtime
from clnet.quickstart.recipe import OwnDeployment
from clnet.serve import Placement, SegmentationClient, deploy, own
from clnet.stages import Tell

__all__ = ["Answers", "read_result", "segment_over_http"]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the service gave.

    Attributes:
        outputs: name of each scan to its folder.
        refused: name of each scan without a result to the reason.
    """

    outputs: dict[str, Path] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def segment_over_http(
    hub: Hub,
    release: ReleaseRecord,
    scans: Mapping[str, Path],
    folder: Path,
    apart: OwnDeployment,
    tell: Tell,
    *,
    may_fail: Collection[str] = (),
) -> Answers:
    """Serve `release`, send every scan by name, save masks, statistics and picture per scan.

    Args:
        may_fail: names of scans whose failure is told in the answers and stops nothing.

    Raises:
        InputError, ServiceError: another scan was refused, or the service failed.
    """
    answers = Answers()
    placement = Placement({apart.group: own(apart.replicas)})
    with ray_runtime(hub.ray, token_file=hub.workspace.ray_token):
        tell(0.0, "starting the service")
        with (
            deploy(hub.workspace, release.name, placement, port=0) as service,
            SegmentationClient(service.url, service.token) as client,
        ):
            for index, (name, scan) in enumerate(scans.items()):
                share = 1 / len(scans)

                def told(fraction: float, text: str, start: float = index * share) -> None:
                    tell(start + fraction * share, f"{name}: {text}")  # noqa: B023 (called now)

                try:
                    result = client.segment(scan, progress=told)
                    result.save(folder / name)
                    result.delete()
                except (InputError, ServiceError) as error:
                    if name not in may_fail:
                        raise
                    answers.refused[name] = str(error)
                else:
                    answers.outputs[name] = folder / name
    return answers


def read_result(folder: Path) -> LabelMaps:
    """Label maps of a saved result, on the scan's own grid."""
    described: dict[str, Any] = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    labels, names = {}, {}
    for layer, content in described["layers"].items():
        labels[layer] = np.asarray(nib.Nifti1Image.from_filename(folder / content["file"]).dataobj)
        names[layer] = {int(v): entry["anatomy"] for v, entry in content["labels"].items()}
    return LabelMaps(labels, names)
