"""Two folders of labels compared, case by case, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clnet.anatomy.mapping import LabelMapping, load_mapping
from clnet.errors import InputError
from clnet.platform.evaluation.comparison import CaseJob, Row, compare_case
from clnet.platform.evaluation.layouts import WHOLE_FOLDER, Labels, are_maps, find_labels
from clnet.platform.evaluation.summary import Place, Summary, place_of, summarise

__all__ = ["Evaluation", "evaluate"]

DEFAULT_TOLERANCE_MM = 2.0

Progress = Callable[[float, str], None]
MappingSource = Mapping[Any, Any] | str | Path


@dataclass(frozen=True)
class Evaluation:
    """How well predictions agree with a reference.

    Attributes:
        reference, prediction: the folders.
        tolerance_mm: of the NSD.
        rows: every case and anatomy that either side labels.
        unmatched: predictions without a reference, which nobody judged.
    """

    reference: str
    prediction: str
    tolerance_mm: float
    rows: tuple[Row, ...]
    unmatched: tuple[str, ...]

    @cached_property
    def anatomies(self) -> dict[str, Summary]:
        """By anatomy."""
        return summarise(self._named, lambda row: row.anatomy)

    @cached_property
    def groups(self) -> dict[str, Summary]:
        """By anatomy group of the default stratification."""
        return summarise(self._named, lambda row: self.places[row.anatomy].group)

    @cached_property
    def regions(self) -> dict[str, Summary]:
        """By region of the body."""
        return summarise(self._named, lambda row: self.places[row.anatomy].region)

    @cached_property
    def overall(self) -> Summary:
        """Over all anatomies."""
        return summarise(self.rows, lambda row: "all")["all"]

    @cached_property
    def places(self) -> dict[str, Place]:
        """Anatomy to its group, region and layer."""
        return {name: place_of(name) for name in dict.fromkeys(row.anatomy for row in self._named)}

    @property
    def problems(self) -> dict[str, str]:
        """Cases that could not be compared at all, and why."""
        return {row.case: row.reason for row in self.rows if not row.anatomy}

    @property
    def _named(self) -> list[Row]:
        return [row for row in self.rows if row.anatomy]

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``metrics.csv``, ``summary.json`` and ``boxplots-REGION.png``; gives the files."""
        from clnet.platform.evaluation.report import write_report

        return write_report(self, Path(folder))


def evaluate(
    reference: str | Path,
    prediction: str | Path,
    *,
    mapping: MappingSource | None = None,
    prediction_mapping: MappingSource | None = None,
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare predictions with a reference, whatever system made either.

    Both folders hold label maps, masks or results of ``clnet segment``; see
    :mod:`clnet.platform.evaluation.layouts`. An anatomy is evaluated where both sides label it,
    whole or in parts that make it up; what one side did not label is a row with a reason, and
    in no mean. Memory is that of one case per job.

    Args:
        reference: what is there.
        prediction: what was found.
        mapping: what labels mean, as for a contributed dataset; needed for label maps.
        prediction_mapping: what the prediction's mean, if they mean something else.
        tolerance_mm: distance up to which surfaces count as equal, for the NSD.
        jobs: processes that compare cases side by side.
        progress: told the fraction of cases done and the case.

    Raises:
        NotFound: a folder is not there, or holds no labels.
        InputError: no case of the reference could be compared, or a value out of range.
        ContractError, UnknownAnatomy: a mapping that cannot be read.
    """
    if not 0 <= tolerance_mm < float("inf"):
        raise InputError(f"tolerance {tolerance_mm}: 0 mm or more")
    if jobs < 1:
        raise InputError(f"jobs {jobs}: 1 or more")
    meanings = None if mapping is None else load_mapping(mapping)
    other = meanings if prediction_mapping is None else load_mapping(prediction_mapping)
    work, unmatched = _paired(Path(reference), Path(prediction), meanings, other, tolerance_mm)
    rows: dict[str, list[Row]] = {}
    for done, (case, compared) in enumerate(_compared(work, jobs), start=1):
        rows[case] = compared
        if progress is not None:
            progress(done / len(work), case)
    found = Evaluation(
        reference=str(reference),
        prediction=str(prediction),
        tolerance_mm=tolerance_mm,
        rows=tuple(row for job in work for row in rows[job.case]),
        unmatched=unmatched,
    )
    if not found.rows:
        raise InputError(
            f"{reference} and {prediction}: the mapping names no anatomy, so nothing is compared"
        )
    if len(found.problems) == len(work):
        case, reason = next(iter(found.problems.items()))
        raise InputError(
            f"none of {len(work)} cases could be compared; the first, {case}: {reason}"
        )
    return found


def _paired(
    reference: Path,
    prediction: Path,
    mapping: LabelMapping | None,
    other: LabelMapping | None,
    tolerance_mm: float,
) -> tuple[list[CaseJob], tuple[str, ...]]:
    expected, found = find_labels(reference, mapping), find_labels(prediction, other)
    expected, found = (
        find_labels(folder, meanings, as_maps=True) if are_maps(own, besides) else own
        for folder, meanings, own, besides in (
            (reference, mapping, expected, found),
            (prediction, other, found, expected),
        )
    )
    if WHOLE_FOLDER in expected or WHOLE_FOLDER in found:
        expected, found = _as_one_case(reference, expected, prediction, found)
    work = [
        CaseJob(case, labels, found.get(case), tolerance_mm) for case, labels in expected.items()
    ]
    return work, tuple(sorted(found.keys() - expected.keys()))


def _as_one_case(
    reference: Path, expected: dict[str, Labels], prediction: Path, found: dict[str, Labels]
) -> tuple[dict[str, Labels], dict[str, Labels]]:
    """A folder that is itself one case goes with the only case of the other folder."""
    for folder, cases in ((reference, expected), (prediction, found)):
        if len(cases) > 1:
            raise InputError(
                f"{folder} holds {len(cases)} cases, and the other folder is one case itself; "
                "give the folder above it"
            )
    case = next((case for case in (*expected, *found) if case != WHOLE_FOLDER), reference.name)
    return ({case: next(iter(expected.values()))}, {case: next(iter(found.values()))})


def _compared(work: Sequence[CaseJob], jobs: int) -> Iterator[tuple[str, list[Row]]]:
    """Compared cases as they are finished."""
    if jobs == 1 or len(work) == 1:
        for job in work:
            yield job.case, compare_case(job)
        return
    # spawned, as torch's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(work)), context, _one_thread) as pool:
        waiting = {pool.submit(compare_case, job): job.case for job in work}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
