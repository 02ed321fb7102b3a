"""Is the body the right way round? By where labels lie to each other, in LPS, and in the body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from clnet.anatomy import vocabulary
from clnet.data_catalog.validation.facts import facts
from clnet.data_catalog.validation.findings import Finding
from clnet.data_catalog.validation.midline import Midline, midline, midlines
from clnet.data_catalog.validation.subject import Subject

__all__ = ["check_position"]

MARGIN_MM = 10.0
"""Centroids nearer to each other than this along an axis say nothing about it."""

CLEAR_MM = 80.0
"""One pair this far apart tells as much as two."""

ASIDE = 0.07
"""Distance from the middle of the body, as a share of its width, that says which side it is."""

MIN_VOXELS = 20
"""Fewer voxels of a label may be a stray click."""

Z, Y, X = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Votes:
    """What pairs of labels say about one axis."""

    for_it: tuple[str, ...]
    against: tuple[str, ...]
    clear: bool = False
    """Whether one that contradicts is far on the wrong side."""

    @property
    def contradicted(self) -> bool:
        """Whether all contradict."""
        return bool(self.against) and not self.for_it

    @property
    def flipped(self) -> bool:
        """Whether all contradict, and more than one, or one clearly."""
        return self.contradicted and (len(self.against) > 1 or self.clear)

    @property
    def doubtful(self) -> bool:
        return len(self.against) > len(self.for_it)


def check_position(subject: Subject) -> Iterator[Finding]:
    """Left and right, above and below, front and back.

    An axis is called flipped when every pair of labels that tells contradicts it, and at least
    two do, or one clearly; sides of paired organs are exchanged when a single pair is (no body
    has its left kidney on the right). An organ without a partner is compared with the middle of
    the body, where the scan holds the body's whole width.
    """
    sides = _votes(subject, _sided(subject), X, -1, "right of")
    organs = _votes(subject, facts().right_of, X, -1, "right of")
    vertical = _votes(subject, facts().above, Z, +1, "above")
    frontal = _votes(subject, facts().before, Y, -1, "before")
    middles = midlines(subject)
    lone = _beside_midline(subject, middles, paired=False)
    lone_sides = _beside_midline(subject, middles, paired=True)
    if sides.contradicted and organs.contradicted:
        yield _expected(subject, "orientation.mirrored", (*sides.against, *organs.against))
    elif sides.against:
        yield _expected(subject, "orientation.sides-swapped", sides.against)
    elif organs.flipped or (lone.contradicted and not organs.for_it):
        against = (*organs.against, *lone.against, *lone_sides.against)
        yield _expected(subject, "orientation.mirrored", against)
    elif lone_sides.contradicted and not sides.for_it:
        yield _expected(subject, "orientation.sides-swapped", lone_sides.against)
    elif organs.doubtful or lone.doubtful:
        yield _expected(subject, "orientation.unusual", (*organs.against, *lone.against))
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


def _beside_midline(subject: Subject, middles: Sequence[Midline | None], *, paired: bool) -> _Votes:
    """Labels on the side of the body where they belong, or on the other one.

    Args:
        middles: of every slice of the sample.
        paired: those of anatomies that there are two of, else the others.
    """
    known = vocabulary()
    for_it: list[str] = []
    against: list[str] = []
    for side, names, sign in (("right", facts().right, -1), ("left", facts().left, +1)):
        for name in sorted(names & subject.regions.keys()):
            if (known[name].side is not None) != paired or subject.counts[name] < MIN_VOXELS:
                continue
            middle = midline(subject, name, middles)
            if middle is None:
                continue
            aside = sign * (subject.regions[name].centroid[X] - middle.x)
            if abs(aside) >= max(MARGIN_MM, ASIDE * middle.width):
                claim = f"{name} should lie in the {side} half of the body"
                (for_it if aside > 0 else against).append(f"{claim} ({abs(aside):.0f} mm)")
    return _Votes(tuple(for_it), tuple(against))


def _votes(
    subject: Subject, pairs: Iterable[tuple[str, str]], axis: int, sign: int, relation: str
) -> _Votes:
    """Pairs whose first lies on the `sign` side of the second along `axis`, or does not."""
    for_it: list[str] = []
    against: list[str] = []
    clear = False
    for first, second in pairs:
        if first in subject.regions and second in subject.regions:
            a = subject.regions[first].centroid[axis]
            b = subject.regions[second].centroid[axis]
            apart = sign * (a - b)
            if abs(apart) >= MARGIN_MM:
                claim = f"{first} should lie {relation} {second}"
                (for_it if apart > 0 else against).append(f"{claim} ({abs(apart):.0f} mm)")
                clear = clear or apart <= -CLEAR_MM
    return _Votes(tuple(for_it), tuple(against), clear)


def _expected(subject: Subject, code: str, claims: tuple[str, ...]) -> Finding:
    more = f" and {len(claims) - 3} more" if len(claims) > 3 else ""
    return subject.about_labels(
        code, f"in the patient's own directions {'; '.join(claims[:3])}{more}; the opposite is seen"
    )
