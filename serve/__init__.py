"""A release behind HTTP: Ray Serve application, API, client, pictures of results.

with deploy(hub.workspace, "2026.11", Placement({"abdomen/liver": own(2)})) as service:
    SegmentationClient(service.url, service.token).segment("ct.nii.gz").save("out/")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clnet.serve.app import ServiceHandle, deploy
    from clnet.serve.client import Result, SegmentationClient
    from clnet.serve.desk import DeskLimits
    from clnet.serve.intake import UploadLimits
    from clnet.serve.placement import LOCAL, Placement, own
    from clnet.serve.release import RegistrySource, load_release

__all__ = [
    "LOCAL",
    "DeskLimits",
    "Placement",
    "RegistrySource",
    "Result",
    "SegmentationClient",
    "ServiceHandle",
    "UploadLimits",
    "deploy",
    "load_release",
    "own",
]

_HOME = {
    "LOCAL": "placement",
    "DeskLimits": "desk",
    "Placement": "placement",
    "RegistrySource": "release",
    "Result": "client",
    "SegmentationClient": "client",
    "ServiceHandle": "app",
    "UploadLimits": "intake",
    "deploy": "app",
    "load_release": "release",
    "own": "placement",
}


def __getattr__(name: str) -> Any:
    # on first use: a client needs neither matplotlib nor Ray
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
