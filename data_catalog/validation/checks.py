"""All checks of one case that could be read, in the order in which a report lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from clnet.data_catalog.validation.amount import check_amount
from clnet.data_catalog.validation.findings import Finding
from clnet.data_catalog.validation.position import check_position
from clnet.data_catalog.validation.scale import check_scale
from clnet.data_catalog.validation.slices import check_slices
from clnet.data_catalog.validation.subject import Subject
from clnet.data_catalog.validation.tissue import check_density, check_inside_body

__all__ = ["CHECKS", "judge_content"]

CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    check_slices,
    check_scale,
    check_inside_body,
    check_position,
    check_density,
    check_amount,
)


def judge_content(subject: Subject) -> Iterator[Finding]:
    """What the checks find in a case."""
    for check in CHECKS:
        yield from check(subject)
