"""A hub on a workspace: datasets, encoders, decoders, jobs, releases, and what they are for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, overload

from clnet.errors import InputError, NotFound
from clnet.platform.workspace import Workspace

if TYPE_CHECKING:
    from clnet.data_catalog import Catalog
    from clnet.decoders_registry import AuditCheck, AuditRecord, Registry, ReleaseRecord
    from clnet.hub.body_parts import BodyParts
    from clnet.hub.datasets import Datasets
    from clnet.hub.decoders import Decoders
    from clnet.hub.encoders import Encoders
    from clnet.hub.jobs import Jobs
    from clnet.hub.releases import Releases
    from clnet.hub.remote import RemoteHub
    from clnet.hub.segmented import SegmentedScan
    from clnet.hub.site_hub import SiteHub
    from clnet.hub.sites import Sites
    from clnet.model.numerics import Precision
    from clnet.model.segmentation import SegmentationModel
    from clnet.serve import Placement, ServiceHandle
    from clnet.serve.outcome import ReleaseCard
    from clnet.tune_spaces.search import Found

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
        self._loaded: tuple[tuple[str, str], SegmentationModel, ReleaseCard] | None = None
        self._open = ExitStack()

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
        """Give connections back, to the database and to Ray. The hub may be used again."""
        self._open.close()
        registry = self.__dict__.pop("registry", None)
        if registry is not None:
            for noun in (
                "datasets",
                "encoders",
                "body_parts",
                "decoders",
                "jobs",
                "releases",
                "sites",
            ):
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

        workers = partial(self.workspace.case_workers, ray=self.ray)
        return Datasets(self.catalog, self.registry, workers)

    @cached_property
    def sites(self) -> Sites:
        """Who contributes: namespaces, tokens, keys, quotas."""
        from clnet.hub.sites import Sites

        return Sites(self.catalog, self.registry)

    def audit(self, subject: str | None = None, limit: int = 100) -> list[AuditRecord]:
        """Who did what, newest first, to one thing or to all."""
        return self.registry.audit(subject, limit)

    def check_audit(self, head: str | None = None) -> AuditCheck:
        """See that no line of the journal was changed, removed or put in between.

        Args:
            head: hash of a line that was once the newest and must still be there.
        """
        return self.registry.check_audit(head)

    @cached_property
    def encoders(self) -> Encoders:
        """Frozen encoders."""
        from clnet.hub.encoders import Encoders

        return Encoders(self.workspace, self.registry, self.ray)

    @cached_property
    def body_parts(self) -> BodyParts:
        """Body-part models: where on the body a slice is."""
        from clnet.hub.body_parts import BodyParts

        return BodyParts(self.catalog, self.registry)

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

    def tune(
        self,
        decoders: str | Sequence[str],
        space: str | Path = "default",
        tolerance: float = 0.01,
        progress: Callable[[float, str], None] | None = None,
    ) -> list[Found]:
        """Search on Ray Tune how much of dense decoders can be cut, and register the result.

        Args:
            decoders: anatomy groups, whose newest dense version is taken, or versions.
            space: name of a search space, or a YAML file with one.
            tolerance: how much lower the mean validation DSC may be than the dense version's.
            progress: told the fraction done and the trial that reports.

        Returns:
            Per decoder the pruned version and the trials. A version that lost more than the
            tolerance is a candidate only.

        Raises:
            NotFound: no such decoder or space.
            Incompatible: a version that is pruned already, or without a training to recover by.
            JobFailed: decoders of which no trial ended well; the others' versions are registered.
        """
        from clnet.hub.tuning import tune

        names = [decoders] if isinstance(decoders, str) else decoders
        return tune(self, names, space, tolerance, progress)

    def segment(
        self,
        image: str | Path,
        release: ReleaseRecord | str | None = None,
        anatomies: Sequence[str] | None = None,
        progress: Callable[[float, str], None] | None = None,
        *,
        memory_budget: int | str | None = None,
        cancelled: Callable[[], bool] | None = None,
        mirror: str = "",
        overlap: float | None = None,
        precision: Precision = "auto",
        device: str | None = None,
    ) -> SegmentedScan:
        """Segment one CT in this process. The networks stay loaded for the next scan.

        Args:
            image: NIfTI, NRRD or MHA file.
            release: a release or its name; the newest by default.
            anatomies: names of what to look for; everything by default.
            progress: told the fraction done and what happens now.
            memory_budget: what may be taken beside the networks, in bytes or as ``"4GiB"``, on
                the device that computes; half of what is free by default. Less memory takes
                more time; the result is the same.
            cancelled: asked often whether to stop, such as ``threading.Event().is_set``.
            mirror: axes along which windows are also seen mirrored, of ``z``, ``y``, ``x``;
                ``zyx`` is nnU-Net's test-time augmentation and takes eight times as long. None by
                default: a body mirrored along x has its sides swapped.
            overlap: fraction of a window that its neighbours share; a quarter by default, half
                for an imported nnU-Net.
            precision: ``float32`` or ``bfloat16``; by default what the device is fast in.
            device: ``cpu``, ``cuda`` or ``cuda:1``; a GPU by default where there is one.

        Raises:
            NotFound: no such release, or there is none yet.
            CaseRejected: the file cannot be read, or is not a CT in Hounsfield units.
            UnknownAnatomy: a name that the vocabulary does not know.
            InputError: a memory budget that is too small or not more than 0, mirror, overlap,
                precision or device cannot be what was given, or the temporary disk has no room
                for the scan.
            Cancelled: `cancelled` said so.
        """
        from clnet.hub.segmented import segment_file
        from clnet.model.inference import SlidingWindow, mirror_axes
        from clnet.model.memory import asked_budget

        budget = asked_budget(memory_budget)
        window = SlidingWindow(overlap=overlap, precision=precision, mirror=mirror_axes(mirror))
        model, card = self._networks(self._release(release), device)
        if precision == "auto":
            window = replace(window, precision=model.window.precision)
        model = replace(model, window=window)
        return segment_file(model, card, Path(image), anatomies, progress, budget, cancelled)

    def serve(
        self,
        release: ReleaseRecord | str | None = None,
        placement: Placement | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | None = None,
        memory_budget: int | str | None = None,
        mirror: str = "",
        overlap: float | None = None,
        precision: Precision = "auto",
        progress: Callable[[float, str], None] | None = None,
    ) -> ServiceHandle:
        """Serve a release on HTTP, up to ``shutdown()`` of what is returned.

        Args:
            release: a release or its name; the newest by default.
            placement: decoders with deployments of their own; the others run beside the
                encoder.
            host: address to listen on; this machine alone by default.
            port: 0 for any free one.
            token: what clients must send; a random one by default.
            memory_budget: what one scan may take, as in :meth:`segment`.
            mirror, overlap, precision: as in :meth:`segment`, for all scans.
            progress: told what happens.

        Raises:
            NotFound: no such release, or there is none yet.
            InputError: a placement, token or memory budget that cannot be used.
            ServiceError: the port is taken, or a replica cannot start.
        """
        from clnet.model.inference import SlidingWindow, mirror_axes
        from clnet.model.memory import asked_budget
        from clnet.serve import deploy

        budget = asked_budget(memory_budget)
        window = SlidingWindow(overlap=overlap, precision=precision, mirror=mirror_axes(mirror))
        name = self._release(release).name
        if self.ray is not None:
            from clnet.platform.ray_runtime import ray_runtime

            self._open.enter_context(ray_runtime(self.ray))
        return deploy(
            self.workspace,
            name,
            placement,
            host=host,
            port=port,
            token=token,
            memory_budget=budget,
            window=window,
            progress=progress,
        )

    def _release(self, release: ReleaseRecord | str | None) -> ReleaseRecord:
        if isinstance(release, str):
            return self.releases.get(release)
        if release is not None:
            return release
        known = self.releases.list()
        if not known:
            raise NotFound(
                f"{self.workspace.root}: holds no release yet; create one, or import one"
            )
        return known[-1]

    def _networks(
        self, release: ReleaseRecord, device: str | None = None
    ) -> tuple[SegmentationModel, ReleaseCard]:
        from clnet.model.numerics import device_named
        from clnet.serve.placement import Placement
        from clnet.serve.release import load_release, release_card

        where = device_named(device)
        key = (release.sha256, str(where))
        if self._loaded is None or self._loaded[0] != key:
            model = load_release(self.registry, release.name, device=str(where))
            card = release_card(self.registry, release.name, model, Placement().of)
            self._loaded = (key, model, card)
        return self._loaded[1:]


@overload
def connect(target: str | Path | None = None, *, ray: str | None = None) -> Hub: ...


@overload
def connect(target: Path | None = None, *, token: str) -> SiteHub: ...


@overload
def connect(target: str, *, token: str) -> SiteHub | RemoteHub: ...


def connect(
    target: str | Path | None = None, *, ray: str | None = None, token: str | None = None
) -> Hub | SiteHub | RemoteHub:
    """Open the hub of a workspace folder; the folder is made when something is first stored.

    Args:
        target: the folder; by default ``CLNET_WORKSPACE``, else ``./clnet-workspace``. With a
            site's token also the ``https://`` address of a hub elsewhere.
        ray: address of a Ray cluster; by default ``CLNET_RAY``, else a local Ray on demand.
        token: of a site: what is returned sees and changes that site's datasets alone.

    Raises:
        InputError: `target` is a file, or an address without a token.
        AccessDenied: the token is unknown, expired or revoked.
    """
    from clnet.settings import Settings

    settings = Settings()
    if isinstance(target, str) and "://" in target:
        if token is None:
            raise InputError(
                f"{target}: a hub elsewhere is opened with a site's token; without one give the "
                "path of a workspace folder on this machine"
            )
        from clnet.hub.remote import RemoteHub

        return RemoteHub(target, token)
    root = Path(target if target is not None else settings.workspace).expanduser()
    if root.exists() and not root.is_dir():
        raise InputError(f"workspace {root}: is a file, give a folder")
    workspace = Workspace(
        root,
        settings.database,
        settings.artefacts,
        plans_max_bytes=settings.plans_max_bytes,
        datasets=settings.datasets,
        fetched_max_bytes=settings.fetched_max_bytes,
        scan_max_bytes=settings.scan_max_bytes,
    )
    if token is not None:
        from clnet.hub.site_hub import SiteHub

        return SiteHub(workspace, token)
    return Hub(workspace, ray=ray or settings.ray)
