"""Encoders and decoders as bytes: safetensors with a JSON header, the same bytes every time.

Pruned weights are stored as survivors (:mod:`clnet.model.survivors`); what was stored is what
comes back, to the bit. Nothing is unpickled. Format 1 kept a bitmap of survivors for each weight;
it is read still, and written where nothing is pruned. Format 2 kept the values of survivors as
they are; it is read still.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from clnet.errors import Incompatible, IntegrityError
from clnet.model.body_part_curve import Range
from clnet.model.decoder import Decoder, DecoderConfig, make_decoder
from clnet.model.encoder import Encoder, EncoderConfig, freeze
from clnet.model.plan import Plan
from clnet.model.survivors import POSITIONS, decode_survivors, encode_survivors, float16_exact

__all__ = [
    "DecoderInfo",
    "decode_decoder",
    "decode_encoder",
    "encode_decoder",
    "encode_encoder",
    "pack_artefact",
    "unpack_artefact",
]

PLAIN, SPARSE = 1, 3
"""Formats: tensors by name; one list of survivors for all of them, with their values coded."""

BITMAP, VALUES = ".survivors", ".values"
SPARSE_BELOW = 0.9
LARGEST = 1 << 28
"""Parameters that a decoder may have: sparse files say nothing of what they unfold to."""


@dataclass(frozen=True, slots=True)
class DecoderInfo:
    """What a decoder's weights do not say.

    Attributes:
        config: shape and channels.
        encoder_sha256: the encoder it was trained on.
        encoder_config: that encoder's shape.
        bpr_sha256: the body-part model its ranges were measured with, or None.
        learned: leaf anatomies that labels supervised exactly.
        unions: composites that labels supervised only as a whole, as sorted members.
        ranges: anatomy to where along the body its labelled slices were; without one, no gating.
        temperature: calibrates the probabilities before decoders are compared.
    """

    config: DecoderConfig
    encoder_sha256: str
    encoder_config: EncoderConfig
    bpr_sha256: str | None = None
    learned: tuple[str, ...] = ()
    unions: tuple[tuple[str, ...], ...] = ()
    ranges: dict[str, Range] = field(default_factory=dict)
    temperature: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """The information as JSON-able values."""
        return {
            "config": self.config.to_dict(),
            "encoder_sha256": self.encoder_sha256,
            "encoder_config": self.encoder_config.to_dict(),
            "bpr_sha256": self.bpr_sha256,
            "learned": list(self.learned),
            "unions": [list(u) for u in self.unions],
            "ranges": {name: r.to_dict() for name, r in sorted(self.ranges.items())},
            "temperature": self.temperature,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DecoderInfo:
        """Inverse of :meth:`to_dict`."""
        return cls(
            config=DecoderConfig.from_dict(values["config"]),
            encoder_sha256=values["encoder_sha256"],
            encoder_config=EncoderConfig.from_dict(values["encoder_config"]),
            bpr_sha256=values["bpr_sha256"],
            learned=tuple(values["learned"]),
            unions=tuple(tuple(u) for u in values["unions"]),
            ranges={name: Range.from_dict(r) for name, r in values["ranges"].items()},
            temperature=values["temperature"],
        )


def pack_artefact(
    kind: str, tensors: dict[str, Tensor], info: dict[str, Any], file_format: int = PLAIN
) -> bytes:
    """Tensors and JSON-able `info` as one safetensors file."""
    header = json.dumps({"format": file_format, "kind": kind, "info": info}, sort_keys=True)
    return save_tensors({k: v.contiguous().cpu() for k, v in tensors.items()}, {"clnet": header})


def unpack_artefact(kind: str, data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inverse of :func:`pack_artefact`.

    Raises:
        IntegrityError: `data` is not such a file.
        Incompatible: it holds another kind, or a newer format.
    """
    try:
        tensors = load_tensors(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["clnet"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"not a clnet artefact: {error}") from error
    if header["format"] > SPARSE or header["kind"] != kind:
        raise Incompatible(
            f"artefact of kind {header['kind']}, format {header['format']}: "
            f"expected {kind}, format {SPARSE} at most"
        )
    return tensors, header["info"]


def _dense(packed: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a format 1 file, pruned or not."""
    state: dict[str, Tensor] = {}
    for name, template in like.items():
        if name in packed:
            state[name] = packed[name]
            continue
        if name + BITMAP not in packed:
            raise IntegrityError(f"artefact: weight {name} is missing")
        bits = np.unpackbits(packed[name + BITMAP].numpy(), count=template.numel())
        value = torch.zeros_like(template).flatten()
        value[torch.from_numpy(bits.astype(bool))] = packed[name + VALUES]
        state[name] = value.view_as(template)
    return state


def encode_encoder(encoder: Encoder, plan: Plan) -> bytes:
    """An encoder and its plan as bytes."""
    info = {"config": encoder.config.to_dict(), "plan": plan.to_dict()}
    return pack_artefact("encoder", encoder.state_dict(), info)


def decode_encoder(data: bytes) -> tuple[Encoder, Plan]:
    """A frozen encoder and its plan from bytes."""
    tensors, info = unpack_artefact("encoder", data)
    encoder = EncoderConfig.from_dict(info["config"]).make()
    _load(encoder, tensors)
    return freeze(encoder), Plan.from_dict(info["plan"])


def encode_decoder(decoder: Decoder, info: DecoderInfo) -> bytes:
    """A decoder as bytes; pruned weights take little, float16 numbers half.

    With 95 % of the weights cut these are at most 6.5 % of the dense float32 bytes, or 4 % where
    all weights are float16 numbers, from about 28,000 parameters on; smaller decoders take more,
    as what describes them (a kilobyte, and more with many anatomies) does not shrink.
    """
    state = {name: value.detach().cpu() for name, value in decoder.state_dict().items()}
    survivors = sum(int((value != 0).sum()) for value in state.values())
    total = sum(value.numel() for value in state.values())
    if survivors < SPARSE_BELOW * total or all(map(float16_exact, state.values())):
        return pack_artefact("decoder", encode_survivors(state), info.to_dict(), SPARSE)
    return pack_artefact("decoder", state, info.to_dict())


def decode_decoder(data: bytes) -> tuple[Decoder, DecoderInfo]:
    """A decoder in evaluation mode from bytes, with the weights that were encoded.

    Raises:
        IntegrityError: `data` is damaged.
        Incompatible: it is no decoder, or a newer or a larger one than this version reads.
    """
    packed, values = unpack_artefact("decoder", data)
    info = DecoderInfo.from_dict(values)
    with torch.device("meta"):
        shape = make_decoder(info.config, info.encoder_config).state_dict()
    if sum(value.numel() for value in shape.values()) > LARGEST:
        raise Incompatible(f"decoder {info.config.group}: more than {LARGEST} parameters")
    decoder = make_decoder(info.config, info.encoder_config)
    unfold = decode_survivors if POSITIONS in packed else _dense
    _load(decoder, unfold(packed, decoder.state_dict()))
    decoder.requires_grad_(False)
    return decoder.eval(), info


def _load(module: torch.nn.Module, state: dict[str, Tensor]) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise IntegrityError(
            f"artefact: weights do not fit their configuration: {error}"
        ) from error
