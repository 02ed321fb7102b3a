"""Datasets: contributed to the catalog, known to the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clnet.data_catalog import CaseSource, Catalog, Dataset, Terms, fingerprint
from clnet.decoders_registry import Registry, Touched
from clnet.errors import InputError

__all__ = ["Datasets"]

Progress = Callable[[float, str], None]


class Datasets:
    """Datasets of one hub."""

    def __init__(self, catalog: Catalog, registry: Registry) -> None:
        self._catalog = catalog
        self._registry = registry

    def contribute(
        self,
        name: str,
        source: str | Path | Sequence[CaseSource],
        mapping: Mapping[str, Any] | str | Path,
        terms: Terms | str,
        progress: Progress | None = None,
    ) -> Dataset:
        """Store a new version of a dataset: all of its cases, or nothing.

        Content that some version has already gives that version.

        Args:
            name: ``site/name``.
            source: a folder with ``images/`` and ``labels/`` (or nnU-Net's ``imagesTr/`` and
                ``labelsTr/``), or the cases as files.
            mapping: what each source label means, or a YAML file that says so.
            terms: licence and consent; a text is the licence alone.
            progress: told the fraction done and the case just stored.

        Raises:
            CaseRejected: the first case that cannot be used: file, field, reason.
            UnknownAnatomy: the mapping names an anatomy that the vocabulary does not know.
            InputError: a malformed name, mapping or licence, or no case.
        """
        meanings = Path(mapping) if isinstance(mapping, str) else mapping
        agreed = _licence(terms) if isinstance(terms, str) else terms
        if isinstance(source, str | Path):
            dataset = self._catalog.contribute_folder(
                name, Path(source), meanings, agreed, progress
            )
        else:
            dataset = self._catalog.contribute(name, source, meanings, agreed, progress)
        self._registry.record_dataset(
            dataset.ref,
            dataset.sha256,
            dataset.manifest.terms.model_dump(mode="json"),
            fingerprint=fingerprint(dataset),
        )
        return dataset

    def list(self) -> tuple[Dataset, ...]:
        """Every version of every dataset that is stored here."""
        return self._catalog.list()

    def get(self, ref: str) -> Dataset:
        """One version: ``site/name@2``, or the newest without ``@``.

        Raises:
            NotFound: no such dataset or version.
        """
        return self._catalog.get(ref)

    def fingerprint(self, ref: str) -> dict[str, Any]:
        """What a dataset holds: cases, spacing, intensity, anatomies with voxel counts."""
        return self._registry.dataset(self._catalog.get(ref).ref).fingerprint

    def touched_by(self, ref: str) -> Touched:
        """Every encoder, body-part model, decoder and release that a dataset went into."""
        return self._registry.touched_by(ref)


def _licence(text: str) -> Terms:
    try:
        return Terms(licence=text)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise InputError(
            f"licence {text!r}: {reason}; give an SPDX identifier such as CC-BY-4.0, or "
            "LicenseRef-NAME for terms of your own"
        ) from None
