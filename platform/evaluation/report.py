"""An evaluation as files: a table for spreadsheets, figures for programs, pictures for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from clnet.anatomy.vocabulary import REGIONS
from clnet.platform.evaluation.evaluate import Evaluation
from clnet.platform.evaluation.summary import CONFIDENCE, OTHER, RESAMPLES, Summary
from clnet.storage import atomic_write

__all__ = ["write_report"]

COLUMNS = (
    "case",
    "anatomy",
    "group",
    "region",
    "layer",
    "status",
    "finding",
    "dsc",
    "nsd",
    "hd95_mm",
    "reference_ml",
    "predicted_ml",
    "volume_error_ml",
    "volume_error_percent",
    "reason",
)
PANELS = (("dsc", "DSC"), ("nsd", "NSD"), ("hd95_mm", "HD95 (mm)"))
ROW_INCHES, HEAD_INCHES, WIDTH_INCHES, DPI = 0.24, 1.1, 12.0, 110


def write_report(found: Evaluation, folder: Path) -> list[Path]:
    """Write all files of an evaluation; gives their paths.

    Pictures that an earlier evaluation left of regions that this one lacks are removed; other
    files stay.
    """
    files = {"metrics.csv": _table(found), "summary.json": _summary(found)}
    names: dict[str, str] = {region: f"boxplots-{slug}.png" for slug, region in REGIONS.items()}
    names[OTHER] = f"boxplots-{OTHER}.png"
    for region in found.regions:
        if picture := _box_plots(found, region):
            files[names[region]] = picture
    for name, data in files.items():
        atomic_write(folder / name, data)
    for stale in set(names.values()) - files.keys():
        (folder / stale).unlink(missing_ok=True)
    return [folder / name for name in files]


def _table(found: Evaluation) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in found.rows:
        values = {name: getattr(row, name) for name in COLUMNS if hasattr(row, name)}
        if row.anatomy:
            values |= found.places[row.anatomy].model_dump()
        status = "evaluated" if row.evaluated else "not evaluated"
        writer.writerow(
            {
                key: round(value, 5) if isinstance(value, float) else value
                for key, value in (values | {"status": status}).items()
            }
        )
    return text.getvalue().encode()


def _summary(found: Evaluation) -> bytes:
    def plain(summaries: Mapping[str, Summary]) -> dict[str, Any]:
        return {name: summary.model_dump() for name, summary in summaries.items()}

    content = {
        "reference": found.reference,
        "prediction": found.prediction,
        "tolerance_mm": found.tolerance_mm,
        "interval": {
            "method": "bootstrap over cases, BCa",
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
        },
        "cases_not_evaluated": found.problems,
        "predictions_without_reference": list(found.unmatched),
        "overall": found.overall.model_dump(),
        "regions": plain(found.regions),
        "groups": plain(found.groups),
        "anatomies": {
            name: found.places[name].model_dump() | summary.model_dump()
            for name, summary in found.anatomies.items()
        },
    }
    return json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"


@style.context("default")  # whatever the caller, or a library of theirs, has set
def _box_plots(found: Evaluation, region: str) -> bytes | None:
    """Box plots of one region, an anatomy a line; None if nothing of it was evaluated."""
    names = [
        name
        for name, summary in found.anatomies.items()
        if found.places[name].region == region and summary.figures["dsc"].n
    ]
    if not names:
        return None
    height = HEAD_INCHES + ROW_INCHES * len(names)
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")
    figure.suptitle(region)
    axes = figure.subplots(1, len(PANELS), sharey=True, squeeze=False)[0]
    for axis, (metric, title) in zip(axes, PANELS, strict=True):
        values: dict[str, list[float]] = {name: [] for name in names}
        for row in found.rows:
            if row.anatomy in values and (value := getattr(row, metric)) is not None:
                values[row.anatomy].append(value)
        axis.boxplot(
            list(values.values()),
            orientation="horizontal",
            tick_labels=[f"{name}  (n={found.anatomies[name].figures['dsc'].n})" for name in names],
            widths=0.6,
            manage_ticks=axis is axes[0],  # the y axis is shared
            flierprops={"marker": ".", "markersize": 3},
            medianprops={"color": "#c2410c"},
        )
        axis.set_xlabel(title if metric != "nsd" else f"NSD at {found.tolerance_mm:g} mm")
        if metric == "hd95_mm":
            axis.set_xlim(left=0)
        else:
            axis.set_xlim(-0.02, 1.02)
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
