"""The benchmark of inference: tiny cases, measured in processes of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
MIB = 1 << 20


@pytest.fixture(scope="module")
def inference() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    import inference

    yield inference
    sys.path.remove(str(FOLDER))


@pytest.mark.slow
def test_systems_do_the_same_work_and_are_measured(inference: ModuleType) -> None:
    bench = inference.Bench(4 << 30, 600, Console(quiet=True))
    ours = inference.Case("clnet", "pocket", 3, 36, 20, 16, 0.5, budget=80 * MIB)
    found = {name: bench.run(replace(ours, system=name)) for name in ("clnet", "monai")}
    for outcome in found.values():
        assert not outcome.failure
        assert 0 < outcome.memory < 500 * MIB
        assert outcome.seconds > 0
    clnet, monai = (found[name].facts for name in ("clnet", "monai"))
    assert clnet["voxels"] == pytest.approx(monai["voxels"], rel=0.05)
    assert clnet["planned"] <= 80 * MIB
    assert clnet["disk"] > 36 * 36 * 20 * 2


@pytest.mark.slow
def test_what_takes_too_much_is_ended_and_recorded(inference: ModuleType) -> None:
    bench = inference.Bench(60 << 10, 600, Console(quiet=True))
    case = inference.Case("clnet", "pocket", 3, 36, 20, 16, 0.5)
    assert bench.run(case).failure == "does not fit: more than 0.0 GiB"
    peer = replace(case, system="monai", classes=235)
    assert bench.run(peer).failure.startswith("does not fit: logits of")


def test_a_network_shared_by_five_is_held_against_its_parts(inference: ModuleType) -> None:
    split = inference.Outcome(1, 1.0, "", {"encode": 0.3, "decode": 0.1})
    one, five = inference.Outcome(1, 4.0), inference.Outcome(1, 8.0)
    assert inference._over_ideal(split, one, five) == pytest.approx(1.0)
    assert inference._over_ideal(split, one, inference.Outcome(failure="x")) is None


def test_the_spread_of_a_curve_needs_all_its_points(inference: ModuleType) -> None:
    curve = [inference.Outcome(memory) for memory in (90, 100, 110)]
    assert inference._spread(curve) == pytest.approx(0.1)
    assert inference._spread([*curve, inference.Outcome(failure="x")]) is None
