"""Networks trained elsewhere, registered: a frozen encoder and its decoder's first version."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from clnet.data_catalog import Terms
from clnet.decoders_registry import DatasetUse, DecoderRecord, EncoderRecord, Lineage, Registry
from clnet.errors import NotFound
from clnet.model.artefact import DecoderInfo, encode_decoder, encode_encoder
from clnet.model.monai_bundle import BundleSettings, read_bundle
from clnet.model.nnunet.folder import CHECKPOINT, read_result_folder
from clnet.platform.register import code_version

__all__ = ["IMPORTED", "data_use", "import_monai", "import_nnunet"]

IMPORTED = "imported"
"""Groups of imported decoders, and the data that they learned from, are named below this."""

HELD_AT = "elsewhere: known by the description that came with an imported model"


def import_nnunet(
    registry: Registry,
    folder: Path,
    terms: Terms,
    *,
    name: str | None = None,
    fold: int | str | None = None,
    checkpoint: str = CHECKPOINT,
    mapping: Mapping[str, Any] | Path | None = None,
    orientation: str | None = None,
    body_part_model: str = "starter",
    command: str = "",
) -> tuple[EncoderRecord, DecoderRecord]:
    """Register the network of an nnU-Net v2 result folder; doing it again adds nothing.

    Args:
        registry: where to.
        folder: with plans.json, dataset.json and folds.
        terms: of the model, as whoever gave it declares them.
        name: of the encoder, and below ``imported/`` of the decoder; the dataset's by default.
        fold, checkpoint, mapping, orientation: see
            :func:`clnet.model.nnunet.folder.read_result_folder`.
        body_part_model: what later decoders on this encoder measure their ranges with. The
            imported one has no ranges, so it is never gated.
        command: what was typed, for the lineage.

    Raises:
        NotFound: a file, or the body-part model, is not there.
        InputError: whatever cannot be imported, and why.
        IntegrityError: a checkpoint that holds more than weights.
    """
    try:
        body = registry.body_part_model(body_part_model)
    except NotFound as error:
        raise NotFound(
            f"{error}; bring one first (clnet releases import starter), or name another"
        ) from None
    plans_name = name or _own_name(folder)
    group = f"{IMPORTED}/{plans_name}"
    network = read_result_folder(
        folder,
        group,
        fold=fold,
        checkpoint=checkpoint,
        mapping=mapping,
        orientation=orientation,
    )
    described = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    lineage = Lineage(
        command=command,
        code_version=code_version(),
        datasets=(data_use(registry, described, group, terms),),
        config={"imported_from": {"kind": "nnU-Net v2", **network.facts}},
    )
    encoder = registry.add_encoder(
        plans_name,
        encode_encoder(network.encoder, network.plan),
        network.plan.to_dict(),
        network.encoder.config.to_dict(),
        lineage,
    )
    info = DecoderInfo(
        config=network.decoder.config,
        encoder_sha256=encoder.sha256,
        encoder_config=network.encoder.config,
        bpr_sha256=body.sha256,
        learned=network.learned,
        unions=network.unions,
    )
    decoder = registry.add_decoder(
        group,
        encode_decoder(network.decoder, info),
        encoder=encoder.ref,
        body_part_model=body.ref,
        config=network.decoder.config.to_dict(),
        metrics={},
        learned=network.learned,
        unions=network.unions,
        lineage=lineage,
    )
    return encoder, decoder


def import_monai(
    registry: Registry,
    folder: Path,
    terms: Terms,
    *,
    name: str | None = None,
    settings: BundleSettings | None = None,
    config: str | None = None,
    weights: str = "model.pt",
    command: str = "",
) -> EncoderRecord:
    """Register the SegResNet encoder of a MONAI bundle; doing it again adds nothing.

    Args:
        registry: where to.
        folder: of the bundle.
        terms: of the model, as whoever gave it declares them.
        name: of the encoder; the folder's by default.
        settings, config, weights: see :func:`clnet.model.monai_bundle.read_bundle`.
        command: what was typed, for the lineage.

    Raises:
        NotFound: folder or file is not there.
        InputError: whatever cannot be imported, and why.
        IntegrityError: weights that hold more than weights.
    """
    bundle = read_bundle(folder, settings, config=config, weights=weights)
    own_name = (
        name or re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-.") or "monai"
    )
    data = encode_encoder(bundle.encoder, bundle.plan)
    described = {"encoder_sha256": hashlib.sha256(data).hexdigest(), **bundle.facts["metadata"]}
    lineage = Lineage(
        command=command,
        code_version=code_version(),
        datasets=(data_use(registry, described, f"{IMPORTED}/{own_name}", terms),),
        config={"imported_from": {"kind": "MONAI bundle", **bundle.facts}},
    )
    return registry.add_encoder(
        own_name, data, bundle.plan.to_dict(), bundle.encoder.config.to_dict(), lineage
    )


def _own_name(folder: Path) -> str:
    """The dataset's name, from the folders that nnU-Net makes."""
    for part in (folder.resolve().parent.name, folder.resolve().name):
        if re.fullmatch(r"Dataset[0-9]{3}_[A-Za-z0-9._-]+", part):
            return part
    return "nnunet"


def data_use(
    registry: Registry, described: Mapping[str, Any], name: str, terms: Terms
) -> DatasetUse:
    """What an imported model learned from, as far as its files tell.

    Args:
        described: what the files say of it; equal descriptions and terms are one dataset.
        name: of the dataset, below ``imported/``.
        terms: as whoever gave the model declares them.
    """
    canonical = json.dumps(described, sort_keys=True, separators=(",", ":"))
    sha256 = hashlib.sha256(canonical.encode()).hexdigest()
    declared = terms.model_dump(mode="json")
    for version in count(1):
        ref = f"{name}@{version}"
        try:
            known = registry.dataset(ref)
        except NotFound:
            break
        if (known.sha256, known.terms) == (sha256, declared):
            break
    return DatasetUse(ref=ref, sha256=sha256, terms=declared, held_at=HELD_AT)
