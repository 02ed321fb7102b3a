"""Fixtures for the tests of the model core."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from tiny_networks import boxes, make_encoder

from clnet.anatomy import Patch
from clnet.model.encoder import Encoder


@pytest.fixture
def encoder() -> Encoder:
    """A frozen tiny encoder."""
    return make_encoder()


@pytest.fixture
def stream() -> Callable[[int], Sequence[Patch]]:
    """A stream of two small patches a batch."""
    return boxes
