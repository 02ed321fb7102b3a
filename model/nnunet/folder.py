"""An nnU-Net v2 result folder: what it holds, as a frozen encoder and a first decoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clnet.anatomy.mapping import load_mapping
from clnet.errors import ContractError, InputError, NotFound, UnknownAnatomy
from clnet.model.decoder import Channel, DecoderConfig
from clnet.model.encoder import freeze
from clnet.model.nnunet.checkpoint import read_checkpoint
from clnet.model.nnunet.network import NnunetDecoder, NnunetEncoder
from clnet.model.nnunet.plan import NnunetPlan
from clnet.model.nnunet.plans_file import NetworkPlan, Target, network_plan, read_json

__all__ = ["ImportedNetwork", "read_result_folder"]

CHECKPOINT = "checkpoint_final.pth"


@dataclass(frozen=True, slots=True)
class ImportedNetwork:
    """A network that nnU-Net trained.

    Attributes:
        encoder: frozen, with the checkpoint's weights.
        plan: how scans are prepared for it.
        decoder: in evaluation mode, with the checkpoint's weights.
        learned: leaf anatomies that it predicts.
        unions: composites that it predicts, as sorted members.
        facts: where it came from: dataset, plans, trainer, configuration, fold, checkpoint.
    """

    encoder: NnunetEncoder
    plan: NnunetPlan
    decoder: NnunetDecoder
    learned: tuple[str, ...]
    unions: tuple[tuple[str, ...], ...]
    facts: dict[str, str]


def read_result_folder(
    folder: Path,
    group: str,
    *,
    fold: int | str | None = None,
    checkpoint: str = CHECKPOINT,
    mapping: Mapping[str, Any] | Path | None = None,
    orientation: str | None = None,
) -> ImportedNetwork:
    """Read ``plans.json``, ``dataset.json`` and one fold's checkpoint.

    Args:
        folder: such as ``Dataset291/nnUNetTrainer__nnUNetPlans__3d_fullres``.
        group: name of the anatomy group that the decoder becomes.
        fold: 0 to 4 or ``all``; the only one by default.
        checkpoint: name of the file in the fold's folder.
        mapping: dataset label to anatomy, for labels that the vocabulary does not know.
        orientation: axis codes that the network saw, if its users turned scans first.

    Raises:
        NotFound: the folder, fold or a file is not there.
        UnknownAnatomy: labels that stand for no anatomy, all of them listed.
        Incompatible: a network that cannot be imported.
        IntegrityError: a checkpoint that holds more than weights.
    """
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such folder; give an nnU-Net v2 result folder")
    plans, dataset = read_json(folder / "plans.json"), read_json(folder / "dataset.json")
    fold_name = _fold(folder, fold)
    if Path(checkpoint).name != checkpoint or not checkpoint:
        raise InputError(f"checkpoint {checkpoint!r}: the name of a file in {fold_name} expected")
    kept = read_checkpoint(folder / fold_name / checkpoint)
    configuration = kept.configuration or folder.name.rpartition("__")[2]
    network = network_plan(plans, dataset, configuration, orientation)
    channels = _channels(network.targets, mapping)
    encoder = network.config.make()
    encoder.adopt(kept.part("encoder"))
    freeze(encoder)
    config = _decoder_config(group, network, channels)
    decoder = NnunetDecoder(config, network.config)
    decoder.adopt({k: v for k, v in kept.part("decoder").items() if not k.startswith("encoder.")})
    decoder.requires_grad_(False)
    decoder.eval()
    members = [channel.members for channel in channels]
    return ImportedNetwork(
        encoder,
        replace(network.plan, mirror=kept.mirror),
        decoder,
        learned=tuple(sorted(m[0] for m in members if len(m) == 1)),
        unions=tuple(sorted(tuple(sorted(m)) for m in members if len(m) > 1)),
        facts={
            "dataset": str(plans.get("dataset_name", "")),
            "plans": str(plans.get("plans_name", "")),
            "trainer": kept.trainer or "",
            "configuration": configuration,
            "fold": fold_name,
            "checkpoint": checkpoint,
        },
    )


def _fold(folder: Path, fold: int | str | None) -> str:
    found = sorted(p.name for p in folder.glob("fold_*") if p.is_dir())
    if fold is None:
        if len(found) != 1:
            raise NotFound(f"{folder}: has {', '.join(found) or 'no fold_*'}; say which fold")
        return found[0]
    if re.fullmatch(r"[0-9]+|all", str(fold)) is None:
        raise InputError(f"fold {fold!r}: a number or all expected")
    if f"fold_{fold}" not in found:
        raise NotFound(f"{folder}: has no fold_{fold}, only {', '.join(found) or 'none'}")
    return f"fold_{fold}"


def _decoder_config(
    group: str, network: NetworkPlan, channels: tuple[Channel, ...]
) -> DecoderConfig:
    named = next((c for c in channels if c.members), None)
    if named is None:
        raise ContractError(f"{group}: every label of the network is ignored; keep one")
    return DecoderConfig(
        group,
        "organ",
        channels,
        widths=network.config.features[:-1],
        kernels=network.config.kernels[:-1],
        heads=len(network.config.features) - 1,
        kind="nnunet",
        regions=network.regions,
    )


def _channels(
    targets: tuple[Target, ...], mapping: Mapping[str, Any] | Path | None
) -> tuple[Channel, ...]:
    """One channel per target: by the mapping where it names it, else by the vocabulary."""
    told = {} if mapping is None else load_mapping(mapping).meanings
    names = {target.name for target in targets}
    strange = sorted(set(told) - names - {"background", "ignore"})
    if strange:
        raise ContractError(
            f"mapping: {', '.join(strange)}: no label of this network, which has "
            f"{', '.join(sorted(names))}"
        )
    channels, unresolved = [], []
    for target in targets:
        meanings = told.get(target.name)
        if meanings is None:
            try:
                meanings = load_mapping({target.name: target.name}).meanings[target.name]
            except (UnknownAnatomy, ContractError):
                unresolved.append(target.name)
                continue
        if len(meanings) > 1:
            raise ContractError(f"mapping.{target.name}: a network's label has one meaning")
        if meanings:
            channels.append(Channel(meanings[0].name, meanings[0].members))
        else:
            channels.append(Channel(f"ignored {target.name}", ()))
    if unresolved:
        raise UnknownAnatomy(
            f"{len(unresolved)} of {len(targets)} labels stand for no anatomy of the vocabulary: "
            f"{', '.join(unresolved)}. Give a mapping (YAML, label: anatomy or ignore) that says "
            "what they are; clnet anatomies resolve NAME helps"
        )
    named = [channel.name for channel in channels]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise ContractError(f"{', '.join(twice)}: several labels of the network mean the same")
    return tuple(channels)
