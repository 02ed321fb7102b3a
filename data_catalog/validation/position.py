"""Is the body the right way round? By where labels lie to each other, in LPS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from clnet.anatomy import vocabulary
from clnet.data_catalog.validation.facts import facts
from clnet.data_catalog.validation.findings import Finding
from clnet.data_catalog.validation.subject import Subject

__all__ = ["check_position"]

MARGIN_MM = 10.0
"""Centroids nearer to each other than this along an axis say nothing about it."""

Z, Y, X = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Votes:
    """What pairs of labels say about one axis."""

    for_it: tuple[str, ...]
    against: tuple[str, ...]

    @property
    def flipped(self) -> bool:
        """Whether all pairs, and more than one, contradict."""
        return len(self.against) > 1 and not self.for_it

    @property
    def doubtful(self) -> bool:
        return len(self.against) > len(self.for_it)


def check_position(subject: Subject) -> Iterator[Finding]:
    """Left and right, above and below, front and back.

    An axis is called flipped when every pair of labels that tells contradicts it, and at least
    two do; sides of paired organs are exchanged when a single pair is (no body has its left
    kidney on the right).
    """
    sides = _votes(subject, _sided(subject), X, -1, "right of")
    organs = _votes(subject, facts().right_of, X, -1, "right of")
    vertical = _votes(subject, facts().above, Z, +1, "above")
    frontal = _votes(subject, facts().before, Y, -1, "before")
    if sides.against and not sides.for_it and organs.against and not organs.for_it:
        yield _expected(subject, "orientation.mirrored", (*sides.against, *organs.against))
    elif sides.against:
        yield _expected(subject, "orientation.sides-swapped", sides.against)
    elif organs.flipped:
        yield _expected(subject, "orientation.mirrored", organs.against)
    elif organs.doubtful:
        yield _expected(subject, "orientation.unusual", organs.against)
    for votes, code in (
        (vertical, "orientation.upside-down"),
        (frontal, "orientation.back-to-front"),
    ):
        if votes.flipped:
            yield _expected(subject, code, votes.against)
        elif votes.doubtful:
            yield _expected(subject, "orientation.unusual", votes.against)


def _sided(subject: Subject) -> Iterator[tuple[str, str]]:
    """Pairs of labels (right, left) of one anatomy."""
    known = vocabulary()
    for name in subject.regions:
        canonical = known.find(name)
        if canonical is not None and known[canonical].side == "right":
            other = name.replace("right", "left")
            if other in subject.regions:
                yield name, other


def _votes(
    subject: Subject, pairs: Iterable[tuple[str, str]], axis: int, sign: int, relation: str
) -> _Votes:
    """Pairs whose first lies on the `sign` side of the second along `axis`, or does not."""
    for_it: list[str] = []
    against: list[str] = []
    for first, second in pairs:
        if first in subject.regions and second in subject.regions:
            a = subject.regions[first].centroid[axis]
            b = subject.regions[second].centroid[axis]
            apart = sign * (a - b)
            if abs(apart) >= MARGIN_MM:
                claim = f"{first} should lie {relation} {second}"
                (for_it if apart > 0 else against).append(f"{claim} ({abs(apart):.0f} mm)")
    return _Votes(tuple(for_it), tuple(against))


def _expected(subject: Subject, code: str, claims: tuple[str, ...]) -> Finding:
    more = f" and {len(claims) - 3} more" if len(claims) > 3 else ""
    return subject.about_labels(
        code, f"in the patient's own directions {'; '.join(claims[:3])}{more}; the opposite is seen"
    )
