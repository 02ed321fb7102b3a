"""Where a hub keeps its things, for processes that must find them again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clnet.data_catalog import Catalog
    from clnet.decoders_registry import Registry
    from clnet.platform.case_workers import CaseWorkers

__all__ = ["Workspace"]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A hub's folder, database and artefacts, as plain values: they travel to other processes.

    Attributes:
        root: folder of everything that is kept on this machine.
        database: SQLAlchemy URL; by default an SQLite file in the folder.
        artefacts: folder or URL of the artefacts; by default in the folder.
        plans_max_bytes: what the plan stores may take; no limit by default.
        datasets: folder or URL of the datasets; by default in the folder.
        fetched_max_bytes: what cases fetched from elsewhere may take; no limit by default.
        scan_max_bytes: largest volume that contributions take; 2 GiB by default.
    """

    root: Path
    database: str = ""
    artefacts: str = ""
    plans_max_bytes: int | None = None
    datasets: str = ""
    fetched_max_bytes: int | None = None
    scan_max_bytes: int | None = None

    def __post_init__(self) -> None:
        root = Path(self.root).resolve()
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "database", self.database or f"sqlite:///{root / 'registry.db'}")
        object.__setattr__(self, "artefacts", self.artefacts or str(root / "artefacts"))
        object.__setattr__(self, "datasets", self.datasets or str(root / "datasets"))

    def to_dict(self) -> dict[str, str | int | None]:
        """Its attributes, JSON-able; ``Workspace(**values)`` gives it back."""
        return asdict(self) | {"root": str(self.root)}

    def registry(self) -> Registry:
        """The registry, open."""
        from clnet.decoders_registry import Registry
        from clnet.storage import ArtefactStore

        return Registry(self.database, ArtefactStore(self.artefacts))

    def catalog(self) -> Catalog:
        """The catalog of datasets."""
        from clnet.data_catalog import Catalog
        from clnet.data_catalog.volume import DEFAULT_MAX_BYTES
        from clnet.model.preparers import PREPARERS
        from clnet.model.scratch import Scratch

        return Catalog(
            self.datasets,
            self.root / "plans",
            preparers=PREPARERS,
            max_bytes=DEFAULT_MAX_BYTES if self.scan_max_bytes is None else self.scan_max_bytes,
            plans_max_bytes=self.plans_max_bytes,
            fetched_max_bytes=self.fetched_max_bytes,
            allocate=Scratch().zeros,
        )

    def case_workers(self, count: int, ray: str | None = None) -> CaseWorkers:
        """What judges and keeps `count` cases of a contribution at once, on Ray."""
        from clnet.platform.case_workers import CaseWorkers

        return CaseWorkers(count, ray, self.ray_token)

    @property
    def runs(self) -> Path:
        """Where Ray Train and Ray Tune keep checkpoints."""
        return self.root / "runs"

    @property
    def ray_token(self) -> Path:
        """File with the token of a Ray that this workspace starts."""
        return self.root / ".ray-token"

    def job_folder(self, job_id: str) -> Path:
        """Events of one job, and the wish to cancel it."""
        return self.root / "jobs" / job_id
