"""Things of a hub in one line each, as tables and the HTTP API show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clnet.data_catalog import Dataset

__all__ = ["dataset_row"]


def dataset_row(dataset: Dataset) -> dict[str, Any]:
    """A dataset version."""
    return {
        "ref": dataset.ref,
        "cases": len(dataset),
        "licence": dataset.manifest.terms.licence,
        "created": f"{dataset.manifest.created:%Y-%m-%d %H:%M}",
        "sha256": dataset.sha256,
    }
