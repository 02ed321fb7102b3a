"""A probe: what a decoder version answers to a phantom, kept so that anyone can ask again.

The whole answer is kept as a hash, which the same numerics class reproduces to the bit, and a
coarse sub-grid of it as exact numbers, for other machines to compare with within a tolerance.
Batch of one patch, as in inference; no patient's image goes into it.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clnet.errors import Incompatible, IntegrityError
from clnet.model.artefact import DecoderInfo, pack_artefact, unpack_artefact
from clnet.model.decoder import Decoder
from clnet.model.encoder import Encoder
from clnet.model.numerics import Precision, convolving, numerics_class, threads
from clnet.model.plan import Plan
from clnet.model.probe_input import PhantomPatch, choose_patch

__all__ = [
    "SEED",
    "Answer",
    "Probe",
    "ProbedNetworks",
    "compare",
    "decode_probe",
    "encode_probe",
    "make_probe",
]

SEED = 271828
KIND = "probe"
MAX_BYTES = 2**20
STORED_BYTES = 48 * 1024
"""Of the logits that are kept as numbers, at most."""

TOLERANCE = {"float32": 0.005, "bfloat16": 0.03}
"""Largest root-mean-square difference across numerics classes, in units of the logits' spread.

Between float32 and bfloat16 the starter's decoders differ by 0.004 to 0.009. Float32
convolutions may run in TF32 on GPUs, which keeps three bits more than bfloat16.
"""
HU_ROUNDING = 2
"""HU that a phantom may differ by where other libraries round otherwise."""

LOW_BYTES = 2**19
LOW = 4
"""HU are kept modulo this, 2 bits each: enough to undo roundings of 1 HU in a rendered phantom, in
an eighth of the bytes of the patch itself."""
SHIFTS = np.array([0, 2, 4, 6], np.uint8)

Outcome = Literal["identical", "within tolerance", "changed"]


@dataclass(frozen=True)
class ProbedNetworks:
    """An encoder, and decoders by the hash of their artefact: those probed, and their supporters.

    Attributes:
        encoder_sha256: hash of the encoder's artefact.
    """

    encoder: Encoder
    plan: Plan
    encoder_sha256: str
    decoders: Mapping[str, tuple[Decoder, DecoderInfo]]

    @torch.inference_mode()
    def logits(self, sha256: str, hu: NDArray[np.int16], precision: Precision) -> Tensor:
        """Float32 logits ``(K + 1, Z, Y, X)`` of one decoder for a patch in HU."""
        device = self.encoder.device
        image = torch.from_numpy(self.plan.normalise(hu)).to(device)[None, None]
        with convolving(precision, device):
            features = self.encoder(image)
            return self._outputs(sha256, features)[0][0].float().cpu()

    def _outputs(self, sha256: str, features: Sequence[Tensor]) -> list[Tensor]:
        if sha256 not in self.decoders:
            raise Incompatible(f"probe: decoder {sha256[:12]}, or a supporter of it, is not here")
        decoder, info = self.decoders[sha256]
        support = [self._outputs(s.sha256, features) for s in info.config.supporters]
        outputs: list[Tensor] = decoder(features, support)
        return outputs


@dataclass(frozen=True, eq=False)
class Probe:
    """What a decoder answered, where, and to what.

    Attributes:
        decoder_sha256, encoder_sha256: artefacts that it is the answer of.
        patch: the input.
        input_sha256: hash of the rendered patch.
        logits_sha256: hash of all logits.
        numerics: class that they were computed in.
        stride: of the sub-grid that is kept, ``(z, y, x)``.
        hu: the input on the sub-grid, int16.
        logits: float32 ``(K + 1, z, y, x)`` on the sub-grid.
        low: the whole input modulo 4, four voxels a byte in C order, uint8; None in probes that
            were made without.
    """

    decoder_sha256: str
    encoder_sha256: str
    patch: PhantomPatch
    input_sha256: str
    logits_sha256: str
    numerics: dict[str, str]
    stride: tuple[int, int, int]
    hu: Tensor
    logits: Tensor
    low: Tensor | None = None

    def input(self) -> NDArray[np.int16]:
        """The patch that was asked about ``(Z, Y, X)``, rendered again.

        Where it is rounded otherwise here and the low bits do not tell how it was, as it is here.
        """
        hu = self.patch.render()
        if self.low is None or self.low.numel() != math.ceil(hu.size / 4):
            return hu
        kept = _unpacked(self.low.numpy(), hu.size).reshape(hu.shape)
        restored = (hu + (kept - hu + LOW // 2) % LOW - LOW // 2).astype(np.int16)
        return restored if _digest(restored) == self.input_sha256 else hu


@dataclass(frozen=True, slots=True)
class Answer:
    """What asking again gave.

    Attributes:
        outcome: whether the logits are what they were.
        same_class: whether the numerics class is the probe's, so that bits can be compared.
        numerics: class that it was asked in.
        difference: root mean square over the sub-grid, in units of the logits' spread.
        detail: in words.
    """

    outcome: Outcome
    same_class: bool
    numerics: dict[str, str]
    difference: float
    detail: str


def make_probe(networks: ProbedNetworks, sha256: str, seed: int = SEED) -> Probe:
    """Ask a decoder for the first time, in the precision that inference takes here.

    Args:
        sha256: hash of the decoder's artefact.
        seed: of the phantom.
    """
    info = networks.decoders[sha256][1]
    patch = choose_patch(info, networks.encoder.config, networks.plan, seed)
    hu = patch.render()
    logits = networks.logits(sha256, hu, "auto")
    stride = _stride(tuple(logits.shape))
    return Probe(
        decoder_sha256=sha256,
        encoder_sha256=networks.encoder_sha256,
        patch=patch,
        input_sha256=_digest(hu),
        logits_sha256=_digest(logits.numpy()),
        numerics=numerics_class(networks.encoder.device),
        stride=stride,
        hu=torch.from_numpy(_coarse(hu, stride)),
        logits=torch.from_numpy(_coarse(logits.numpy(), stride)),
        low=torch.from_numpy(_packed(hu)) if hu.size <= 4 * LOW_BYTES else None,
    )


def compare(probe: Probe, networks: ProbedNetworks) -> Answer:
    """Ask again, in the probe's precision and with its number of threads where there are as many.

    Raises:
        Incompatible: the probe is of another encoder, or a network is missing.
        IntegrityError: the probe does not fit the decoder that it names.
    """
    if probe.encoder_sha256 != networks.encoder_sha256:
        raise Incompatible(f"probe of decoder {probe.decoder_sha256[:12]}: of another encoder")
    precision: Precision = "bfloat16" if probe.numerics.get("dtype") == "bfloat16" else "float32"
    hu = probe.input()
    with threads(_threads(probe.numerics)):
        logits = networks.logits(probe.decoder_sha256, hu, precision)
        here = numerics_class(networks.encoder.device, precision)
    coarse = _coarse(logits.numpy(), probe.stride)
    if coarse.shape != tuple(probe.logits.shape):
        raise IntegrityError(
            f"probe of decoder {probe.decoder_sha256[:12]}: holds logits "
            f"{tuple(probe.logits.shape)}, the decoder gives {coarse.shape}"
        )
    rounding = int(np.abs(_coarse(hu, probe.stride).astype(int) - probe.hu.numpy()).max())
    difference = _difference(probe.logits.numpy(), coarse)
    same_input = _digest(hu) == probe.input_sha256
    same_class = here == probe.numerics and same_input
    outcome, detail = _judge(probe, logits, same_class, same_input, rounding, difference, here)
    return Answer(outcome, same_class, here, difference, detail)


def _judge(
    probe: Probe,
    logits: Tensor,
    same_class: bool,
    same_input: bool,
    rounding: int,
    difference: float,
    here: Mapping[str, str],
) -> tuple[Outcome, str]:
    if _digest(logits.numpy()) == probe.logits_sha256:
        return "identical", "every logit, to the bit"
    if same_class:
        return "changed", f"logits differ in the same numerics class (by {difference:.2g})"
    if rounding > HU_ROUNDING:
        return "changed", f"the phantom is rendered otherwise here, by up to {rounding} HU"
    other = [
        f"{key} {probe.numerics.get(key)!r} then, {here.get(key)!r} here"
        for key in {**probe.numerics, **here}  # either class may know what the other does not
        if here.get(key) != probe.numerics.get(key)
    ]
    if not same_input:
        other.append("the phantom rounds otherwise")
    limit = TOLERANCE.get(probe.numerics.get("dtype", ""), TOLERANCE["float32"])
    told = f"stored logits differ by {difference:.2g} (at most {limit:g}); " + ", ".join(other)
    return ("within tolerance" if difference <= limit else "changed"), told


def encode_probe(probe: Probe) -> bytes:
    """A probe as bytes."""
    info = {
        "decoder_sha256": probe.decoder_sha256,
        "encoder_sha256": probe.encoder_sha256,
        "patch": probe.patch.to_dict(),
        "input_sha256": probe.input_sha256,
        "logits_sha256": probe.logits_sha256,
        "numerics": probe.numerics,
        "stride": list(probe.stride),
    }
    tensors = {"hu": probe.hu, "logits": probe.logits}
    if probe.low is not None:
        tensors["low"] = probe.low
    return pack_artefact(KIND, tensors, info)


def decode_probe(data: bytes) -> Probe:
    """Inverse of :func:`encode_probe`.

    Raises:
        IntegrityError: not a probe, or one of absurd size.
    """
    if len(data) > MAX_BYTES:
        raise IntegrityError(f"probe: {len(data)} bytes, more than {MAX_BYTES}")
    tensors, info = unpack_artefact(KIND, data)
    try:
        z, y, x = (int(step) for step in info["stride"])
        probe = Probe(
            decoder_sha256=str(info["decoder_sha256"]),
            encoder_sha256=str(info["encoder_sha256"]),
            patch=PhantomPatch.from_dict(info["patch"]),
            input_sha256=str(info["input_sha256"]),
            logits_sha256=str(info["logits_sha256"]),
            numerics={str(k): str(v) for k, v in info["numerics"].items()},
            stride=(z, y, x),
            hu=tensors["hu"],
            logits=tensors["logits"],
            low=tensors.get("low"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"probe: not complete: {error!r}") from error
    if min(probe.stride) < 1 or probe.logits.dtype != torch.float32:
        raise IntegrityError("probe: not a sub-grid of float32 logits")
    if probe.hu.dtype != torch.int16 or probe.hu.shape != probe.logits.shape[1:]:
        raise IntegrityError("probe: input and logits are on different grids")
    if probe.low is not None and probe.low.dtype != torch.uint8:
        raise IntegrityError("probe: low bits of the input are no bytes")
    return probe


def _threads(numerics: Mapping[str, Any]) -> int:
    """As many as the probe had, if this machine has them."""
    wanted = str(numerics.get("threads", ""))
    if wanted.isdecimal() and 1 <= int(wanted) <= (os.cpu_count() or 1):
        return int(wanted)
    return torch.get_num_threads()


def _stride(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The finest sub-grid of ``(K + 1, Z, Y, X)`` logits that is small enough to keep."""
    z, y, x = shape[1:]
    step = 1
    while step < max(z, y, x):
        kept = math.prod(math.ceil(side / min(step, side)) for side in (z, y, x))
        if 4 * shape[0] * kept <= STORED_BYTES:
            break
        step += 1
    return min(step, z), min(step, y), min(step, x)


def _coarse(values: NDArray[Any], stride: tuple[int, int, int]) -> NDArray[Any]:
    z, y, x = stride
    return np.ascontiguousarray(values[..., z // 2 :: z, y // 2 :: y, x // 2 :: x])


def _difference(was: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """Root mean square, over that of the old values around the mean of their channel."""
    spread = was - was.mean(axis=(1, 2, 3), keepdims=True)
    scale = float(np.sqrt(np.square(spread, dtype=np.float64).mean()))
    apart = float(np.sqrt(np.square(now - was, dtype=np.float64).mean()))
    if not math.isfinite(apart):
        return math.inf
    return apart / max(scale, 1e-6)


def _packed(hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """`hu` modulo 4 in C order, four voxels a byte."""
    low = (hu.ravel() % LOW).astype(np.uint8)
    four = np.pad(low, (0, -low.size % 4)).reshape(-1, 4)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(four << SHIFTS, axis=1)
    return packed


def _unpacked(packed: NDArray[np.uint8], size: int) -> NDArray[np.int16]:
    """The first `size` voxels that :func:`_packed` packed."""
    four = packed[:, None] >> SHIFTS & (LOW - 1)
    return four.ravel()[:size].astype(np.int16)


def _digest(values: NDArray[Any]) -> str:
    array = np.ascontiguousarray(values)
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + array.data).hexdigest()
