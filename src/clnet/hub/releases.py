"""Releases: one encoder, one body-part model, chosen decoders, a merge policy; what is served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clnet.decoders_registry import (
    ImportedRelease,
    Registry,
    ReleaseDiff,
    ReleaseRecord,
    read_bundle,
)
from clnet.hub.release_policy import checked_policy
from clnet.starter import RELEASE

if TYPE_CHECKING:
    from clnet.hub.voxel_diff import VoxelChange
    from clnet.platform.certificate import Certificate

__all__ = ["Releases"]

STARTER = "starter"


class Releases:
    """Releases of one hub. They never change."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def create(
        self,
        name: str,
        decoders: Sequence[str] | str = "production",
        *,
        encoder: str | None = None,
        body_part_model: str | None = None,
        parent: str | None = None,
        policy: Mapping[str, Any] | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> ReleaseRecord:
        """Put decoders together, and let each answer to a phantom, which :meth:`verify` repeats.

        Args:
            name: such as ``2026.11``.
            decoders: refs of versions, or an alias: every group's version of that name.
            encoder, body_part_model: by default the parent's, or those of the decoders.
            parent: release to extend; what it segments keeps its voxels.
            policy: settings of :class:`clnet.model.policy.MergePolicy` by name, and ``notice``,
                which results show; by default the parent's.
            progress: told the fraction of probes made.

        Raises:
            Incompatible: decoders of another encoder or body-part model, two versions of one
                group, an anatomy predicted twice although the policy is not anomaly-aware, or
                terms that cannot be met together.
            AlreadyExists: the name is taken by other content.
            InputError: a policy that says what no policy can.
            UnknownAnatomy: the policy names an anatomy that the vocabulary does not know.
        """
        from clnet.platform.certificate import certify

        if policy is None:
            policy = {} if parent is None else self.get(parent).policy
        release = self._registry.create_release(
            name, decoders, encoder, body_part_model, parent, checked_policy(policy)
        )
        certify(self._registry, release, progress)
        return self.get(name)

    def list(self) -> list[ReleaseRecord]:
        """All releases, oldest first."""
        return self._registry.releases()

    def get(self, name: str) -> ReleaseRecord:
        """The release of that name.

        Raises:
            NotFound: there is none.
        """
        return self._registry.release(name)

    def diff(self, before: str, after: str) -> ReleaseDiff:
        """What changed from one release to another, by anatomy group."""
        return self._registry.diff(before, after)

    def changed_voxels(
        self,
        before: str,
        after: str,
        scans: Sequence[str | Path],
        progress: Callable[[float, str], None] | None = None,
    ) -> Sequence[VoxelChange]:
        """Segment scans with two releases: what became of every anatomy of the older one.

        Args:
            before, after: names of the releases.
            scans: NIfTI, NRRD or MHA files; ``phantom:SEED`` for the phantom of that seed.
            progress: told the fraction done and the scan in work.

        Raises:
            NotFound: no such release.
            CaseRejected: a file cannot be read, or is not a CT in Hounsfield units.
        """
        from clnet.hub.voxel_diff import changed_voxels
        from clnet.model.numerics import device_named
        from clnet.serve.release import load_release

        device = str(device_named())
        old, new = (load_release(self._registry, n, device=device) for n in (before, after))
        return changed_voxels(old, new, scans, progress)

    def verify(
        self,
        name: str,
        against: str | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> Certificate:
        """Check that a release is what it was: artefacts by hash, decoders by their probes.

        Where the numerics class is that of a probe, logits must be equal to the bit; elsewhere
        equal to a tolerance. A decoder version without a probe cannot be asked: the release is
        then not verified. Neither is one without a group of the older release.

        Args:
            name: of the release.
            against: an older release; tells which decoder versions both share.
            progress: told the fraction of decoders asked.

        Raises:
            NotFound: no such release.
        """
        from clnet.platform.certificate import verify_release

        return verify_release(self._registry, name, against, progress)

    def export(self, name: str, folder: str | Path) -> int:
        """Write a release and all it came from into a new folder; returns its bytes.

        Raises:
            AlreadyExists: the folder is there.
        """
        return self._registry.export_release(name, Path(folder))

    def import_(self, folder: str | Path, alias: str | None = None) -> ImportedRelease:
        """Add a release that :meth:`export` wrote; may be repeated.

        Args:
            folder: that an export wrote; ``starter`` is the release that ships with the package.
            alias: given to its decoders where their group has no such alias yet.

        Raises:
            NotFound, InputError: the folder is not what an export writes, or the merge policy in
                it is none.
            IntegrityError: a file is damaged.
            Incompatible: a name is taken by other content here.
        """
        source = RELEASE if str(folder) == STARTER else Path(folder)
        checked_policy(read_bundle(source).release.policy)
        return self._registry.import_release(source, alias)
