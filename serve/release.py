"""A release from the registry: its networks ready to run, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from clnet.errors import IntegrityError
from clnet.serve.outcome import ReleaseCard
from clnet.serve.placement import LOCAL, Placement

if TYPE_CHECKING:
    from torch.nn import Conv3d

    from clnet.decoders_registry import Registry, ReleaseRecord
    from clnet.model.decoder import Decoder
    from clnet.model.inference import LoadedDecoder, SlidingWindow
    from clnet.model.segmentation import SegmentationModel

__all__ = ["PHANTOM_NOTICE", "RegistrySource", "load_decoder", "load_release", "release_card"]

PHANTOM_NOTICE = "model learned from phantoms: not for diagnosis"


class RegistrySource(Protocol):
    """Where a registry lives; a hub's workspace is one. It must make sense on every node.

    Attributes:
        database: SQLAlchemy URL.
        artefacts: folder or ``s3://`` URL.
    """

    @property
    def database(self) -> str:
        """SQLAlchemy URL."""

    @property
    def artefacts(self) -> str:
        """Folder or URL of the models' bytes."""


def load_release(
    registry: Registry,
    name: str,
    placement: Placement | None = None,
    *,
    in_flight: int = 2,
    device: str = "cpu",
    window: SlidingWindow | None = None,
) -> SegmentationModel:
    """The networks of a release, in evaluation mode on `device`.

    Args:
        registry: where the release is.
        name: of the release.
        placement: decoders that are placed elsewhere come without weights.
        in_flight: windows whose logits may be pending at once.
        device: torch's name of it.
        window: mirroring, overlap and precision; see :class:`SlidingWindow`.

    Raises:
        NotFound: no such release, or an artefact is missing.
        IntegrityError: an artefact is damaged.
    """
    import torch

    from clnet.model.artefact import decode_encoder
    from clnet.model.body_part import decode_body_part_model
    from clnet.model.inference import SlidingWindow
    from clnet.model.policy import MergePolicy
    from clnet.model.segmentation import SegmentationModel

    places = placement or Placement()
    release = registry.release(name)
    encoder, plan = decode_encoder(registry.artefact(release.encoder_sha256))
    bpr = decode_body_part_model(registry.artefact(release.body_part_model_sha256))
    bpr.network.to(device)
    decoders = [
        load_decoder(registry, release, ref, device, weights=places.of(ref) == LOCAL)
        for ref in _refs(release)
    ]
    asked = window or SlidingWindow()
    precision = asked.precision
    if precision == "auto":
        precision = encoder.config.precision(torch.device(device))
    policy = {key: value for key, value in release.policy.items() if key != "notice"}
    return SegmentationModel(
        encoder.to(device),
        plan,
        bpr,
        decoders,
        MergePolicy.from_dict(policy),
        replace(asked, in_flight=in_flight, precision=precision),
    )


def load_decoder(
    registry: Registry,
    release: ReleaseRecord,
    ref: str,
    device: str = "cpu",
    *,
    weights: bool = True,
) -> LoadedDecoder:
    """One decoder version as it takes part in `release`, with or without its weights."""
    from clnet.model.artefact import decode_decoder
    from clnet.model.inference import LoadedDecoder

    tiers = {d.ref: tier for tier, decoders in enumerate(release.tiers) for d in decoders}
    record = next(d for d in (*release.decoders, *release.supporters) if d.ref == ref)
    decoder, info = decode_decoder(registry.artefact(record.sha256))
    if info.encoder_sha256 != release.encoder_sha256:
        raise IntegrityError(f"decoder {ref}: its artefact names another encoder than its record")
    return LoadedDecoder(
        ref=ref,
        decoder=decoder.to(device) if weights else None,
        head=None if weights else _head(decoder, device),
        info=info,
        tier=tiers.get(ref, len(release.tiers)),
        sha256=record.sha256,
        served=ref in tiers,
    )


def release_card(
    registry: Registry, name: str, model: SegmentationModel, place: Callable[[str], object]
) -> ReleaseCard:
    """What a service tells about the release.

    Args:
        registry: where the release is.
        name: of the release.
        model: the loaded release.
        place: where a decoder version runs.
    """
    from clnet.model.outputs import outputs_of

    release = registry.release(name)
    outputs = {d.ref: [o.anatomy for o in outputs_of(d.info)] for d in model.decoders if d.served}
    return ReleaseCard(
        name=release.name,
        sha256=release.sha256,
        encoder=release.encoder_ref,
        body_part_model=release.body_part_model_ref,
        decoders=tuple(
            {
                "ref": d.ref,
                "sha256": d.sha256,
                "group": d.info.config.group,
                "layer": d.info.config.layer,
                "anatomies": outputs.get(d.ref, []),
                "tier": d.tier if d.served else None,
                "placement": str(place(d.ref)),
            }
            for d in model.decoders
        ),
        anatomies=tuple(sorted({a for found in outputs.values() for a in found})),
        terms=release.terms.model_dump(mode="json"),
        notice=_notice(registry, release),
        versions={package: version(package) for package in ("clnet", "torch")},
    )


def _head(decoder: Decoder, device: str) -> Conv3d | None:
    """The finest head, which makes logits here of the features that come from elsewhere."""
    from torch.nn import Conv3d

    head = decoder.heads[0].to(device)
    return head if decoder.config.deferred and isinstance(head, Conv3d) else None


def _refs(release: ReleaseRecord) -> list[str]:
    return [d.ref for d in (*release.decoders, *release.supporters)]


def _notice(registry: Registry, release: ReleaseRecord) -> str:
    """What the policy says, else whether any data in the lineage was a phantom."""
    if "notice" in release.policy:
        return str(release.policy["notice"])
    for ref in release.terms.licences:
        notes = str(registry.dataset(ref).terms.get("notes", ""))
        if "phantom" in f"{ref} {notes}".lower():
            return PHANTOM_NOTICE
    return ""
