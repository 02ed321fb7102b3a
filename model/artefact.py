"""Encoders and decoders as bytes: safetensors with a JSON header, the same bytes every time.

Pruned weights are stored as a bitmap of survivors and the survivors' values; what was stored
is what comes back, to the bit. Nothing is unpickled.
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
from clnet.model.decoder import Decoder, DecoderConfig
from clnet.model.encoder import Encoder, EncoderConfig, freeze
from clnet.model.plan import Plan

__all__ = [
    "DecoderInfo",
    "decode_decoder",
    "decode_encoder",
    "encode_decoder",
    "encode_encoder",
    "pack_artefact",
    "unpack_artefact",
]

FORMAT = 1
BITMAP, VALUES = ".survivors", ".values"
SPARSE_BELOW = 0.9  # a bitmap and values are smaller than dense float32 below 31/32 survivors


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


def pack_artefact(kind: str, tensors: dict[str, Tensor], info: dict[str, Any]) -> bytes:
    """Tensors and JSON-able `info` as one safetensors file."""
    header = json.dumps({"format": FORMAT, "kind": kind, "info": info}, sort_keys=True)
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
    if header["format"] > FORMAT or header["kind"] != kind:
        raise Incompatible(
            f"artefact of kind {header['kind']}, format {header['format']}: "
            f"expected {kind}, format {FORMAT} at most"
        )
    return tensors, header["info"]


def _sparse(state: dict[str, Tensor]) -> dict[str, Tensor]:
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        survivors = value != 0
        if value.is_floating_point() and survivors.float().mean() < SPARSE_BELOW:
            packed[name + BITMAP] = torch.from_numpy(np.packbits(survivors.numpy().ravel()))
            packed[name + VALUES] = value[survivors]
        else:
            packed[name] = value
    return packed


def _dense(packed: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
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
    encoder = Encoder(EncoderConfig.from_dict(info["config"]))
    _load(encoder, tensors)
    return freeze(encoder), Plan.from_dict(info["plan"])


def encode_decoder(decoder: Decoder, info: DecoderInfo) -> bytes:
    """A decoder as bytes; pruned weights take a bit each."""
    return pack_artefact("decoder", _sparse(decoder.state_dict()), info.to_dict())


def decode_decoder(data: bytes) -> tuple[Decoder, DecoderInfo]:
    """A decoder in evaluation mode from bytes, with the weights that were encoded."""
    packed, values = unpack_artefact("decoder", data)
    info = DecoderInfo.from_dict(values)
    decoder = Decoder(info.config, info.encoder_config)
    _load(decoder, _dense(packed, decoder.state_dict()))
    decoder.requires_grad_(False)
    return decoder.eval(), info


def _load(module: torch.nn.Module, state: dict[str, Tensor]) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise IntegrityError(
            f"artefact: weights do not fit their configuration: {error}"
        ) from error
