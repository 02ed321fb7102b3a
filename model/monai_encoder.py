"""The encoder of MONAI's SegResNet, frozen, as a general encoder.

Its weights are kept bit for bit, so its features are MONAI's own; a patch is turned to the axes
that the network was trained with, and its features back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from monai.networks.nets import SegResNet
from torch import Tensor, nn

from clnet.errors import Incompatible, InputError
from clnet.model.encoder import Encoder, EncoderConfig
from clnet.model.geometry import orientation_from

__all__ = ["ARGUMENTS", "SegResNetConfig", "SegResNetEncoder", "checked_orientation"]

ACTIVATIONS, NORMS = ("RELU", "LEAKYRELU", "ELU", "GELU"), ("GROUP", "INSTANCE", "BATCH")
ARGUMENTS = (
    *("spatial_dims", "in_channels", "init_filters", "blocks_down"),
    *("act", "norm", "norm_name"),
)
"""What of a SegResNet's arguments makes a difference to its encoder."""

MOST_STAGES, MOST_BLOCKS, MOST_FILTERS = 8, 16, 512
Named = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SegResNetConfig(EncoderConfig):
    """Shape of an imported encoder; stages as those of our own.

    Attributes:
        act, norm: name and arguments, as MONAI has them.
        orientation: axis codes of the arrays that the network was trained on.
    """

    act: Named = ("RELU", {})
    norm: Named = ("GROUP", {"num_groups": 8})
    orientation: str = "RAS"

    @classmethod
    def of(cls, arguments: Mapping[str, Any], orientation: str) -> SegResNetConfig:
        """The configuration that a SegResNet's arguments amount to; defaults are MONAI's.

        Raises:
            Incompatible: not a 3D network of one channel, or of unknown building blocks.
            InputError: a number out of bounds.
        """
        if arguments.get("spatial_dims", 3) != 3 or arguments.get("in_channels", 1) != 1:
            raise Incompatible("MONAI: only 3D networks of one input channel can be imported")
        if arguments.get("norm_name"):
            raise Incompatible("MONAI: norm_name is not supported; the network must say norm")
        blocks = arguments.get("blocks_down", (1, 2, 2, 4))
        if not isinstance(blocks, list | tuple) or not 2 <= len(blocks) <= MOST_STAGES:
            raise InputError(f"MONAI: blocks_down {blocks!r}: 2 to {MOST_STAGES} values expected")
        convs = tuple(2 * _whole("blocks_down", count, MOST_BLOCKS) for count in blocks)
        filters = _whole("init_filters", arguments.get("init_filters", 8), MOST_FILTERS)
        stages = len(convs)
        return cls(
            features=tuple(filters * 2**stage for stage in range(stages)),
            strides=((1, 1, 1), *((2, 2, 2),) * (stages - 1)),
            kernels=((3, 3, 3),) * stages,
            convs=convs,
            act=_named("act", arguments.get("act", "RELU"), ACTIVATIONS),
            norm=_named("norm", arguments.get("norm", ("GROUP", {"num_groups": 8})), NORMS),
            orientation=checked_orientation(orientation),
        )

    @classmethod
    def from_own(cls, values: Mapping[str, Any]) -> SegResNetConfig:
        """Inverse of :meth:`to_dict`."""
        blocks = [count // 2 for count in values["convs"]]
        arguments = {"init_filters": values["features"][0], "blocks_down": blocks}
        named = {key: values[key] for key in ("act", "norm")}
        return cls.of(arguments | named, values["orientation"])

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-able values."""
        return {**asdict(self), "kind": "monai-segresnet"}

    def make(self) -> SegResNetEncoder:
        """An encoder of this shape; its weights are still to be loaded."""
        return SegResNetEncoder(self)


class SegResNetEncoder(Encoder):
    """``forward`` takes and gives what every :class:`Encoder` does, canonical ``(Z, Y, X)``."""

    config: SegResNetConfig

    def __init__(self, config: SegResNetConfig) -> None:
        super().__init__(config)
        turn = orientation_from(config.orientation)
        self._there = tuple(2 + turn.axes.index(axis) for axis in range(3))
        self._back = tuple(2 + axis for axis in turn.axes)
        self._flips = tuple(2 + axis for axis, flip in enumerate(turn.flips) if flip)

    def _stages(self) -> list[nn.Module]:
        config = self.config
        try:
            network = SegResNet(
                init_filters=config.features[0],
                blocks_down=tuple(count // 2 for count in config.convs),
                blocks_up=(),
                act=(config.act[0], dict(config.act[1])),
                norm=(config.norm[0], dict(config.norm[1])),
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"MONAI: SegResNet cannot be built: {error}") from error
        first, *others = network.down_layers
        return [nn.Sequential(network.convInit, first), *others]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of `image`, finest first."""
        turned = image.flip(self._flips).permute(0, 1, *self._there)
        features = super().forward(turned.contiguous())
        return [f.permute(0, 1, *self._back).flip(self._flips).contiguous() for f in features]

    def adopt(self, weights: Mapping[str, Tensor]) -> None:
        """Take the encoder's weights of a whole SegResNet's, bit for bit.

        Raises:
            Incompatible: they are not those of this configuration.
        """
        own = self.state_dict()
        taken = {}
        for name, like in own.items():
            _, stage, rest = name.split(".", 2)
            theirs = f"down_layers.{stage}.{rest}"
            if stage == "0":
                part, _, inner = rest.partition(".")
                theirs = f"convInit.{inner}" if part == "0" else f"down_layers.0.{inner}"
            value = weights.get(theirs)
            if value is None or value.shape != like.shape:
                raise Incompatible(
                    f"MONAI: the weights have no {theirs} of shape {tuple(like.shape)}: weights "
                    "and configuration do not belong together"
                )
            taken[name] = value
        self.load_state_dict(taken)


def checked_orientation(codes: Any) -> str:
    """Axis codes such as ``RAS``.

    Raises:
        InputError: these are none.
    """
    axes = [{"L": "R", "P": "A", "I": "S"}.get(code, code) for code in str(codes)]
    if not isinstance(codes, str) or sorted(axes) != ["A", "R", "S"]:
        raise InputError(f"MONAI: orientation {codes!r}: axis codes such as RAS expected")
    return codes


def _whole(key: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InputError(f"MONAI: {key} {value!r}: a number of 1 to {most} expected")
    return value


def _named(key: str, value: Any, known: Sequence[str]) -> Named:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, list | tuple) or len(value) not in (1, 2):
        raise InputError(
            f"MONAI: {key} {value!r} of the network: write a name, such as {known[0]}, or a name "
            f"and its arguments, such as [{known[0]}, {{}}]"
        )
    name, arguments = (*value, {})[:2]
    if not isinstance(name, str) or name.upper() not in known:
        raise Incompatible(f"MONAI: {key} {name!r} is not one of {', '.join(known)}")
    numbers = isinstance(arguments, Mapping) and all(
        isinstance(v, int | float | bool) for v in arguments.values()
    )
    if not numbers:
        raise InputError(f"MONAI: {key} {value!r}: arguments that are plain numbers expected")
    return name.upper(), dict(arguments)
