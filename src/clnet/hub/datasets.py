"""Datasets: contributed to the catalog, known to the registry."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clnet.data_catalog import (
    CaseSource,
    Catalog,
    CrossSiteDuplicate,
    Dataset,
    ExportFormat,
    IntakeRules,
    Judgement,
    Recipe,
    Terms,
    export,
    fingerprint,
    load_recipe,
    recipes,
)
from clnet.decoders_registry import Registry, Touched
from clnet.errors import InputError

__all__ = ["Datasets", "licence_of"]

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
        mapping: Mapping[str, Any] | str | Path | None = None,
        terms: Terms | str | None = None,
        progress: Progress | None = None,
        *,
        format: str | None = None,
        recipe: str | Path | Recipe | None = None,
        rules: IntakeRules | None = None,
        tell: Callable[[Judgement], None] | None = None,
    ) -> Dataset:
        """Store a new version of a dataset from the cases that pass validation.

        The others are quarantined: listed in ``dataset.validation``, not stored. Content that
        some version has already gives that version. A contribution that was killed goes on
        after its last finished case when it is made again.

        Args:
            name: ``site/name``.
            source: a folder in one of the layouts that :func:`.format_names` lists, or the
                cases as files.
            mapping: what each source label means, or a YAML file that says so; by default the
                recipe's, or the names in the source where the vocabulary knows them.
            terms: licence and consent; a text is the licence alone; by default the recipe's.
            progress: told the fraction done and the case just stored.
            format: how the folder is laid out; recognised by default.
            recipe: of the public dataset that the folder is a copy of, see :meth:`recipes`;
                its id, or a YAML file of your own.
            rules: how strictly to judge.
            tell: given the report, whether the contribution is stored or refused.

        Raises:
            CaseRejected: one case at fault refuses it all (it is the only one, or `rules` are
                strict): file, field, reason.
            ContributionRefused: several do.
            UnknownAnatomy: the mapping names an anatomy that the vocabulary does not know.
            InputError: a malformed name, mapping or licence, no case, or a folder that no
                format recognises.
        """
        meanings = Path(mapping) if isinstance(mapping, str) else mapping
        agreed = licence_of(terms) if isinstance(terms, str) else terms
        if isinstance(source, str | Path):
            known = recipe if isinstance(recipe, Recipe | None) else load_recipe(recipe)
            dataset = self._catalog.contribute_folder(
                name,
                Path(source),
                meanings,
                agreed,
                progress,
                format=format,
                recipe=known,
                rules=rules,
                tell=tell,
            )
        elif format is not None or recipe is not None:
            raise InputError("format and recipe go with a folder; cases are given as files")
        elif meanings is None or agreed is None:
            raise InputError("cases given as files need a mapping and terms")
        else:
            dataset = self._catalog.contribute(
                name, source, meanings, agreed, progress, rules=rules, tell=tell
            )
        self._registry.record_dataset(
            dataset.ref,
            dataset.sha256,
            dataset.manifest.terms.model_dump(mode="json"),
            fingerprint=fingerprint(dataset),
        )
        return dataset

    def validate(
        self,
        name: str,
        source: str | Path | Sequence[CaseSource],
        mapping: Mapping[str, Any] | str | Path | None = None,
        progress: Progress | None = None,
        *,
        format: str | None = None,
        recipe: str | Path | Recipe | None = None,
        rules: IntakeRules | None = None,
    ) -> Judgement:
        """Judge what :meth:`contribute` would be given, and store nothing.

        Raises:
            UnknownAnatomy: the mapping names an anatomy that the vocabulary does not know.
            InputError: a malformed name or mapping, no case, or a folder that no format
                recognises.
        """
        meanings = Path(mapping) if isinstance(mapping, str) else mapping
        if not isinstance(source, str | Path):
            if meanings is None:
                raise InputError("cases given as files need a mapping")
            return self._catalog.validate(name, source, meanings, progress, rules)
        known = recipe if isinstance(recipe, Recipe | None) else load_recipe(recipe)
        return self._catalog.validate_folder(
            name, Path(source), meanings, progress, format=format, recipe=known, rules=rules
        )

    def withdraw(self, ref: str, reason: str, *, erase: bool = False) -> Touched:
        """Withdraw a version: nothing new may learn from it.

        Its record stays as a tombstone, so that lineage can still name it.

        Args:
            erase: also remove its voxels from this hub, with what was derived from them for
                training. Cases that other versions share stay with these.

        Returns:
            Every encoder, body-part model, decoder and release that must be made again
            without it.

        Raises:
            NotFound: no such version.
        """
        withdrawn = self._registry.withdraw_dataset(self._exact(ref), reason)
        if erase:
            self._catalog.erase(withdrawn.dataset)
        return withdrawn

    def cross_site_duplicates(self) -> dict[str, builtins.list[CrossSiteDuplicate]]:
        """Scans that several sites contributed, by the version that came later.

        For hub admins only: it reveals that a patient was in two hospitals.
        """
        return self._catalog.cross_site_duplicates()

    def _exact(self, ref: str) -> str:
        """`ref` with a version; the registry also knows versions that are held elsewhere."""
        return ref if "@" in ref else self._catalog.get(ref).ref

    def recipes(self) -> dict[str, Recipe]:
        """Public datasets whose labels, layout and terms are known, by id."""
        return recipes()

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

    def export(
        self,
        ref: str,
        to: str | Path,
        format: ExportFormat = "nifti",
        progress: Progress | None = None,
    ) -> Path:
        """Write a version as files into a new folder, on each scan's own grid; gives the folder.

        Args:
            format: ``nifti`` (an image and one mask per label) or ``nnunet`` (v2 raw).
            progress: told the fraction done and the case just written.

        Raises:
            NotFound: no such dataset or version.
            AlreadyExists: the folder is there.
            InputError: nnU-Net's format cannot say what the labels mean.
        """
        export(self._catalog.get(ref), Path(to), format, progress)
        return Path(to)

    def touched_by(self, ref: str) -> Touched:
        """Every encoder, body-part model, decoder and release that a dataset went into."""
        return self._registry.touched_by(ref)


def licence_of(text: str) -> Terms:
    """Terms that are a licence alone.

    Raises:
        InputError: `text` is none.
    """
    try:
        return Terms(licence=text)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise InputError(
            f"licence {text!r}: {reason}; give an SPDX identifier such as CC-BY-4.0, or "
            "LicenseRef-NAME for terms of your own"
        ) from None
