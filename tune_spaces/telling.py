"""Progress of a search, from Ray Tune's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune import Callback

__all__ = ["Teller"]


class Teller(Callback):
    """Tells how many of the reports there are; a trial that is stopped early makes up for them.

    Args:
        reports: of all trials together, if none is stopped.
        progress: told the fraction and the newest result.
    """

    def __init__(self, reports: int, progress: Callable[[float, str], None]) -> None:
        self._reports, self._progress = reports, progress
        self._seen = 0

    def __getstate__(self) -> dict[str, Any]:
        # Tune keeps its callbacks in the experiment's folder; a progress bar cannot be kept
        return {**self.__dict__, "_progress": _unheard}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """One more report."""
        self._seen += 1
        self._progress(
            min(1.0, self._seen / self._reports),
            f"{result.get('ref', '')} at rate {result['rate']:.3f} ({result['scope']}): "
            f"DSC {result['dsc']:.3f}",
        )


def _unheard(done: float, text: str) -> None:
    pass
