"""A hub on a workspace: datasets, encoders, decoders, jobs, releases, and what they are for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from clnet.errors import InputError
from clnet.platform.workspace import Workspace

if TYPE_CHECKING:
    from clnet.data_catalog import Catalog
    from clnet.decoders_registry import Registry
    from clnet.hub.datasets import Datasets
    from clnet.hub.decoders import Decoders
    from clnet.hub.encoders import Encoders
    from clnet.hub.jobs import Jobs
    from clnet.hub.releases import Releases

__all__ = ["Hub", "connect"]


class Hub:
    """Everything in one workspace. Parts are opened when they are first used.

    Args:
        workspace: where things are kept.
        ray: address of the Ray that jobs run on; a local one is started on demand by default.
    """

    def __init__(self, workspace: Workspace, *, ray: str | None = None) -> None:
        self.workspace = workspace
        self.ray = ray

    def __repr__(self) -> str:
        return f"Hub({str(self.workspace.root)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give database connections back. The hub may be used again."""
        registry = self.__dict__.pop("registry", None)
        if registry is not None:
            for noun in ("datasets", "encoders", "decoders", "jobs", "releases"):
                self.__dict__.pop(noun, None)
            registry.close()

    @cached_property
    def catalog(self) -> Catalog:
        """The stored datasets themselves."""
        return self.workspace.catalog()

    @cached_property
    def registry(self) -> Registry:
        """The registry itself, for what the nouns below do not offer."""
        return self.workspace.registry()

    @cached_property
    def datasets(self) -> Datasets:
        """Datasets that sites contributed."""
        from clnet.hub.datasets import Datasets

        return Datasets(self.catalog, self.registry)

    @cached_property
    def encoders(self) -> Encoders:
        """Frozen encoders."""
        from clnet.hub.encoders import Encoders

        return Encoders(self.registry)

    @cached_property
    def decoders(self) -> Decoders:
        """Versions of decoders."""
        from clnet.hub.decoders import Decoders

        return Decoders(self.registry)

    @cached_property
    def jobs(self) -> Jobs:
        """Training, pruning and updating."""
        from clnet.hub.jobs import Jobs

        return Jobs(self.workspace, self.registry, self.ray)

    @cached_property
    def releases(self) -> Releases:
        """What is served."""
        from clnet.hub.releases import Releases

        return Releases(self.registry)


def connect(target: str | Path | None = None, *, ray: str | None = None) -> Hub:
    """Open the hub of a workspace folder; the folder is made when something is first stored.

    Args:
        target: the folder; by default ``CLNET_WORKSPACE``, else ``./clnet-workspace``.
        ray: address of a Ray cluster; by default ``CLNET_RAY``, else a local Ray on demand.

    Raises:
        InputError: `target` is an address or a file, not a folder.
    """
    from clnet.settings import Settings

    settings = Settings()
    if isinstance(target, str) and "://" in target:
        raise InputError(f"{target}: a hub is a workspace folder on this machine, give its path")
    root = Path(target if target is not None else settings.workspace).expanduser()
    if root.exists() and not root.is_dir():
        raise InputError(f"workspace {root}: is a file, give a folder")
    workspace = Workspace(root, database=settings.database, artefacts=settings.artefacts)
    return Hub(workspace, ray=ray or settings.ray)
