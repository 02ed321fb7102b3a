"""A MONAI bundle, read as data: what it would run is never run.

Of a bundle's configuration only the arguments of its network and of its preprocessing are read.
References (``@pixdim``, ``@network#norm``) are followed; expressions (``$...``) are code and are
not evaluated: what one would say must be given beside the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from clnet.errors import Incompatible, InputError, NotFound
from clnet.model.geometry import orientation_from
from clnet.model.monai_encoder import (
    ARGUMENTS,
    SegResNetConfig,
    SegResNetEncoder,
    checked_orientation,
)
from clnet.model.plan import Plan
from clnet.model.weights_file import read_weights_file

__all__ = ["BundleSettings", "ImportedEncoder", "read_bundle"]

NETWORKS = ("network_def", "network", "net", "model")
PREPROCESSING = ("preprocessing", "preprocess", "validate#preprocessing", "pre_transforms")
NAMES = tuple(f"{stem}.{ext}" for stem in ("inference", "train") for ext in ("json", "yaml", "yml"))
HARMLESS = {
    *("LoadImaged", "EnsureTyped", "EnsureChannelFirstd", "AddChanneld", "ToTensord"),
    *("CastToTyped", "CropForegroundd", "SelectItemsd", "DeleteItemsd"),
}
"""Transforms that leave the value of a voxel and the grid that it lies on alone."""

LARGEST_CONFIG = 4 << 20
MOST_REFERENCES = 16
PATCH = (96, 96, 96)
MISSING = object()


@dataclass(frozen=True, slots=True)
class BundleSettings:
    """What a user says beside a bundle; it comes before what the bundle says.

    Attributes:
        spacing: of the network's grid, mm, in the order of ``Spacingd`` (x, y, z for RAS).
        window: HU that become 0 and 1, clipped beyond.
        orientation: axis codes of the arrays that the network saw.
        patch_size: voxels of a window, in the same order as `spacing`.
    """

    spacing: tuple[float, float, float] | None = None
    window: tuple[float, float] | None = None
    orientation: str | None = None
    patch_size: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class ImportedEncoder:
    """A bundle's encoder with its plan, and facts for the lineage."""

    encoder: SegResNetEncoder
    plan: Plan
    facts: dict[str, Any]


def read_bundle(
    folder: Path,
    settings: BundleSettings | None = None,
    *,
    config: str | None = None,
    weights: str = "model.pt",
) -> ImportedEncoder:
    """The SegResNet encoder of a bundle, with the plan that its preprocessing amounts to.

    Args:
        folder: of the bundle, with ``configs`` and ``models``.
        settings: what the bundle does not say, or says by an expression.
        config: file in ``configs``; by default ``inference``, else ``train``.
        weights: file in ``models``.

    Raises:
        NotFound: folder or file is not there.
        IntegrityError: weights that hold more than weights; they were not loaded.
        Incompatible: another network, or preprocessing that a plan cannot express.
        InputError: a configuration that cannot be read, or leaves something to be said.
    """
    said = settings or BundleSettings()
    path = _config_path(folder, config)
    reader = _Reader(_parsed(path), path)
    arguments = reader.network()
    steps = reader.preprocessing()
    orientation = said.orientation or steps.get("Orientationd", {}).get("axcodes")
    if orientation is None:
        raise InputError(f"{path}: no Orientationd says how scans were turned; give orientation")
    network = SegResNetConfig.of(arguments, checked_orientation(orientation))
    spacing = said.spacing or _three(path, "spacing", steps.get("Spacingd", {}).get("pixdim"))
    roi = said.patch_size or reader.patch_size()
    factor = 2 ** (len(network.features) - 1)
    z, y, x = orientation_from(network.orientation).axes
    clip, mean, std = _intensities(path, steps, said.window)
    plan = Plan(
        spacing=(spacing[z], spacing[y], spacing[x]),
        patch_size=_rounded((roi[z], roi[y], roi[x]), factor),
        clip=clip,
        mean=mean,
        std=std,
    )
    encoder = network.make()
    encoder.adopt(_weights(folder / "models" / Path(weights).name))
    encoder.requires_grad_(False).eval()
    facts = {"config": path.name, "weights": Path(weights).name, "metadata": _metadata(folder)}
    return ImportedEncoder(encoder, plan, facts)


def _config_path(folder: Path, config: str | None) -> Path:
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such bundle; a bundle is a folder with configs and models")
    names = NAMES if config is None else (Path(config).name,)
    for name in names:
        if (folder / "configs" / name).is_file():
            return folder / "configs" / name
    raise NotFound(f"{folder / 'configs'}: holds none of {', '.join(names)}")


def _parsed(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > LARGEST_CONFIG:
        raise InputError(
            f"{path}: larger than {LARGEST_CONFIG} bytes; not a bundle's configuration"
        )
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {str(error)[:200]}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: not a bundle's configuration")
    return content


class _Reader:
    """Looks values up in a configuration, following references and evaluating nothing."""

    def __init__(self, content: Mapping[str, Any], path: Path) -> None:
        self._content, self._path = content, path

    def network(self) -> dict[str, Any]:
        """Arguments of the network that its encoder depends on.

        Raises:
            Incompatible: it is no SegResNet.
            InputError: such an argument is an expression, or refers to nothing.
        """
        found = [(key, self._at(key)) for key in NETWORKS]
        targets = {
            k: str(v["_target_"]) for k, v in found if isinstance(v, Mapping) and "_target_" in v
        }
        for key, target in targets.items():
            if target in ("SegResNet", "monai.networks.nets.SegResNet"):
                said = {name: v for name, v in self._at(key).items() if name in ARGUMENTS}
                return {name: self._literal(v, f"{key}#{name}") for name, v in said.items()}
        told = ", ".join(targets.values()) or "none"
        raise Incompatible(f"{self._path}: only SegResNet's encoder can be imported, here: {told}")

    def preprocessing(self) -> dict[str, dict[str, Any]]:
        """Transforms that matter, by name without module, with literal arguments."""
        chain = next((v for k in PREPROCESSING if isinstance(v := self._at(k), Mapping)), {})
        steps: dict[str, dict[str, Any]] = {}
        transforms = self._value(chain.get("transforms", []), "preprocessing")
        for step in transforms if isinstance(transforms, list) else []:
            values = self._value(step, "preprocessing")
            if not isinstance(values, Mapping) or values.get("_disabled_") is True:
                continue
            name = str(values.get("_target_")).rpartition(".")[2]
            if name not in HARMLESS:
                steps[name] = {k: self._value(v, f"{name}.{k}") for k, v in values.items()}
        return steps

    def patch_size(self) -> tuple[int, int, int]:
        """Window of the bundle's inferer, or a usual one."""
        size = self._value(self._at("inferer#roi_size"), "inferer#roi_size")
        if not isinstance(size, list) or len(size) != 3:
            return PATCH
        if not all(isinstance(v, int) and 1 <= v <= 1024 for v in size):
            return PATCH
        return size[0], size[1], size[2]

    def _at(self, key: str) -> Any:
        value: Any = self._content
        for part in key.split("#"):
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                return MISSING
        return value

    def _literal(self, value: Any, where: str) -> Any:
        """As :meth:`_value`, but what leads to no value is refused."""
        found = self._value(value, where)
        if found is MISSING:
            raise InputError(
                f"{self._path}: {where}: {value!r} is an expression or refers to nothing; "
                "expressions are not evaluated: write the value itself there"
            )
        return found

    def _value(self, value: Any, where: str) -> Any:
        """`value`, or what it refers to; an expression is MISSING, for it is code."""
        for _ in range(MOST_REFERENCES):
            if not isinstance(value, str) or not value.startswith(("@", "$")):
                return value
            if value.startswith("$"):
                return MISSING
            value = self._at(value[1:].replace("::", "#"))
        raise InputError(f"{self._path}: {where}: references go in a circle")


def _intensities(
    path: Path, steps: Mapping[str, Mapping[str, Any]], window: tuple[float, float] | None
) -> tuple[tuple[float, float], float, float]:
    """Clip, mean and standard deviation of a plan."""
    known = {"Orientationd", "Spacingd", "ScaleIntensityRanged"}
    others = sorted(set(steps) - known)
    if window is not None:
        others = [name for name in others if "Intensity" not in name]
    if others:
        raise Incompatible(
            f"{path}: preprocessing by {', '.join(others)} is not a fixed plan; known are "
            f"{', '.join(sorted(known))}. Intensities may be replaced by giving window, the HU "
            "that become 0 and 1: decoders learn on what the encoder then sees"
        )
    if window is not None:
        low, high, bottom, top = *window, 0.0, 1.0
    else:
        scale = steps.get("ScaleIntensityRanged")
        if scale is None:
            raise InputError(f"{path}: no ScaleIntensityRanged says what HU become; give window")
        if scale.get("clip", False) is not True:
            raise Incompatible(f"{path}: ScaleIntensityRanged without clip; give window")
        ends = [scale.get(key) for key in ("a_min", "a_max", "b_min", "b_max")]
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in ends):
            raise InputError(f"{path}: ScaleIntensityRanged: {ends} are no numbers; give window")
        low, high, bottom, top = (float(v) for v in ends if v is not None)
    if not low < high or not bottom < top:
        raise InputError(f"{path}: intensities {low} to {high} become {bottom} to {top}: no range")
    std = (high - low) / (top - bottom)
    return (low, high), low - bottom * std, std


def _three(path: Path, what: str, value: Any) -> tuple[float, float, float]:
    triple = isinstance(value, list) and len(value) == 3
    if triple and all(isinstance(v, int | float) and v > 0 for v in value):
        return float(value[0]), float(value[1]), float(value[2])
    raise InputError(
        f"{path}: does not say its {what} as three numbers (expressions are not evaluated); give "
        f"{what}"
    )


def _rounded(size: tuple[int, int, int], factor: int) -> tuple[int, int, int]:
    z, y, x = (-(-value // factor) * factor for value in size)
    return z, y, x


def _weights(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".ts":
        raise Incompatible(f"{path}: TorchScript is code and is not loaded; name a .pt of weights")
    content = read_weights_file(
        path, "a bundle keeps its weights in models", "Save its state_dict alone again"
    )
    for key in ("model", "state_dict", "network"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise Incompatible(f"{path}: holds no weights by name")
    return {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }


def _metadata(folder: Path) -> dict[str, str]:
    """Name and version of a bundle, where it says them."""
    path = folder / "configs" / "metadata.json"
    if not path.is_file():
        return {}
    content = _parsed(path)
    return {key: str(content[key])[:200] for key in ("name", "version") if key in content}
