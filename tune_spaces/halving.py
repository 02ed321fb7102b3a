"""Successive halving (ASHA) within each decoder's trials of one scope, as many as there are.

One ASHA for all would weigh a decoder that prunes badly against one that prunes well, and
stop every trial of the former; so it would whole channels, which never reach the rates of
single weights but are worth more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

__all__ = ["HalvingPerDecoder"]


class HalvingPerDecoder(FIFOScheduler):
    """Stops trials that fall behind others of the same decoder and scope.

    The first of these trials to reach a rung always goes on, so one of them ends.

    Args:
        rounds: reports of a trial that is not stopped.
        grace: reports before a trial may be stopped.
        reduction: of the trials at a rung, one in so many goes on.
    """

    def __init__(self, rounds: int, grace: int, reduction: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rounds, self._grace, self._reduction = rounds, grace, reduction
        self._metric = self._mode = ""
        self._within: dict[tuple[str, str], ASHAScheduler] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take what the tuner ranks by."""
        self._metric, self._mode = metric or "", mode or ""
        return True

    def _of(self, trial: Trial) -> ASHAScheduler:
        own = trial.config["trial"]["ref"], trial.config["trial"]["scope"]
        if own not in self._within:
            self._within[own] = ASHAScheduler(
                metric=self._metric,
                mode=self._mode,
                max_t=self._rounds,
                grace_period=self._grace,
                reduction_factor=self._reduction,
            )
        return self._within[own]

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Enter the trial among those of its decoder."""
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> str:
        """Whether the trial goes on."""
        return str(self._of(trial).on_trial_result(tune_controller, trial, result))

    def on_trial_complete(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> None:
        """Let others be measured by it."""
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """Forget it."""
        self._of(trial).on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        """For Ray Tune's log."""
        return f"Successive halving within each of {len(self._within)} decoders and scopes"
