"""Where along the body a decoder's anatomies live, measured on its own training cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy import vocabulary
from clnet.data_catalog import PlanStore
from clnet.data_catalog.plan_grid import slice_positions
from clnet.model.body_part import BodyPartModel
from clnet.model.body_part_curve import BodyPartCurve, Range, ranges_from_labels
from clnet.model.decoder import DecoderConfig
from clnet.model.nnunet.inference import scan_curve

__all__ = ["body_part_curves", "joined", "labelled_slices", "measure_ranges"]

Cases = Sequence[tuple[PlanStore, str]]


def body_part_curves(cases: Cases, model: BodyPartModel) -> list[BodyPartCurve]:
    """The curve of every case on its plan's slices, measured as inference measures a scan's.

    From the stored HU: a plan's own intensities may clip what the body-part model looks at.
    """
    return [_case_curve(store, case_id, model) for store, case_id in cases]


def _case_curve(store: PlanStore, case_id: str, model: BodyPartModel) -> BodyPartCurve:
    """The curve of the whole scan, on the slices that the plan keeps, in their order."""
    planned, case = store.open(case_id), store.dataset.case(case_id)
    curve = scan_curve(model, case.ct(), case.spacing)
    own = slice_positions(case.shape[0], len(curve.scores), case.spacing[0])
    z_mm = planned.z_origin + planned.z_step * np.arange(planned.image.shape[planned.z_axis])
    nearest = np.abs(z_mm[:, None] - own).argmin(axis=1)
    return replace(
        curve,
        scores=np.interp(z_mm, own, curve.scores),
        spacing_mm=abs(planned.z_step),
        patient=curve.patient[nearest],
    )


def measure_ranges(
    config: DecoderConfig,
    unions: Iterable[tuple[str, ...]],
    cases: Cases,
    curves: Iterable[BodyPartCurve],
) -> dict[str, Range]:
    """Range per channel and per union, from the slices that hold a label of it.

    Args:
        config: of the decoder.
        unions: leaves that labels taught only together, which it reports as their composite.
        cases: it learned from.
        curves: of the cases, in their order.
    """
    named = {vocabulary().composite_of(union): union for union in unions}
    named |= {channel.name: channel.members for channel in config.channels}
    labelled = (labelled_slices(named, config.layer, store, case_id) for store, case_id in cases)
    return ranges_from_labels(zip(curves, labelled, strict=True), config.layer)


def labelled_slices(
    named: Mapping[str, tuple[str, ...]], layer: str, store: PlanStore, case_id: str
) -> dict[str, NDArray[np.bool_]]:
    """Name to the slices of a case that hold a label of its members, bool ``(Z,)``.

    Labels with an extent say nothing of where an anatomy ends, so they do not count; nor do
    labels that reach beyond the members.

    Args:
        named: name to leaf anatomies.
        layer: of the labels.
        store: of the case.
        case_id: which.
    """
    case = store.open(case_id)
    found: dict[str, NDArray[np.bool_]] = {}
    labels = np.asarray(case.labels.get(layer, 0))
    for name, members in named.items():
        values = [
            entry.value
            for entry in case.contract.for_layer(layer)
            if entry.within is None and set(entry.members) <= set(members)
        ]
        if values:
            held = np.isin(labels, values)
            others = tuple(axis for axis in range(3) if axis != case.z_axis)
            found[name] = np.asarray(held.any(axis=others), dtype=np.bool_)
    return found


def joined(old: Mapping[str, Range], new: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges that hold both; an anatomy that the old ones do not gate stays without."""
    return {
        name: Range(
            min(here.p005, there.p005),
            max(here.p995, there.p995),
            min(here.low, there.low),
            max(here.high, there.high),
        )
        for name, here in old.items()
        for there in [new.get(name, here)]
    }
