"""The catalog: contribute datasets, list them, get them, plan them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clnet.anatomy.mapping import LabelMapping, load_mapping
from clnet.data_catalog.case import write_case
from clnet.data_catalog.dataset import Dataset, case_folder, read_dataset, write_manifest
from clnet.data_catalog.ingest import read_case
from clnet.data_catalog.manifest import Manifest, parse_name, parse_ref
from clnet.data_catalog.plan_store import PlanStore, evict, stored_bytes
from clnet.data_catalog.recipe import Recipe
from clnet.data_catalog.source import CaseSource, check_ids
from clnet.data_catalog.sources import meanings_of, open_source
from clnet.data_catalog.terms import Terms
from clnet.data_catalog.volume import DEFAULT_MAX_BYTES
from clnet.errors import ContractError, InputError, NotFound
from clnet.storage import exclusive, local_path, publish, scratch_directory, sweep_temporaries

__all__ = ["Catalog"]

Progress = Callable[[float, str], None]
LOCK = ".lock"


class Catalog:
    """Versioned, immutable datasets under one folder.

    Args:
        root: ``<root>/<site>/<name>/<version>/`` holds a manifest and one zarr group a case.
        plans: folder of the plan stores; ``plans`` beside `root` by default.
        max_bytes: largest volume accepted, in bytes of voxels by its header.

    Raises:
        InputError: `root` is a URL of another machine.
    """

    def __init__(
        self,
        root: str | Path,
        plans: str | Path | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        folder = local_path(root)
        if folder is None:
            raise InputError(f"catalog {root}: datasets live in a folder of this machine")
        self.root = folder
        self.plans = self.root.parent / "plans" if plans is None else Path(plans)
        self.max_bytes = max_bytes

    def __repr__(self) -> str:
        return f"Catalog({str(self.root)!r})"

    def contribute(
        self,
        name: str,
        cases: Sequence[CaseSource],
        mapping: Mapping[str, Any] | Path | LabelMapping,
        terms: Terms,
        progress: Progress | None = None,
    ) -> Dataset:
        """Store a new version of dataset `name`: all of the cases, or nothing.

        Contributing content that some version has already gives that version.

        Args:
            name: ``site/name``.
            mapping: source label to meaning, see :func:`clnet.anatomy.load_mapping`.
            progress: called with a fraction and the id of the case just stored.

        Raises:
            CaseRejected: the first case that cannot be used: file, field, reason.
            UnknownAnatomy: the mapping names an anatomy that the vocabulary does not know.
            InputError: a malformed name or mapping, or no case.
        """
        parse_name(name)
        check_ids(cases)
        meanings = mapping if isinstance(mapping, LabelMapping) else load_mapping(mapping)
        if not meanings.anatomies:
            raise ContractError(f"mapping of {name}: every label is ignored; name an anatomy")
        folder = self.root / name
        with exclusive(folder / LOCK):
            sweep_temporaries(folder)
            version = max(self._versions(name), default=0) + 1
            with scratch_directory(folder) as scratch:
                records = []
                for done, source in enumerate(cases, start=1):
                    content = read_case(source, meanings, self.max_bytes)
                    target = case_folder(scratch, source.id)
                    records.append(write_case(target, source.id, content))
                    if progress is not None:
                        progress(done / len(cases), source.id)
                manifest = Manifest.of(name, version, records, terms)
                known = self._find(name, manifest.sha256)
                if known is not None:
                    return known
                write_manifest(scratch, manifest)
                publish(scratch, folder / str(version))
            return Dataset(manifest, folder / str(version))

    def contribute_folder(
        self,
        name: str,
        source: Path,
        mapping: Mapping[str, Any] | Path | None = None,
        terms: Terms | None = None,
        progress: Progress | None = None,
        *,
        format: str | None = None,
        recipe: Recipe | None = None,
    ) -> Dataset:
        """:meth:`contribute` what a folder holds.

        Args:
            mapping: by default the recipe's, or the names in the source where the vocabulary
                knows them.
            terms: by default the recipe's.
            format: how the folder is laid out; recognised by default.
            recipe: of the public dataset that the folder is a copy of.

        Raises:
            InputError: the folder is not recognised, or neither terms nor a recipe are given.
        """
        parse_name(name)
        folder = Path(source)
        opened = recipe.open(folder, format) if recipe else open_source(folder, format)
        if opened.rejected:
            raise opened.rejected[0]
        if mapping is None and recipe is not None:
            meanings = meanings_of(opened, recipe.meanings)
        else:
            meanings = meanings_of(opened, mapping)
        if terms is None:
            if recipe is None:
                raise InputError(f"{name}: say on what terms it is given: a licence, or a recipe")
            terms = recipe.terms
        return self.contribute(name, opened.cases, meanings, terms, progress)

    def get(self, ref: str) -> Dataset:
        """One version, checked against its hash: ``site/name@2``, or the newest without ``@``.

        Raises:
            NotFound: no such dataset or version.
            IntegrityError: its manifest was changed.
        """
        name, version = parse_ref(ref)
        if version is None:
            versions = self._versions(name)
            if not versions:
                known = ", ".join(dict.fromkeys(d.name for d in self.list())) or "none yet"
                raise NotFound(f"dataset {name}: not in this catalog; it has: {known}")
            version = versions[-1]
        return read_dataset(self.root / name / str(version), name, version)

    def list(self) -> tuple[Dataset, ...]:
        """Every version of every dataset, by name and version."""
        folders = sorted(path for path in self.root.glob("[!.]*/[!.]*") if path.is_dir())
        names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
        return tuple(
            self.get(f"{name}@{version}") for name in names for version in self._versions(name)
        )

    def plan_store(
        self, dataset: Dataset, plan: Mapping[str, Any], progress: Progress | None = None
    ) -> PlanStore:
        """The dataset resampled to a plan (``Plan.to_dict()``); made now where it is missing."""
        store = PlanStore(self.plans, dataset, dict(plan))
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

    def _versions(self, name: str) -> Sequence[int]:
        folder = self.root / name
        if not folder.is_dir():
            return ()
        return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())

    def _find(self, name: str, sha256: str) -> Dataset | None:
        versions = (self.get(f"{name}@{version}") for version in self._versions(name))
        return next((dataset for dataset in versions if dataset.sha256 == sha256), None)
