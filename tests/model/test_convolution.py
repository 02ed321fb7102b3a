"""Small convolutions give what torch gives, without its slow path."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import make_decoder, make_encoder
from torch import Tensor

from clnet.model.convolution import SMALL, SmallConvolutions
from clnet.model.numerics import convolving, numerics_class

CPU = torch.device("cpu")
SLOW = "aten::slow_conv3d_forward"

pytestmark = pytest.mark.skipif(
    not SmallConvolutions.serves(CPU, torch.float32), reason="this torch has no oneDNN"
)


def operations(run: Callable[[], object]) -> set[str]:
    with torch.profiler.profile() as profile:
        run()
    return {event.key for event in profile.key_averages()}


def close(mine: Tensor | None, theirs: Tensor | None) -> bool:
    assert mine is not None
    assert theirs is not None
    return torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()) + 1e-7)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_convolution_has_torchs_values_and_gradients(data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2]))
    ins, outs = (groups * draw(st.integers(1, 5)) for _ in range(2))
    kernel, stride, dilation, padding = (
        tuple(draw(st.tuples(*(st.integers(low, high),) * 3)))
        for low, high in ((1, 4), (1, 2), (1, 2), (0, 2))
    )
    sizes = tuple(
        draw(st.integers(d * (k - 1) + 1, 9)) for k, d in zip(kernel, dilation, strict=True)
    )
    batch = draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    image = torch.randn((batch, ins, *sizes), generator=generator)
    if draw(st.booleans()):  # as a mirrored or turned window lies in memory
        image = image.transpose(2, 4).contiguous().transpose(2, 4)
    weight = torch.randn((outs, ins // groups, *kernel), generator=generator)
    bias = torch.randn(outs, generator=generator) if draw(st.booleans()) else None

    def values(learns: bool) -> list[Tensor | None]:
        x, w = (t.clone().requires_grad_(learns) for t in (image, weight))
        y = torch.nn.functional.conv3d(x, w, bias, stride, padding, dilation, groups)
        if not learns:
            return [y]
        y.square().sum().backward()
        return [y.detach(), x.grad, w.grad]

    for learns in (False, True):
        plain = values(learns)
        with SmallConvolutions():
            mine = values(learns)
        for one, other in zip(mine, plain, strict=True):
            assert close(one, other)


@pytest.mark.parametrize("learns", [False, True])
def test_a_small_network_leaves_the_slow_path(learns: bool) -> None:
    encoder, decoder = make_encoder(), make_decoder("liver")
    image = torch.zeros((1, 1, 8, 8, 8))

    def run() -> None:
        with torch.set_grad_enabled(learns):
            logits = decoder(encoder(image))
        if learns:
            sum(scale.sum() for scale in logits).backward()

    def run_convolving() -> None:
        with convolving("float32", CPU):
            run()

    # its heads of one voxel stay with torch, whose path is the faster one there
    for head in decoder.heads:
        head.forward = lambda x: x
    assert SLOW in operations(run)
    found = operations(run_convolving)
    assert SLOW not in found
    assert "aten::mkldnn_convolution" in found


def test_what_torch_gives_to_onednn_itself_keeps_its_bits() -> None:
    edge = int((SMALL / 8) ** 0.5) + 1
    image, weight = torch.randn(1, 8, edge, edge, 3), torch.randn(8, 8, 3, 3, 3)
    plain = torch.conv3d(image, weight, None, padding=1)
    with SmallConvolutions():
        assert torch.equal(torch.conv3d(image, weight, None, padding=1), plain)


def test_mixed_precision_around_it_stays_mixed() -> None:
    image, weight = torch.randn(1, 4, 4, 4, 4), torch.randn(4, 4, 3, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        plain = torch.conv3d(image, weight, padding=1)
        with SmallConvolutions():
            assert torch.conv3d(image, weight, padding=1).dtype is plain.dtype is torch.bfloat16


def test_the_largest_input_of_the_slow_path_is_known() -> None:
    """A newer torch with another rule would make the class slow or superfluous: look again then."""
    weight = torch.randn(2, 1, 3, 3, 3)
    at, above = (torch.randn(1, 1, 160, planes, 3) for planes in (SMALL // 160, SMALL // 160 + 1))
    assert SLOW in operations(lambda: torch.conv3d(at, weight, padding=1))
    assert SLOW not in operations(lambda: torch.conv3d(above, weight, padding=1))


def test_bits_of_other_kernels_are_of_another_class(monkeypatch: pytest.MonkeyPatch) -> None:
    assert numerics_class(CPU, "float32")["convolutions"] == "onednn"
    assert "convolutions" not in numerics_class(CPU, "bfloat16")
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert "convolutions" not in numerics_class(CPU, "float32")
    assert not isinstance(convolving("float32", CPU), SmallConvolutions)
