"""CL-Net platform: continual learning for whole-body CT segmentation.

One encoder, trained once and frozen; a decoder per anatomy group, each trained on whichever
dataset labels it, pruned, and merged into a release; nothing learned later can change it.

    import clnet
    hub = clnet.connect()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clnet.errors import (
    AccessDenied,
    AlreadyExists,
    Cancelled,
    CaseRejected,
    ClnetError,
    ContractError,
    ContributionRefused,
    Incompatible,
    InputError,
    IntegrityError,
    JobFailed,
    NotFound,
    QuotaExceeded,
    ServiceError,
    StorageUnavailable,
    UnknownAnatomy,
)

if TYPE_CHECKING:
    from clnet.data_catalog import CaseSource, Terms
    from clnet.hub import Hub, connect
    from clnet.platform.evaluation import Evaluation, evaluate
    from clnet.platform.jobs import DecoderJob, Validation

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "Cancelled",
    "CaseRejected",
    "CaseSource",
    "ClnetError",
    "ContractError",
    "ContributionRefused",
    "DecoderJob",
    "Evaluation",
    "Hub",
    "Incompatible",
    "InputError",
    "IntegrityError",
    "JobFailed",
    "NotFound",
    "QuotaExceeded",
    "ServiceError",
    "StorageUnavailable",
    "Terms",
    "UnknownAnatomy",
    "Validation",
    "__version__",
    "connect",
    "evaluate",
]

# loaded at first use, so that `import clnet` takes no time
_LAZY = {
    "CaseSource": "clnet.data_catalog",
    "DecoderJob": "clnet.platform.jobs",
    "Evaluation": "clnet.platform.evaluation",
    "Hub": "clnet.hub",
    "Terms": "clnet.data_catalog",
    "Validation": "clnet.platform.jobs",
    "connect": "clnet.hub",
    "evaluate": "clnet.platform.evaluation",
}

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'clnet' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
