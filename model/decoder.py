"""A decoder: the small network that segments one anatomy group from the frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clnet.errors import Incompatible, InputError
from clnet.model.encoder import EncoderConfig, Kernel, conv_block, initialise
from clnet.model.numerics import seeded
from clnet.model.remains import Reading, Remains
from clnet.model.support import HIDDEN, FeatureLevelSupport

__all__ = [
    "Channel",
    "Decoder",
    "DecoderConfig",
    "Supporter",
    "adopt",
    "build_decoder",
    "check_decoder",
    "make_decoder",
]


@dataclass(frozen=True, slots=True)
class Channel:
    """One foreground channel of a decoder.

    Attributes:
        name: canonical id, a leaf or a composite that only unions teach.
        members: the leaf anatomies it stands for; none in a channel of an imported network that
            is ignored: it competes for voxels, and what it wins is background.
    """

    name: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Supporter:
    """A finished decoder that another leans on, pinned by hash.

    Attributes:
        sha256: hash of the supporter's artefact.
        channels: its output channels, background included.
    """

    sha256: str
    channels: int


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Shape and vocabulary of one decoder; channel 0 is background, ``k + 1`` is ``channels[k]``.

    Attributes:
        group: anatomy group, for instance ``abdomen/liver``.
        layer: the layer all channels share.
        channels: foreground channels in order.
        widths: features per scale, finest first, one fewer than the encoder's stages.
        kernels: kernel of each scale's convolution, finest first; all 3x3x3 if empty.
        heads: scales with logits of their own, for deep supervision and support.
        supporters: decoders this one leans on.
        remains: of a compacted decoder.
        kind: whose blocks it is made of. One imported from an nnU-Net has widths and kernels of
            its encoder's configuration.
        regions: whether channels are painted in order, each where it beats background, instead
            of excluding each other (an nnU-Net trained on regions).
    """

    group: str
    layer: str
    channels: tuple[Channel, ...]
    widths: tuple[int, ...] = (16, 16, 32, 48)
    kernels: tuple[Kernel, ...] = ()
    heads: int = 3
    supporters: tuple[Supporter, ...] = ()
    remains: Remains | None = None
    kind: Literal["clnet", "nnunet"] = "clnet"
    regions: bool = False

    def __post_init__(self) -> None:
        members = [m for channel in self.channels for m in channel.members]
        if not members:
            raise InputError(f"decoder {self.group}: has no anatomy to segment")
        if self.kind not in ("clnet", "nnunet"):
            raise Incompatible(f"decoder {self.group}: kind {self.kind!r} is not known here")
        if self.kind == "clnet" and len(members) != len(set(members)):
            raise InputError(f"decoder {self.group}: an anatomy stands in two channels")
        if not 1 <= self.heads <= len(self.widths):
            raise InputError(f"decoder {self.group}: heads must be 1 to {len(self.widths)}")
        if self.kernels and len(self.kernels) != len(self.widths):
            raise InputError(f"decoder {self.group}: one kernel per width expected")

    @property
    def deferred(self) -> bool:
        """Whether the finest head can wait until windows are averaged, and saves channels then.

        The head is linear, as averaging and resampling are; support is not.
        """
        own = self.kind == "clnet" and not self.supporters
        return own and len(self.channels) + 1 > self.widths[0]

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-able values."""
        values = asdict(self)
        if self.remains is None:  # as it always was, so that equal decoders keep equal bytes
            del values["remains"]
        if self.kind == "clnet":  # as it always was, so that equal decoders keep equal bytes
            del values["kind"], values["regions"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DecoderConfig:
        """Inverse of :meth:`to_dict`."""
        return cls(
            group=values["group"],
            layer=values["layer"],
            channels=tuple(Channel(c["name"], tuple(c["members"])) for c in values["channels"]),
            widths=tuple(values["widths"]),
            kernels=tuple((k[0], k[1], k[2]) for k in values["kernels"]),
            heads=values["heads"],
            supporters=tuple(Supporter(s["sha256"], s["channels"]) for s in values["supporters"]),
            remains=Remains.from_dict(values["remains"]) if values.get("remains") else None,
            kind=values.get("kind", "clnet"),
            regions=values.get("regions", False),
        )


class _Scale(nn.Module):
    """Up-sample the coarser features, join the encoder's, convolve."""

    def __init__(
        self, coarse: int, skip: int, up: int, width: int, kernel: Kernel, stride: Kernel
    ) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(coarse, up, kernel_size=stride, stride=stride)
        self.convolve = conv_block(skip + up, width, kernel, (1, 1, 1))

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.convolve(torch.cat((skip, self.up(coarse)), dim=1))
        return joined


class Decoder(nn.Module):
    """Logits of one anatomy group from the encoder's features.

    ``forward`` takes the encoder's features, finest first, and the logits of each supporter
    (one list per supporter, finest first); it gives logits ``(B, K + 1, Z, Y, X)`` per head,
    finest first. Inference uses the first.
    """

    def __init__(self, config: DecoderConfig, encoder: EncoderConfig) -> None:
        super().__init__()
        if len(config.widths) != len(encoder.features) - 1:
            raise Incompatible(
                f"decoder {config.group}: {len(config.widths)} widths for an encoder of "
                f"{len(encoder.features)} stages; give {len(encoder.features) - 1}"
            )
        self.config = config
        self._build(encoder)

    def _build(self, encoder: EncoderConfig) -> None:
        config = self.config
        kernels = config.kernels or ((3, 3, 3),) * len(config.widths)
        seen = sum(s.channels for s in config.supporters)
        supported = config.heads if seen else 0
        read, ups, hidden = encoder.features, config.widths, (HIDDEN,) * supported
        if config.remains is not None:
            config.remains.check(encoder.features, supported)
            read = tuple(len(stage) for stage in config.remains.reads)
            ups, hidden = config.remains.ups, config.remains.hidden
        self.reading = Reading(encoder.features, config.remains.reads if config.remains else ())
        coarse = (*config.widths[1:], read[-1])
        self.scales = nn.ModuleList(
            _Scale(coarse[s], read[s], ups[s], width, kernels[s], encoder.strides[s + 1])
            for s, width in enumerate(config.widths)
        )
        classes = len(config.channels) + 1
        self.heads = nn.ModuleList(
            nn.Conv3d(config.widths[s], classes, kernel_size=1) for s in range(config.heads)
        )
        self.support = nn.ModuleList(
            FeatureLevelSupport(classes, seen, inside) for inside in hidden
        )

    def forward(
        self, features: Sequence[Tensor], supporters: Sequence[Sequence[Tensor]] = ()
    ) -> list[Tensor]:
        """Logits per head, finest first."""
        outputs = self.trunk(features, supporters)
        return [self.heads[0](outputs[0]), *outputs[1:]] if self.config.deferred else outputs

    def trunk(
        self, features: Sequence[Tensor], supporters: Sequence[Sequence[Tensor]] = ()
    ) -> list[Tensor]:
        """As :meth:`forward`, but with the last features in place of the finest logits.

        Where ``config.deferred`` says so: there the finest head is left to the caller, who may
        average windows and resample in fewer channels before it.
        """
        if len(supporters) != len(self.config.supporters):
            raise Incompatible(
                f"decoder {self.config.group}: leans on {len(self.config.supporters)} "
                f"supporters, got the logits of {len(supporters)}"
            )
        features = self.reading(features)
        x = features[-1]
        outputs: list[Tensor] = []
        for s in reversed(range(len(self.scales))):
            x = self.scales[s](x, features[s])
            if s < len(self.heads):
                own = x if s == 0 and self.config.deferred else self.heads[s](x)
                if self.support:
                    own = self.support[s](own, [outputs[s] for outputs in supporters])
                outputs.insert(0, own)
        return outputs


def make_decoder(config: DecoderConfig, encoder: EncoderConfig) -> Decoder:
    """A decoder of this shape; its weights are still to be loaded."""
    if config.kind == "nnunet":
        from clnet.model.nnunet.network import NnunetDecoder

        return NnunetDecoder(config, encoder)
    return Decoder(config, encoder)


def check_decoder(config: DecoderConfig, encoder: EncoderConfig) -> None:
    """Look that a decoder of this shape can be made for an encoder, at no cost.

    Raises:
        Incompatible: its widths are not those of this many stages.
        InputError: widths, kernels or heads that no decoder can have.
    """
    if min(config.widths) < 1:
        raise InputError(f"decoder {config.group}: widths {config.widths}: give 1 or more each")
    if any(size < 1 or size % 2 == 0 for kernel in config.kernels for size in kernel):
        raise InputError(f"decoder {config.group}: kernels {config.kernels}: sizes must be odd")
    with torch.device("meta"):
        make_decoder(config, encoder)


def build_decoder(config: DecoderConfig, encoder: EncoderConfig, seed: int) -> Decoder:
    """A freshly initialised decoder; equal seeds give equal weights."""
    with seeded(seed):
        decoder = Decoder(config, encoder)
        initialise(decoder)
    return decoder


@torch.no_grad()
def adopt(decoder: Decoder, donor: Decoder) -> None:
    """Begin with a donor's weights wherever the shapes agree, in place.

    Channels that both have keep the donor's logits, and so does background; other channels
    stay as they were initialised.
    """
    rows = {channel.name: k for k, channel in enumerate(donor.config.channels, start=1)}
    shared = [(0, 0)] + [
        (k, rows[channel.name])
        for k, channel in enumerate(decoder.config.channels, start=1)
        if channel.name in rows
    ]
    given = donor.state_dict()
    for name, value in decoder.state_dict().items():
        if name.startswith("heads."):
            if name in given and given[name].shape[1:] == value.shape[1:]:
                for mine, theirs in shared:
                    value[mine] = given[name][theirs]
        elif name in given and given[name].shape == value.shape:
            value.copy_(given[name])
