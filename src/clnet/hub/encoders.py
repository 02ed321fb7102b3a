"""Encoders: trained once, frozen, and leaned on by every decoder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from clnet.decoders_registry import DecoderRecord, EncoderRecord, Registry, UnitedTerms
from clnet.errors import InputError
from clnet.platform.workspace import Workspace

if TYPE_CHECKING:
    from clnet.data_catalog import Terms
    from clnet.model.encoder import EncoderConfig
    from clnet.model.plan import Plan
    from clnet.platform.encoder_jobs import EncoderJob
    from clnet.platform.jobs import JobHandle

__all__ = ["Encoders", "ImportedNnunet"]


class ImportedNnunet(EncoderRecord):
    """The encoder of an imported nnU-Net, and the decoder that came with it.

    Attributes:
        decoder: the version that this import gave; a mapping said otherwise gives another.
    """

    decoder: DecoderRecord


class Encoders:
    """Frozen encoders of one hub."""

    def __init__(self, workspace: Workspace, registry: Registry, ray: str | None) -> None:
        self._workspace = workspace
        self._registry = registry
        self._ray = ray

    def list(self) -> list[EncoderRecord]:
        """Every version, by name."""
        return self._registry.encoders()

    def get(self, ref: str) -> EncoderRecord:
        """``encoder/starter@1`` or ``starter``; without a version the newest.

        Raises:
            NotFound: there is none.
        """
        return self._registry.encoder(ref)

    def terms(self, ref: str) -> UnitedTerms:
        """The union of obligations of all data that went into a version.

        Raises:
            NotFound: there is none.
        """
        return self._registry.terms_of(self.get(ref).ref, "encoder")

    def import_nnunet(
        self,
        folder: str | Path,
        terms: Terms | str,
        name: str | None = None,
        *,
        fold: int | str | None = None,
        checkpoint: str = "checkpoint_final.pth",
        mapping: Mapping[str, Any] | str | Path | None = None,
        orientation: str | None = None,
        body_part_model: str = "starter",
        command: str = "",
    ) -> ImportedNnunet:
        """Bring a network that nnU-Net v2 trained: its encoder, frozen, and its decoder.

        The decoder is version 1 of the group ``imported/<name>``, or the next one if the same
        network is imported with another mapping. Released with its encoder it gives what nnU-Net
        gives; decoders trained on the encoder add to it.

        Args:
            folder: a result folder, such as ``.../nnUNetTrainer__nnUNetPlans__3d_fullres``.
            terms: licence of the model and of what it learned from; a text is the licence
                alone. Whatever is made with the model inherits them.
            name: of the encoder; the dataset's name by default.
            fold: of the folder; the only one by default.
            checkpoint: file in the fold's folder.
            mapping: dataset label to anatomy (or ``ignore``), or a YAML file that says so, for
                labels that the vocabulary does not know by their names.
            orientation: axis codes such as ``RAS``, if scans were turned before the network saw
                them (TotalSegmentator does); by default as its reader leaves them.
            body_part_model: what decoders on this encoder measure their ranges with.

        Returns:
            The encoder's record; its ``decoder`` is that of the decoder.

        Raises:
            NotFound: folder, fold, a file or the body-part model is not there.
            UnknownAnatomy: labels that stand for no anatomy, all of them listed.
            Incompatible: a 2d or cascaded configuration, or a network of another kind.
            IntegrityError: a checkpoint that holds more than weights; it was not loaded.
        """
        from clnet.hub.datasets import licence_of
        from clnet.platform.importing import import_nnunet

        encoder, decoder = import_nnunet(
            self._registry,
            Path(folder),
            licence_of(terms) if isinstance(terms, str) else terms,
            name=name,
            fold=fold,
            checkpoint=checkpoint,
            mapping=Path(mapping) if isinstance(mapping, str) else mapping,
            orientation=orientation,
            body_part_model=body_part_model,
            command=command or shlex.join(sys.argv),
        )
        return ImportedNnunet(**dict(encoder), decoder=decoder)

    def import_monai(
        self,
        bundle: str | Path,
        terms: Terms | str,
        name: str | None = None,
        *,
        spacing: tuple[float, float, float] | None = None,
        window: tuple[float, float] | None = None,
        orientation: str | None = None,
        patch_size: tuple[int, int, int] | None = None,
        config: str | None = None,
        weights: str = "model.pt",
        command: str = "",
    ) -> EncoderRecord:
        """Bring the encoder of a SegResNet from a MONAI bundle, frozen; decoders learn on it.

        Nothing of the bundle is run: its network and preprocessing are read as data.

        Args:
            bundle: its folder, with ``configs`` and ``models``.
            terms: licence of the model and of what it learned from; a text is the licence
                alone. Whatever is made with the model inherits them.
            name: of the encoder; the folder's by default.
            spacing: mm, in the order of the network's axes (x, y, z for RAS); by default that of
                the bundle's ``Spacingd``.
            window: HU that become 0 and 1; by default what its ``ScaleIntensityRanged`` does.
            orientation: axis codes; by default those of its ``Orientationd``.
            patch_size: of a window, ordered as `spacing`; by default its inferer's.
            config: file in ``configs``; by default that of its inference.
            weights: file in ``models``.

        Raises:
            NotFound: folder or file is not there.
            Incompatible: another network, or preprocessing that a plan cannot express.
            InputError: something that must be said beside the bundle.
            IntegrityError: a file that holds more than weights; it was not loaded.
        """
        from clnet.hub.datasets import licence_of
        from clnet.model.monai_bundle import BundleSettings
        from clnet.platform.importing import import_monai

        return import_monai(
            self._registry,
            Path(bundle),
            licence_of(terms) if isinstance(terms, str) else terms,
            name=name,
            settings=BundleSettings(spacing, window, orientation, patch_size),
            config=config,
            weights=weights,
            command=command or shlex.join(sys.argv),
        )

    def plan(self, dataset: str | Sequence[str], **settings: Any) -> tuple[Plan, EncoderConfig]:
        """The plan and the network that :meth:`train` would use for these datasets.

        Raises:
            NotFound: a dataset that is not there.
            InputError: datasets that label nothing, or a patch size that no network can halve.
        """
        from clnet.platform.encoder_jobs import plan_of

        job = _job({"name": "plan", "dataset": dataset, **settings})
        catalog = self._workspace.catalog()
        plan = plan_of(job, [catalog.get(ref) for ref in job.dataset], self._registry)
        return plan, job.network(plan)

    def submit(self, dataset: str | Sequence[str], name: str, **settings: Any) -> JobHandle:
        """Queue the training of an encoder on whole-body data, and return at once.

        Args:
            dataset: ref of one dataset or of several.
            name: of the encoder; a name that is there already gets its next version.
            settings: other fields of :class:`clnet.platform.encoder_jobs.EncoderJob`.

        Raises:
            NotFound: a dataset or body-part model that is not there.
            InputError: settings that contradict each other, datasets that teach nothing, or a
                patch size or widths that no network can have.
        """
        from clnet.platform.encoder_jobs import enqueue_encoder
        from clnet.platform.jobs import JobHandle
        from clnet.platform.runner import ensure_runner

        job = _job({"name": name, "dataset": dataset, **settings})
        queued = enqueue_encoder(job, self._workspace)
        ensure_runner(self._workspace, self._ray)
        return JobHandle(queued.id, self._workspace, self._ray)

    def train(
        self,
        dataset: str | Sequence[str],
        name: str = "encoder",
        progress: Callable[[float, str], None] | None = None,
        **settings: Any,
    ) -> EncoderRecord:
        """Train an encoder and wait for it. If the caller dies, the training goes on.

        Args:
            dataset, name, settings: see :meth:`submit`.
            progress: told the fraction done and the loss.

        Raises:
            JobFailed: the job failed or was cancelled; the message says why.
        """
        handle = self.submit(dataset, name, **settings)
        for event in handle.events():
            if progress is not None and event.fraction is not None:
                progress(event.fraction, event.message)
        return self._registry.encoder(handle.wait().results[0])


def _job(values: dict[str, Any]) -> EncoderJob:
    from clnet.platform.encoder_jobs import EncoderJob

    try:
        return EncoderJob.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "job"
        raise InputError(f"encoder job: {place}: {first['msg']}") from None
