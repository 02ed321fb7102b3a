"""Things of a hub in one line each, as tables and the HTTP API show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clnet.data_catalog import Dataset

__all__ = ["dataset_row", "listed_row"]


def dataset_row(dataset: Dataset) -> dict[str, Any]:
    """A dataset version."""
    return {
        "ref": dataset.ref,
        "cases": len(dataset),
        "licence": dataset.manifest.terms.licence,
        "created": f"{dataset.manifest.created:%Y-%m-%d %H:%M}",
        "sha256": dataset.sha256,
    }


def listed_row(dataset: Dataset, withdrawn: Mapping[str, str]) -> dict[str, Any]:
    """A dataset version among others, and whether it may still be used.

    Args:
        withdrawn: see :meth:`.Datasets.withdrawn`.
    """
    return dataset_row(dataset) | {
        "withdrawn": withdrawn.get(dataset.ref),
        "erased": dataset.erased,
    }
