"""nnU-Net's U-Nets as frozen encoder and first decoder, of nnU-Net's own building blocks.

A plans file names classes and their arguments as text. Only names of the tables below are ever
turned into classes; nothing is imported because a file says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from clnet.errors import Incompatible, InputError
from clnet.model.decoder import Decoder
from clnet.model.encoder import Encoder, EncoderConfig, triple
from clnet.model.numerics import Precision

__all__ = ["ARCHITECTURES", "NnunetDecoder", "NnunetEncoder", "NnunetEncoderConfig"]

ARCHITECTURES = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
"""Supported networks, and what each calls the depth of its encoder's stages."""

PACKAGE = "dynamic_network_architectures.architectures."
MOST_STAGES, MOST_BLOCKS, MOST_CHANNELS = 12, 32, 4096
SETTINGS = {"eps", "affine", "momentum", "track_running_stats", "inplace", "negative_slope", "p"}
CLASSES: dict[str, type[nn.Module]] = {
    name: kind
    for kind in (
        nn.Conv3d,
        nn.InstanceNorm3d,
        nn.BatchNorm3d,
        nn.Dropout3d,
        nn.LeakyReLU,
        nn.ReLU,
        nn.GELU,
        nn.SiLU,
        nn.ELU,
    )
    for name in (f"{kind.__module__}.{kind.__name__}", f"torch.nn.{kind.__name__}")
}
NAMED = ("conv_op", "norm_op", "dropout_op", "nonlin")
ALIASES = ("conv", "norm", "dropout", "nonlin")
"""Attributes of a convolution block that name its members a second time."""


@dataclass(frozen=True, slots=True)
class NnunetEncoderConfig(EncoderConfig):
    """Shape of an imported encoder; stages as those of our own.

    Attributes:
        architecture: ``PlainConvUNet`` or ``ResidualEncoderUNet``.
        kwargs: its arguments as the plans file has them, classes by name, one value per stage.
    """

    architecture: str = "PlainConvUNet"
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, architecture: str, kwargs: Mapping[str, Any]) -> NnunetEncoderConfig:
        """The configuration that a plans file's architecture amounts to.

        Raises:
            Incompatible: a network, class or argument that is not supported.
            InputError: arguments that contradict each other.
        """
        name = architecture.removeprefix(PACKAGE).rpartition(".")[2]
        if name not in ARCHITECTURES or not (
            architecture == name or architecture.startswith(PACKAGE)
        ):
            raise Incompatible(
                f"nnU-Net: network {architecture!r} is not supported, only "
                f"{' and '.join(ARCHITECTURES)} are"
            )
        checked = _checked(name, kwargs)
        return cls(
            features=tuple(checked["features_per_stage"]),
            strides=tuple(triple(s) for s in checked["strides"]),
            kernels=tuple(triple(k) for k in checked["kernel_sizes"]),
            convs=tuple(checked[ARCHITECTURES[name]]),
            architecture=name,
            kwargs=checked,
        )

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-able values."""
        return {**asdict(self), "kind": "nnunet"}

    def precision(self, device: torch.device) -> Precision:
        """On a CPU float32, which nnU-Net computes in there: the same labels come out."""
        return "float32" if device.type == "cpu" else "auto"

    def make(self) -> NnunetEncoder:
        """An encoder of this shape; its weights are still to be loaded."""
        return NnunetEncoder(self)


def _checked(name: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments within bounds, lists as long as there are stages."""
    depth = ARCHITECTURES[name]
    stages = kwargs.get("n_stages")
    if not isinstance(stages, int) or not 2 <= stages <= MOST_STAGES:
        raise InputError(f"nnU-Net: n_stages {stages!r}: 2 to {MOST_STAGES} expected")
    checked: dict[str, Any] = {"n_stages": stages}
    for key in ("kernel_sizes", "strides"):
        checked[key] = [_sizes(key, value) for value in _per_stage(kwargs, key, stages)]
    for key, count, most in (
        ("features_per_stage", stages, MOST_CHANNELS),
        (depth, stages, MOST_BLOCKS),
        ("n_conv_per_stage_decoder", stages - 1, MOST_BLOCKS),
    ):
        checked[key] = [_whole(key, value, most) for value in _per_stage(kwargs, key, count)]
    for key in NAMED:
        checked[key] = _named(key, kwargs.get(key))
        if key != "conv_op":
            checked[f"{key}_kwargs"] = _settings(f"{key}_kwargs", kwargs.get(f"{key}_kwargs"))
    if CLASSES.get(checked["conv_op"]) is not nn.Conv3d:
        raise Incompatible(
            f"nnU-Net: conv_op {checked['conv_op']!r}: only 3D networks can be imported"
        )
    for key in ("conv_bias", "nonlin_first"):
        checked[key] = bool(kwargs.get(key, False))
    if name == "ResidualEncoderUNet":
        if checked.pop("nonlin_first"):
            raise Incompatible(f"nnU-Net: nonlin_first is no argument of a {name}")
        stem = kwargs.get("stem_channels")
        checked["stem_channels"] = (
            None if stem is None else _whole("stem_channels", stem, MOST_CHANNELS)
        )
    known = {*checked, "deep_supervision"}
    unknown = {key for key in kwargs if key not in known and kwargs[key] is not None}
    if unknown:
        raise Incompatible(f"nnU-Net: {name}: argument {', '.join(sorted(unknown))} is unsupported")
    return checked


def _per_stage(kwargs: Mapping[str, Any], key: str, stages: int) -> Sequence[Any]:
    value = kwargs.get(key)
    if isinstance(value, int):
        return [value] * stages
    if not isinstance(value, list | tuple) or len(value) != stages:
        raise InputError(f"nnU-Net: {key} {value!r}: {stages} values expected, one per stage")
    return value


def _whole(key: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InputError(f"nnU-Net: {key} {value!r}: a number of 1 to {most} expected")
    return value


def _sizes(key: str, value: Any) -> list[int]:
    values = [value] * 3 if isinstance(value, int) else value
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise Incompatible(f"nnU-Net: {key} {value!r}: only 3D networks can be imported")
    return [_whole(key, v, 15) for v in values]


def _named(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in CLASSES:
        raise Incompatible(
            f"nnU-Net: {key} {value!r} is not one of {', '.join(sorted(set(CLASSES)))}"
        )
    return value


def _settings(key: str, value: Any) -> dict[str, Any]:
    settings = value or {}
    if not isinstance(settings, Mapping) or not set(settings) <= SETTINGS:
        raise Incompatible(
            f"nnU-Net: {key} {value!r}: only {', '.join(sorted(SETTINGS))} are known"
        )
    if not all(isinstance(v, int | float | bool | None) for v in settings.values()):
        raise InputError(f"nnU-Net: {key} {value!r}: plain numbers expected")
    return dict(settings)


def _blocks() -> Any:
    try:
        from dynamic_network_architectures import building_blocks
    except ImportError as error:
        raise Incompatible(
            "networks of nnU-Net need its building blocks: pip install 'clnet[nnunet]'"
        ) from error
    return building_blocks


def _encoder(config: NnunetEncoderConfig) -> Any:
    """nnU-Net's own encoder module."""
    _blocks()
    from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
    from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder

    kwargs = dict(config.kwargs)
    del kwargs["n_conv_per_stage_decoder"]
    for key in NAMED:
        kwargs[key] = None if kwargs[key] is None else CLASSES[kwargs[key]]
    kind = PlainConvEncoder if config.architecture == "PlainConvUNet" else ResidualEncoder
    try:
        return kind(input_channels=1, return_skips=True, **kwargs)
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(f"nnU-Net: {config.architecture} cannot be built: {error}") from error


def _without_aliases(module: nn.Module) -> None:
    """Forget second names of one weight: an artefact keeps each weight once."""
    from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU

    for part in module.modules():
        if isinstance(part, ConvDropoutNormReLU):
            for name in ALIASES:
                if hasattr(part, name):
                    delattr(part, name)


class NnunetEncoder(Encoder):
    """The encoder of an nnU-Net; a stem belongs to its first stage."""

    config: NnunetEncoderConfig

    def __init__(self, config: NnunetEncoderConfig) -> None:
        super().__init__(config)

    def _stages(self) -> list[nn.Module]:
        network = _encoder(self.config)
        _without_aliases(network)
        stages: list[nn.Module] = list(network.stages)
        stem = getattr(network, "stem", None)
        if stem is not None:
            stages[0] = nn.Sequential(stem, stages[0])
        return stages

    def adopt(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a checkpoint's ``encoder.``, bit for bit.

        Raises:
            Incompatible: they are not those of this configuration.
        """
        stem = any(name.startswith("stem.") for name in weights)
        renamed = {}
        for name, value in weights.items():
            if name.startswith("stem."):
                name = "stages.0.0." + name.removeprefix("stem.")
            elif stem and name.startswith("stages.0."):
                name = "stages.0.1." + name.removeprefix("stages.0.")
            renamed[name] = value
        _adopt(self, renamed, "encoder")


class NnunetDecoder(Decoder):
    """The decoder of an nnU-Net.

    Its logits are those of nnU-Net, one list entry per scale, finest first. A network trained on
    regions has no background of its own: a channel of zeros stands for it, which a region beats
    where its sigmoid is above one half.
    """

    def _build(self, encoder: EncoderConfig) -> None:
        if not isinstance(encoder, NnunetEncoderConfig):
            raise Incompatible(f"decoder {self.config.group}: its encoder is not an nnU-Net's")
        _blocks()
        from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder

        with torch.device("meta"):  # looked at for its shape only
            shape = _encoder(encoder)
        network = UNetDecoder(
            shape,
            len(self.config.channels) + (0 if self.config.regions else 1),
            list(encoder.kwargs["n_conv_per_stage_decoder"]),
            deep_supervision=True,
            nonlin_first=bool(encoder.kwargs.get("nonlin_first", False)),
        )
        del network.encoder
        _without_aliases(network)
        self.network = network

    def trunk(
        self, features: Sequence[Tensor], supporters: Sequence[Sequence[Tensor]] = ()
    ) -> list[Tensor]:
        """Logits per scale, finest first; an imported decoder leans on no other."""
        logits: list[Tensor] = self.network(features)
        if self.config.regions:
            return [torch.cat((torch.zeros_like(own[:, :1]), own), dim=1) for own in logits]
        return logits

    def adopt(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a checkpoint's ``decoder.``, bit for bit.

        Raises:
            Incompatible: they are not those of this configuration.
        """
        _adopt(self, {f"network.{k}": v for k, v in weights.items()}, "decoder")


def _adopt(module: nn.Module, weights: Mapping[str, Tensor], part: str) -> None:
    own = module.state_dict()
    missing = sorted(set(own) - set(weights))
    extra = sorted(name for name in weights if name not in own and not _alias(name, weights))
    wrong = [k for k in own if k in weights and own[k].shape != weights[k].shape]
    for what, names in (("lacks", missing), ("has an unexpected", extra), ("misshapes", wrong)):
        if names:
            raise Incompatible(
                f"nnU-Net: the checkpoint {what} {part} weight {names[0]} (and {len(names) - 1} "
                "more): checkpoint and plans do not belong together"
            )
    module.load_state_dict({name: weights[name] for name in own})


def _alias(name: str, weights: Mapping[str, Tensor]) -> bool:
    """Whether a weight is another one's second name."""
    block, kind, _ = name.rsplit(".", 2) if name.count(".") > 1 else ("", "", "")
    return kind in ALIASES and any(other.startswith(f"{block}.all_modules.") for other in weights)
