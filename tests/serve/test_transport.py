"""What travels between processes comes out as it went in."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from clnet.serve.transport import pack_labels, pack_tensors, unpack_labels, unpack_tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_tensors_keep_bits_and_layout(dtype: torch.dtype, layout: torch.memory_format) -> None:
    tensor = torch.randn(1, 4, 5, 6, 7).to(dtype).to(memory_format=layout)
    (back,) = unpack_tensors(pickle.loads(pickle.dumps(pack_tensors([tensor]))))
    assert back.dtype == dtype
    assert back.stride() == tensor.stride()
    assert torch.equal(back, tensor)


def test_tensors_in_shared_memory_may_be_written_to_after() -> None:
    (packed,) = pack_tensors([torch.zeros(3)])
    packed.array.flags.writeable = False  # as Ray hands it out
    (back,) = unpack_tensors([packed])
    back.add_(1)
    assert packed.array.sum() == 0


def test_label_maps_come_back_small_and_writable() -> None:
    labels = np.zeros((40, 50, 60), np.uint16)
    labels[10:20, 10:20] = 300
    packed = pack_labels(labels[::-1])
    assert len(packed.data) < labels.nbytes / 50
    back = unpack_labels(packed)
    assert np.array_equal(back, labels[::-1])
    assert back.dtype == np.uint16
    back[0] = 1
