"""How long work is followed from outside, and stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clnet.errors import Cancelled

__all__ = ["Progress", "Watch"]

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told of the progress, and who may end the work.

    Attributes:
        told: called with the fraction done and what happens; None for nobody.
        cancelled: asked often whether to stop, such as ``threading.Event().is_set``.
        first, last: the fractions between which this part of the work goes.
    """

    told: Callable[[float, str], None] | None = None
    cancelled: Callable[[], bool] | None = None
    first: float = 0.0
    last: float = 1.0

    def check(self) -> None:
        """Go on, or not.

        Raises:
            Cancelled: it was asked for.
        """
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("the segmentation was cancelled; nothing of it was kept")

    def tell(self, done: float, text: str) -> None:
        """Report that this part is `done`, a fraction of it.

        Raises:
            Cancelled: as :meth:`check`.
        """
        self.check()
        if self.told is not None:
            self.told(self.first + (self.last - self.first) * done, text)

    def part(self, first: float, last: float) -> Watch:
        """The same for a part of the work, from fraction `first` to `last`."""
        span = self.last - self.first
        return Watch(self.told, self.cancelled, self.first + span * first, self.first + span * last)
