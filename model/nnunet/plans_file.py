"""plans.json and dataset.json of an nnU-Net v2 result folder, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clnet.errors import Incompatible, InputError, NotFound
from clnet.model.nnunet.network import NnunetEncoderConfig
from clnet.model.nnunet.plan import ANISOTROPIC, AS_STORED, NnunetPlan

__all__ = ["NetworkPlan", "Target", "network_plan", "read_json", "targets_of"]

MOST_BYTES = 64 << 20
SPLINES, TORCH, NO_RESAMPLING = (
    "resample_data_or_seg_to_shape",
    "resample_torch_fornnunet",
    "no_resampling_hack",
)
"""Resampling functions: of nnU-Net's default planner, and of its alternatives."""
READERS = {
    "SimpleITKIO": AS_STORED,
    "NibabelIO": AS_STORED,
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
}
"""How the readers of nnU-Net 2.8 for CT volumes turn a scan before the network sees it."""


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What a plans file says of one configuration.

    Attributes:
        plan: the preprocessing.
        config: the network.
        targets: what its channels predict, background left out, in order.
        regions: whether it was trained on regions.
    """

    plan: NnunetPlan
    config: NnunetEncoderConfig
    targets: tuple[Target, ...]
    regions: bool


@dataclass(frozen=True, slots=True)
class Target:
    """One label or region of the dataset.

    Attributes:
        name: as the dataset has it.
        value: what nnU-Net writes into its label maps for it.
    """

    name: str
    value: int


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file of bounded size.

    Raises:
        NotFound: there is no such file.
        InputError: it holds something else.
    """
    if not path.is_file():
        raise NotFound(
            f"{path}: not there; an nnU-Net v2 result folder holds plans.json, dataset.json and "
            "fold_0/checkpoint_final.pth"
        )
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes are too many for a plans file")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: a JSON object expected")
    return values


def network_plan(
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    configuration: str,
    orientation: str | None = None,
) -> NetworkPlan:
    """Preprocessing, network and channels of one configuration.

    Args:
        orientation: axis codes of the scans that the network saw, where its users turned them
            first (TotalSegmentator: RAS); by default what its reader does.

    Raises:
        Incompatible: a 2d or cascaded configuration, several image channels, or anything else
            that cannot be done again exactly.
        InputError: the file contradicts itself, or lacks or misshapes a field.
    """
    try:
        return _network_plan(plans, dataset, configuration, orientation)
    except InputError:
        raise
    except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"plans.json (configuration {configuration}) or dataset.json: missing or malformed "
            f"field ({error!r})"
        ) from error


def _network_plan(
    plans: Mapping[str, Any], dataset: Mapping[str, Any], name: str, orientation: str | None
) -> NetworkPlan:
    chosen = _inherited(plans, name)
    if chosen.get("previous_stage"):
        raise Incompatible(
            f"plans.json: {name} is the second stage of a cascade, which needs the output of "
            f"{chosen['previous_stage']}; import that or 3d_fullres"
        )
    if len(chosen["patch_size"]) != 3:
        raise Incompatible(
            f"plans.json: {name} is no 3D configuration; an encoder for CT volumes needs one"
        )
    channels = dataset.get("channel_names") or dataset.get("modality") or {}
    if len(channels) != 1:
        raise Incompatible(
            f"dataset.json: {len(channels)} image channels ({', '.join(map(str, channels))}): "
            "only networks that see one CT can be imported"
        )
    targets, regions = targets_of(dataset)
    plan, config = _plan(plans, chosen, orientation), _architecture(chosen)
    _check_patch(plan.patch_size, config)
    return NetworkPlan(plan, config, targets, regions)


def _inherited(plans: Mapping[str, Any], name: str, below: tuple[str, ...] = ()) -> dict[str, Any]:
    known = plans["configurations"]
    if name not in known:
        raise InputError(f"plans.json: no configuration {name}; it has {', '.join(sorted(known))}")
    if name in below:
        raise InputError(f"plans.json: configuration {name} inherits from itself")
    own = dict(known[name])
    parent = own.pop("inherits_from", None)
    return own if parent is None else {**_inherited(plans, parent, (*below, name)), **own}


def _plan(
    plans: Mapping[str, Any], chosen: Mapping[str, Any], orientation: str | None
) -> NnunetPlan:
    schemes, masks = chosen["normalization_schemes"], chosen["use_mask_for_norm"]
    properties = plans.get("foreground_intensity_properties_per_channel")
    if properties is None:
        properties = plans["foreground_intensity_properties_by_modality"]
    image = _resampling(chosen, "data", orders=(3, 0))
    logits = _resampling(chosen, "probabilities", orders=(1, 0))
    functions = chosen["resampling_fn_data"], chosen["resampling_fn_probabilities"]
    same = image["force_separate_z"] == logits["force_separate_z"]
    resampled = NO_RESAMPLING not in functions
    if logits["order"] != 1 or not same or (not resampled and len(set(functions)) > 1):
        raise Incompatible(
            f"plans.json: images resampled by {functions[0]} {image} and logits by {functions[1]} "
            f"{logits} are not supported"
        )
    intensity = properties["0"] if schemes[0] == "CTNormalization" else {}
    a, b, c = (float(v) for v in chosen["spacing"])
    p, q, r = (int(v) for v in chosen["patch_size"])
    s, t, u = (int(v) for v in plans["transpose_forward"])
    return NnunetPlan(
        spacing=(a, b, c),
        patch_size=(p, q, r),
        clip=(
            float(intensity.get("percentile_00_5", 0.0)),
            float(intensity.get("percentile_99_5", 1.0)),
        ),
        mean=float(intensity.get("mean", 0.0)),
        std=max(float(intensity.get("std", 1.0)), 1e-8),
        orientation=orientation or _orientation(plans),
        transpose=(s, t, u),
        scheme=str(schemes[0]),
        masked=bool(masks[0]),
        order=image["order"],
        order_z=image["order_z"],
        logits_order_z=logits["order_z"],
        separate_z=image["force_separate_z"],
        resampled=resampled,
    )


def _check_patch(patch_size: tuple[int, int, int], config: NnunetEncoderConfig) -> None:
    """A decoder joins what it doubles with what the encoder halved: no voxel may be left over."""
    factors = [math.prod(stride[axis] for stride in config.strides) for axis in range(3)]
    if any(size % factor for size, factor in zip(patch_size, factors, strict=True)):
        raise InputError(
            f"plans.json: patch_size {list(patch_size)}: multiples of {factors} expected, by "
            "which the network's strides divide"
        )


def _orientation(plans: Mapping[str, Any]) -> str:
    reader = plans.get("image_reader_writer")
    if not isinstance(reader, str) or reader not in READERS:
        raise Incompatible(
            f"plans.json: image_reader_writer {reader!r}: not known how it turns scans, as it is "
            f"of {', '.join(READERS)}; give orientation, the axis codes that the network saw "
            f"(such as RAS), or {AS_STORED!r}"
        )
    return READERS[reader]


def _resampling(chosen: Mapping[str, Any], what: str, orders: tuple[int, int]) -> dict[str, Any]:
    """Orders of interpolation within and across planes, and whether planes are taken alone.

    Torch's trilinear interpolation, as nnU-Net calls it, is that by splines of order 1: a product
    of one matrix per axis, corners not aligned, no low-pass, the nearest plane across.
    """
    function = chosen[f"resampling_fn_{what}"]
    given = dict(chosen.get(f"resampling_fn_{what}_kwargs") or {})
    # what segmentations are resampled by says nothing of images and logits
    for key in ("is_seg", "memefficient_seg_resampling"):
        given.pop(key, None)
    known: dict[str, Any]
    if function == SPLINES:
        known = {"order": orders[0], "order_z": orders[1], "force_separate_z": False}
    elif function == TORCH:
        known = {"force_separate_z": None}
    elif function == NO_RESAMPLING:
        known = {}
    else:
        raise Incompatible(
            f"plans.json: resampling_fn_{what} {function!r}: only {SPLINES}, {TORCH} and "
            f"{NO_RESAMPLING} are supported"
        )
    threshold = given.pop("separate_z_anisotropy_threshold", ANISOTROPIC)
    if not set(given) <= set(known) or threshold != ANISOTROPIC:
        raise Incompatible(
            f"plans.json: resampling_fn_{what}_kwargs {chosen[f'resampling_fn_{what}_kwargs']} "
            "are not supported"
        )
    return {"order": 1, "order_z": 0, "force_separate_z": None, **known, **given}


def _architecture(chosen: Mapping[str, Any]) -> NnunetEncoderConfig:
    if "architecture" in chosen:
        described = chosen["architecture"]
        return NnunetEncoderConfig.of(described["network_class_name"], described["arch_kwargs"])
    # plans before nnU-Net 2.3.1, such as TotalSegmentator's, as nnU-Net reads them today
    name = chosen["UNet_class_name"]
    convs = chosen["n_conv_per_stage_encoder"]
    depth = {"PlainConvUNet": "n_conv_per_stage"}.get(name, "n_blocks_per_stage")
    base, most = chosen["UNet_base_num_features"], chosen["unet_max_num_features"]
    return NnunetEncoderConfig.of(
        name,
        {
            "n_stages": len(convs),
            "features_per_stage": [min(base * 2**stage, most) for stage in range(len(convs))],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": chosen["conv_kernel_sizes"],
            "strides": chosen["pool_op_kernel_sizes"],
            depth: convs,
            "n_conv_per_stage_decoder": chosen["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    )


def targets_of(dataset: Mapping[str, Any]) -> tuple[tuple[Target, ...], bool]:
    """What the network's channels predict, and whether these are regions.

    The ``ignore`` label marks voxels that nobody labelled: no channel predicts it. Regions are
    painted in order, each over those before it.

    Raises:
        InputError: labels that nnU-Net itself would not accept.
    """
    labels = {str(name): value for name, value in dataset["labels"].items() if name != "ignore"}
    if labels.pop("background", None) != 0:
        raise InputError("dataset.json: labels: background: 0 expected")
    if any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        order = dataset.get("regions_class_order")
        named = [n for n, v in labels.items() if v != 0 and set(_values(v)) != {0}]
        if not isinstance(order, list) or len(order) != len(named):
            raise InputError("dataset.json: regions_class_order: one value per region expected")
        return tuple(Target(n, int(v)) for n, v in zip(named, order, strict=True)), True
    values = {name: _values(value)[0] for name, value in labels.items()}
    if sorted(values.values()) != list(range(1, len(values) + 1)):
        raise InputError(f"dataset.json: labels: values 1 to {len(values)} expected, got {values}")
    return tuple(Target(n, v) for n, v in sorted(values.items(), key=lambda item: item[1])), False


def _values(value: Any) -> list[int]:
    return [int(v) for v in value] if isinstance(value, list) else [int(value)]
