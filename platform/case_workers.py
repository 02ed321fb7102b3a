"""The cases of a contribution, judged and kept by several Ray workers at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clnet import local_ray
from clnet.data_catalog import CaseOutcome, CaseSource, CaseWork, Outcomes
from clnet.errors import CaseRejected, ClnetError, InputError
from clnet.platform.ray_runtime import ray_runtime

if TYPE_CHECKING:
    import ray

__all__ = ["CaseWorkers"]

DEATHS = 2
"""How often a case is tried again after it took its worker down with it."""


@dataclass(frozen=True, slots=True)
class CaseWorkers:
    """Works off cases on Ray; what a worker holds in memory does not grow with a scan.

    Workers write finished cases into the staging folder themselves; this process hands out
    the cases, and gets back what became of them.

    Args:
        count: cases at once.
        ray: address of a cluster, whose nodes see the sources and the workspace under the same
            paths; a local Ray is started by default.
        token_file: of a local Ray.

    Raises:
        InputError: less than one worker.
    """

    count: int
    ray: str | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"{self.count} workers: at least one is needed")

    def __call__(self, work: CaseWork, cases: Sequence[CaseSource]) -> Outcomes:
        """What becomes of each case, by its index, as they are done.

        Raises:
            ServiceError: Ray does not start, or cannot be reached.
            ClnetError: a worker came upon what no other case could escape, such as a full disk.
        """
        if not cases:
            return
        # Ray would try for ever what needs more memory than there is
        local_ray.set_defaults({"RAY_task_oom_retries": str(DEATHS)})
        with ray_runtime(self.ray, num_cpus=self.count, token_file=self.token_file):
            yield from self._spread(work, cases)

    def _spread(self, work: CaseWork, cases: Sequence[CaseSource]) -> Outcomes:
        import ray

        if work.staging is not None:
            work.staging.mkdir(parents=True, exist_ok=True)
        do = ray.remote(num_cpus=1, max_retries=DEATHS)(_do)
        shared = ray.put(work)
        left = iter(enumerate(cases))
        running: dict[ray.ObjectRef[Any], int] = {}
        try:
            while True:
                for index, source in islice(left, self.count - len(running)):
                    running[do.remote(shared, source)] = index
                if not running:
                    return
                done, _ = ray.wait(list(running))
                for ref in done:
                    index = running.pop(ref)
                    yield index, _outcome(ref, cases[index])
        finally:
            for ref in running:  # nobody waits for them any more
                ray.cancel(ref, force=True)


def _do(work: CaseWork, source: CaseSource) -> CaseOutcome:
    from clnet.model.scratch import Scratch

    if work.staging is not None and not work.staging.is_dir():
        raise InputError(
            f"{work.staging}: a worker elsewhere does not see this folder; workers of a cluster "
            "need the workspace and the sources under the same paths"
        )
    return work.do(source, Scratch().zeros)


def _outcome(ref: ray.ObjectRef[Any], source: CaseSource) -> CaseOutcome:
    import ray

    try:
        outcome: CaseOutcome = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ClnetError):
            raise error.cause from None
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        reason = (
            f"took its worker down {DEATHS + 1} times: memory ran out, or a damaged file crashes "
            f"its decoder ({type(error).__name__})"
        )
        rejection = CaseRejected(str(source.image), "file", reason, "case.crashed")
        return CaseOutcome.rejected(source, rejection)
    return outcome
