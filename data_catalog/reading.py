"""What is read of the catalog: its datasets, what they take, their plan stores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.data_catalog.dataset import Dataset
from clnet.data_catalog.eviction import evict, stored_bytes
from clnet.data_catalog.manifest import parse_ref
from clnet.data_catalog.object_shelf import ObjectShelf
from clnet.data_catalog.plan_store import PlanStore
from clnet.data_catalog.preparer import Preparer
from clnet.data_catalog.quota import Usage, usage_of
from clnet.data_catalog.shelf import FolderShelf, Shelf
from clnet.data_catalog.validation import CrossSiteDuplicate
from clnet.data_catalog.volume import DEFAULT_MAX_BYTES
from clnet.errors import InputError, NotFound
from clnet.storage import local_path

__all__ = ["Progress", "Reading"]

Progress = Callable[[float, str], None]


class Reading:
    """Versioned, immutable datasets in a folder or an object store.

    Args:
        root: a folder, where ``<root>/<site>/<name>/<version>/`` holds a manifest and one zarr
            group a case, or ``s3://bucket/prefix``, see :class:`.ObjectShelf`.
        plans: folder of the plan stores; ``plans`` beside a `root` that is a folder. What is
            fetched from an object store lies beside it.
        max_bytes: largest volume accepted, in bytes of voxels by its header.
        preparers: how cases are prepared for plans of other kinds than our own, by kind.
        plans_max_bytes: what the plan stores may take; no limit by default.
        fetched_max_bytes: what cases fetched from an object store may take; no limit by default.
        allocate: gives room for the volumes of a case that is taken in; memory by default.

    Attributes:
        url: where the datasets are.
        root: folder of this machine for locks and unfinished contributions; that of the
            datasets where they are in a folder.

    Raises:
        InputError: `root` is a URL, and `plans` is not given.
    """

    def __init__(
        self,
        root: str | Path,
        plans: str | Path | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        preparers: Mapping[str, Preparer] | None = None,
        plans_max_bytes: int | None = None,
        fetched_max_bytes: int | None = None,
        allocate: Allocate = in_memory,
    ) -> None:
        self.url = str(root)
        folder = local_path(root)
        self._shelf: Shelf
        if folder is not None:
            self.plans = folder.parent / "plans" if plans is None else Path(plans)
            self._shelf = FolderShelf(folder)
        elif plans is None:
            raise InputError(f"catalog {root}: say plans=FOLDER, where this machine keeps its part")
        else:
            self.plans = Path(plans)
            # one folder for each catalog: two may hold datasets of one name
            key = hashlib.sha256(self.url.rstrip("/").encode()).hexdigest()[:16]
            folder = self.plans.parent / "remote" / key
            self._shelf = ObjectShelf(self.url, folder, fetched_max_bytes)
        self.root = self._shelf.folder
        self.max_bytes = max_bytes
        self.preparers = dict(preparers or {})
        self.plans_max_bytes = plans_max_bytes
        self.allocate = allocate

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def cross_site_duplicates(self) -> dict[str, list[CrossSiteDuplicate]]:
        """Scans that several sites contributed, by the version that came later.

        For hub admins only: it reveals that a patient was in two hospitals.
        """
        return self._shelf.duplicates()

    def get(self, ref: str) -> Dataset:
        """One version, checked against its hash: ``site/name@2``, or the newest without ``@``.

        Raises:
            NotFound: no such dataset or version.
            IntegrityError: its manifest was changed.
        """
        name, version = parse_ref(ref)
        if version is None:
            versions = self._shelf.versions(name)
            if not versions:
                known = ", ".join(dict.fromkeys(d.name for d in self.list())) or "none yet"
                raise NotFound(f"dataset {name}: not in this catalog; it has: {known}")
            version = versions[-1]
        return self._shelf.open(name, version)

    def list(self) -> tuple[Dataset, ...]:
        """Every version of every dataset, by name and version."""
        return tuple(
            self._shelf.open(name, version)
            for name, versions in self._shelf.index().items()
            for version in versions
        )

    def plan_store(
        self, dataset: Dataset, plan: Mapping[str, Any], progress: Progress | None = None
    ) -> PlanStore:
        """The dataset resampled to a plan (``Plan.to_dict()``); made now where it is missing."""
        store = PlanStore(self.plans, dataset, dict(plan), self.preparers, self.plans_max_bytes)
        store.build(progress)
        return store

    def plan_bytes(self) -> int:
        """Bytes of all plan stores."""
        return stored_bytes(self.plans)

    def evict_plans(self, max_bytes: int) -> int:
        """Remove planned cases, unused for longest first, until `max_bytes` remain.

        They are made again when read. Returns the bytes freed.
        """
        return evict(self.plans, max_bytes)

    def usage(self, site: str) -> Usage:
        """What a site keeps here."""
        return usage_of(self._of_site(site))

    def _of_site(self, site: str) -> Sequence[Dataset]:
        return [dataset for dataset in self.list() if dataset.name.startswith(f"{site}/")]
