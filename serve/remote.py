"""Work handed to other deployments from inside a segmentation, which knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from torch import Tensor

from clnet.model.inference import LoadedDecoder, LocalRunner, Pending
from clnet.serve.transport import PackedTensor, pack_tensors, unpack_tensors

__all__ = ["RemoteRunner"]


@dataclass(frozen=True, slots=True)
class _Response:
    """Outputs on their way from another deployment."""

    response: Any
    device: str

    def result(self) -> Sequence[Tensor]:
        """Wait for the outputs, finest first."""
        packed: list[PackedTensor] = self.response.result()
        return unpack_tensors(packed, self.device)


class RemoteRunner:
    """Computes decoders here, or in their own deployments where they have one.

    A window's features go to Ray's object store once, however many deployments read them. How
    many windows are pending at once is bounded by the sliding window that calls this.

    Args:
        elsewhere: decoder ref to the handle of its deployment.
        local: computes all others.
    """

    def __init__(self, elsewhere: Mapping[str, Any], local: LocalRunner) -> None:
        self._elsewhere = elsewhere
        self._local = local
        self._shared: tuple[Sequence[Tensor], Any] | None = None

    def __call__(
        self,
        decoder: LoadedDecoder,
        features: Sequence[Tensor],
        support: Sequence[Sequence[Tensor]],
    ) -> Sequence[Tensor] | Pending:
        """What the trunk of `decoder` gives, or a promise of it."""
        handle = self._elsewhere.get(decoder.ref)
        if handle is None:
            return self._local(decoder, features, support)
        if self._shared is None or self._shared[0] is not features:
            self._shared = (features, ray.put(pack_tensors(features)))
        response = handle.outputs.remote(self._shared[1], [pack_tensors(s) for s in support])
        return _Response(response, str(features[0].device))
