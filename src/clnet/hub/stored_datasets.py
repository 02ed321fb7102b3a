"""Datasets that a hub holds: listed, described, read, written as files."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clnet.data_catalog import (
    Catalog,
    CrossSiteDuplicate,
    Dataset,
    ExportFormat,
    Recipe,
    Usage,
    check_teachable,
    export,
    recipes,
)
from clnet.decoders_registry import DatasetRecord, Registry, Touched, UnitedTerms
from clnet.errors import InputError, NotFound
from clnet.hub.access import OWNER, Access

if TYPE_CHECKING:
    from clnet.hub.monai_reader import CaseReader
    from clnet.hub.patches import PatchDataset
    from clnet.platform.body_extents import BodyExtents

__all__ = ["StoredDatasets"]

Progress = Callable[[float, str], None]


class StoredDatasets:
    """What a hub holds.

    Args:
        catalog, registry: of the hub.
        access: whose hands they are in; a site sees its own alone.
    """

    def __init__(self, catalog: Catalog, registry: Registry, access: Access = OWNER) -> None:
        self._catalog = catalog
        self._registry = registry
        self._access = access

    def list(
        self, anatomy: str | Sequence[str] = (), site: str | None = None
    ) -> tuple[Dataset, ...]:
        """Every version of every dataset that is stored here, or those that are asked for.

        Args:
            anatomy: one or several, by any name that the vocabulary knows: only versions whose
                labels can teach each of them, and that were not withdrawn.
                :meth:`.Dataset.teaches` tells how.
            site: only this site's.

        Raises:
            UnknownAnatomy: the vocabulary does not know an anatomy.
            InputError: a coarse anatomy, which nothing learns.
        """
        wanted = [anatomy] if isinstance(anatomy, str) else anatomy
        for name in wanted:
            check_teachable(name)  # even where there is no dataset to ask
        found = self._access.seen(self._catalog.list())
        if site is not None:
            found = tuple(d for d in found if d.name.partition("/")[0] == site)
        if wanted:
            gone = self.withdrawn()
            found = tuple(
                d for d in found if d.ref not in gone and all(d.teaches(name) for name in wanted)
            )
        return found

    def get(self, ref: str) -> Dataset:
        """One version: ``site/name@2``, or the newest without ``@``.

        Raises:
            NotFound: no such dataset or version.
        """
        self._access.require_seen(ref)
        if self._access.site is None:
            return self._catalog.get(ref)
        try:
            return self._catalog.get(ref)
        except NotFound:  # the catalog's own words name datasets of others
            own = ", ".join(dict.fromkeys(dataset.name for dataset in self.list())) or "none yet"
            raise NotFound(f"dataset {ref}: not here; {self._access.site} has: {own}") from None

    def withdrawn(self) -> dict[str, str]:
        """Why versions were withdrawn, by ref; nothing new may be made from these."""
        return {
            known.ref: known.withdrawn_reason or ""
            for known in self._registry.datasets()
            if known.withdrawn and self._access.sees(known.ref)
        }

    def record(self, ref: str) -> DatasetRecord:
        """What lineage knows of a version, wherever its bytes are: its terms, whether withdrawn.

        Raises:
            NotFound: no such version.
        """
        self._access.require_seen(ref)
        return self._registry.dataset(ref)

    def terms(self, ref: str) -> UnitedTerms:
        """The obligations that a version puts on everything made from it.

        Raises:
            NotFound: no such version.
        """
        self._access.require_seen(ref)
        return self._registry.terms_of(ref, "dataset")

    def touched_by(self, ref: str) -> Touched:
        """Every encoder, body-part model, decoder and release that a dataset went into."""
        self._access.require_seen(ref)
        return self._registry.touched_by(ref)

    def usage(self, site: str) -> Usage:
        """What a site keeps here, on disk and in cases."""
        self._access.require_seen(f"{site}/")
        return self._catalog.usage(site)

    def recipes(self) -> dict[str, Recipe]:
        """Public datasets whose labels, layout and terms are known, by id."""
        return recipes()

    def cross_site_duplicates(self) -> dict[str, builtins.list[CrossSiteDuplicate]]:
        """Scans that several sites contributed, by the version that came later.

        For hub admins only: it reveals that a patient was in two hospitals.
        """
        self._access.require_owner("the list of scans that several sites have")
        return self._catalog.cross_site_duplicates()

    def fingerprint(self, ref: str) -> dict[str, Any]:
        """What a dataset holds: cases, spacing, intensity, anatomies with voxel counts."""
        return self._registry.dataset(self.get(ref).ref).fingerprint

    def body_extents(self, ref: str, model: str, progress: Progress | None = None) -> BodyExtents:
        """Where along the body a dataset's scans and labels lie, by a body-part model.

        Measured once for each version and model, and kept beside the plan stores.

        Raises:
            NotFound: no such dataset or model.
        """
        from clnet.model.body_part import decode_body_part_model
        from clnet.platform.body_extents import BodyExtents, body_extents
        from clnet.storage import atomic_write

        dataset = self.get(ref)
        record = self._registry.body_part_model(model)
        kept = self._catalog.plans / "body-parts" / f"{dataset.sha256}-{record.sha256}.json"
        if kept.is_file():
            return BodyExtents.model_validate_json(kept.read_bytes())
        network = decode_body_part_model(self._registry.artefact(record.sha256))
        found = body_extents(dataset, network, record.ref, progress)
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(kept, found.model_dump_json().encode())
        return found

    def figure(
        self,
        refs: Sequence[str] | None = None,
        model: str | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """A picture (PNG) of datasets side by side, by default of the newest usable of each.

        Args:
            refs: datasets to draw.
            model: body-part model that says where along the body they lie; without one that
                part stays empty.

        Raises:
            NotFound: no such dataset or model.
            InputError: there is nothing to draw.
        """
        from clnet.platform.catalog_figure import CatalogRow, draw_catalog

        gone = self.withdrawn()
        newest = {d.name: d.ref for d in self.list() if d.ref not in gone}
        chosen = list(newest.values()) if refs is None else [self.get(ref).ref for ref in refs]
        if not chosen:
            raise InputError("no dataset to draw: clnet datasets contribute adds one")
        rows = []
        for done, ref in enumerate(chosen):

            def tell(fraction: float, text: str, done: int = done) -> None:
                if progress is not None:
                    progress((done + fraction) / len(chosen), text)

            extents = None if model is None else self.body_extents(ref, model, tell)
            rows.append(CatalogRow(ref, self.fingerprint(ref), extents))
        return draw_catalog(rows)

    def patches(
        self,
        ref: str | Sequence[str],
        anatomies: Sequence[str],
        *,
        encoder: str = "starter",
        patch_size: tuple[int, int, int] | None = None,
        length: int = 1000,
        foreground: float = 0.66,
        split: Literal["train", "val"] = "train",
        val_fraction: float = 0.2,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> PatchDataset:
        """Patches for a training of your own, as a torch Dataset.

        Cases are resampled and normalised to the plan of `encoder` when they are first asked
        for, and kept so. What the labels leave unknown is 255 in the target.

        Args:
            ref: one dataset, or several read as one.
            anatomies: classes 1, 2, ... of the target, of one layer.
            patch_size: voxels, ``(z, y, x)``; the plan's by default.
            length: patches in an epoch.
            foreground: share of patches that centre on one of `anatomies`.
            split: which cases; a case keeps its side whatever else is there.
            val_fraction: share of cases held for validation.

        Raises:
            NotFound: no such dataset or encoder.
            Incompatible: data that was withdrawn.
            InputError: anatomies of several layers, or that no case shows.
        """
        from clnet.hub.patches import patch_dataset

        plan = self._registry.encoder(encoder).plan
        datasets = [self._usable(name) for name in ([ref] if isinstance(ref, str) else ref)]
        stores = [self._catalog.plan_store(dataset, plan, progress) for dataset in datasets]
        return patch_dataset(
            stores,
            anatomies,
            patch_size or tuple(plan["patch_size"]),
            length=length,
            foreground=foreground,
            split=split,
            val_fraction=val_fraction,
            seed=seed,
        )

    def reader(self) -> CaseReader:
        """Stored cases for MONAI's ``LoadImaged``; see :meth:`items` for its data list."""
        from clnet.hub.monai_reader import CaseReader

        return CaseReader(self.get)

    def items(self, ref: str, layer: str) -> builtins.list[dict[str, str]]:
        """MONAI's data list of a dataset: ``image`` and ``label`` by name, case by case.

        Raises:
            NotFound: no such dataset.
            Incompatible: data that was withdrawn.
        """
        from clnet.hub.monai_reader import items_of

        return items_of(self._usable(ref), layer)

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
            Incompatible: it was withdrawn.
            AlreadyExists: the folder is there.
            InputError: nnU-Net's format cannot say what the labels mean.
        """
        dataset = self._usable(ref)
        export(dataset, Path(to), format, progress)
        self._registry.note("dataset.export", dataset.ref, format=format)
        return Path(to)

    def _usable(self, ref: str) -> Dataset:
        dataset = self.get(ref)
        self._registry.check_usable(dataset.ref)
        return dataset
