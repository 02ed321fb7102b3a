"""How a service covers scans by windows is its operator's choice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import torch
from tiny_service import RELEASE, Address, make_scan, oblique_affine

from clnet.model.inference import SlidingWindow
from clnet.serve import Placement
from clnet.serve.outcome import Outcome
from clnet.serve.replicas import EncoderReplica


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_replica_mirrors_and_overlaps_as_it_was_told(source: Address) -> None:
    window = SlidingWindow(mirror=(2,), overlap=0.5, precision="float32")
    replica = EncoderReplica(source, RELEASE, Placement(), 1, {}, None, window)

    async def outcome() -> Outcome:
        async for event in replica.segment(make_scan(), oblique_affine(), None):
            if isinstance(event, Outcome):
                return event
        raise AssertionError("no outcome")

    said = asyncio.run(outcome()).statistics["inference"]
    assert (said["mirror"], said["overlap"], said["dtype"]) == ("x", 0.5, "float32")
    assert said["passes"] == 1
    assert 0 < said["memory_bytes"] <= said["budget_bytes"]
