"""The process that works the queue off: claims jobs, packs them, trains them on Ray.

One runner per workspace, in a process of its own that outlives whoever submitted, or within
the caller. Jobs of a runner that died are taken up again where their checkpoints are.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Never

from clnet.errors import Incompatible, ServiceError
from clnet.platform.endings import end_job, why_hopeless
from clnet.platform.ray_runtime import RayRuntime, ray_runtime
from clnet.platform.workspace import Workspace
from clnet.storage import exclusive_or_none

if TYPE_CHECKING:
    import ray

    from clnet.decoders_registry import JobRecord
    from clnet.platform.train_worker import Share
    from clnet.platform.work import Work

__all__ = ["Runner", "cancel_left_behind", "ensure_runner", "owner_of", "run_queued"]

LOCK, PID = "runner.lock", "runner.pid"
"""In the folder of the jobs: what the runner holds, and which process holds it or last did."""
IDLE_SECONDS = 20.0
"""A runner of its own waits this long for more before it ends and takes its Ray along."""
POLL_SECONDS = 0.3
HEARTBEAT_SECONDS = 5.0
LOST = timedelta(minutes=5)
MAX_ATTEMPTS = 3


def ensure_runner(workspace: Workspace, ray: str | None = None) -> None:
    """See that some runner works on the workspace; starts one in the background if none does.

    Args:
        ray: address of the Ray that a new runner should use, if it can be reached.
    """
    with _lock(workspace) as free:
        if not free:
            return
    told = {"workspace": workspace.to_dict(), "ray": ray}
    # over standard input, as a database URL may hold a password; -P keeps the folders of the
    # caller's directory off sys.path
    subprocess.run(
        [sys.executable, "-P", "-m", "clnet.platform.runner"],
        input=json.dumps(told).encode(),
        check=True,
    )


def run_queued(workspace: Workspace, ray: str | None = None, idle_seconds: float = 0.0) -> bool:
    """Work off the queue in this process, until nothing has waited for `idle_seconds`.

    Returns:
        False if another runner is at work on the workspace already, which does it all.

    Raises:
        ServiceError: Ray cannot be reached, or is lost on the way; jobs are in the queue again.
    """
    with _lock(workspace) as free:
        if not free:
            return False
        (workspace.root / "jobs" / PID).write_text(f"{os.getpid()}\n", encoding="ascii")
        with _ray(ray, workspace) as runtime:
            Runner(workspace, runtime).work(idle_seconds)
    return True


def cancel_left_behind(job_id: str, workspace: Workspace) -> None:
    """Cancel a job that a runner of this workspace took and died over; leave any other."""
    with _lock(workspace) as free, workspace.registry() as registry:
        job = registry.job(job_id)
        if free and job.status == "running" and job.owner == owner_of(workspace):
            end_job(job_id, workspace, registry, "cancelled")


def owner_of(workspace: Workspace) -> str:
    """What the registry calls the runner of a workspace, whichever process that is."""
    return f"{socket.gethostname()}:{workspace.root}"


class Runner:
    """Works off the queue of a workspace on a Ray that is connected.

    Args:
        workspace: whose queue; the caller holds its lock.
        runtime: the Ray to use.
    """

    def __init__(self, workspace: Workspace, runtime: RayRuntime) -> None:
        self.workspace = workspace
        self.runtime = runtime
        self.owner = owner_of(workspace)
        self._registry = workspace.registry()
        self._taken: set[str] = set()
        self._waiting: list[Work] = []
        self._running: dict[Future[None], tuple[Work, Share]] = {}
        self._artefacts: dict[str, ray.ObjectRef[bytes]] = {}

    def work(self, idle_seconds: float) -> None:
        """Until the queue has been empty for `idle_seconds`."""
        stop = threading.Event()
        beating = threading.Thread(target=self._beat, args=(stop,), daemon=True)
        beating.start()
        idle_since = time.monotonic()
        try:
            with ThreadPoolExecutor(max_workers=64, thread_name_prefix="work") as pool:
                while True:
                    self._waiting += self._prepare(self._claim())
                    self._start(pool)
                    if self._running or self._waiting:
                        self._collect()
                        idle_since = time.monotonic()
                    elif time.monotonic() - idle_since >= idle_seconds:
                        return
                    else:
                        time.sleep(POLL_SECONDS)
        finally:
            stop.set()
            beating.join()
            self._registry.close()

    def _claim(self) -> list[JobRecord]:
        """Jobs that wait, and those that an earlier runner of this workspace left behind."""
        from clnet.platform.work import KINDS

        self._registry.requeue_lost(LOST)
        mine = [
            job
            for job in self._registry.jobs("running")
            if job.owner == self.owner and job.kind in KINDS and job.id not in self._taken
        ]
        while True:
            found = 0
            while (job := self._registry.claim_job(self.owner, KINDS)) is not None:
                mine.append(job)
                found += 1
            if not found:
                break
            time.sleep(POLL_SECONDS)  # jobs submitted together should pack together
        self._taken |= {job.id for job in mine}
        return mine

    def _prepare(self, jobs: Sequence[JobRecord]) -> list[Work]:
        from clnet.platform.work import prepare

        return prepare(jobs, self.workspace, self._registry) if jobs else []

    def _start(self, pool: ThreadPoolExecutor) -> None:
        from clnet.platform.packing import share_out

        while self._waiting:
            cpus, gpus = self._free()
            share = share_out(len(self._waiting), cpus, gpus, busy=bool(self._running))
            if share is None:
                return
            work = self._waiting.pop(0)
            if not self._shared(work):
                continue
            future = pool.submit(work.run, self.workspace, share, self._artefacts)
            self._running[future] = (work, share)

    def _free(self) -> tuple[float, float]:
        """CPUs and GPUs that neither the work here nor anything else on this Ray uses."""
        import ray

        if not self._running:
            self._idle = ray.available_resources()  # type: ignore[no-untyped-call]
        shares = [share for _, share in self._running.values()]
        cpus = self._idle.get("CPU", 0.0) - sum(share.cpus for share in shares)
        gpus = self._idle.get("GPU", 0.0) - sum(share.gpus for share in shares)
        return cpus, gpus

    def _shared(self, work: Work) -> bool:
        """Put what the work reads into Ray's object store, which keeps one copy a node; False if
        something of it cannot be had, which ends the work's jobs."""
        import ray

        for sha256 in work.needs:
            if sha256 in self._artefacts:
                continue
            try:
                data = self._registry.artefact(sha256)
            except Exception as error:  # noqa: BLE001 - the runner lives for the others
                traceback.print_exc()  # into the runner's log
                why = why_hopeless(error)
                for job_id in work.job_ids:
                    end_job(job_id, self.workspace, self._registry, "failed", error=why)
                return False
            try:
                self._artefacts[sha256] = ray.put(data)
            except ray.exceptions.RayError as error:
                self._give_up(work, error)
        return True

    def _collect(self) -> None:
        done, _ = wait(self._running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        if not self._running:
            time.sleep(POLL_SECONDS)
        for future in done:
            work, _ = self._running.pop(future)
            error = future.exception()
            if error is not None:
                self._give_up(work, error)

    def _give_up(self, work: Work, error: BaseException) -> Never:
        """Ray itself failed under the work, which is not the jobs' fault, up to a point."""
        for job_id in work.job_ids:
            try:
                if self._registry.job(job_id).attempts >= MAX_ATTEMPTS:
                    self._registry.update_job(job_id, status="failed", error=str(error))
                else:
                    self._registry.update_job(job_id, status="queued")
            except Incompatible:  # it ended before Ray did
                continue
        what = f"{type(error).__name__}: {error}"
        raise ServiceError(f"{work.name}: given up, its jobs wait again: {what}") from error

    def _beat(self, stop: threading.Event) -> None:
        registry = self.workspace.registry()
        while not stop.wait(HEARTBEAT_SECONDS):
            for job_id in tuple(self._taken):
                if not registry.heartbeat(job_id, self.owner):
                    self._taken.discard(job_id)
        registry.close()


def _lock(workspace: Workspace) -> AbstractContextManager[bool]:
    """Whether this process is the workspace's runner for the block."""
    return exclusive_or_none(workspace.root / "jobs" / LOCK)


@contextmanager
def _ray(address: str | None, workspace: Workspace) -> Iterator[RayRuntime]:
    """The Ray that was asked for; a local one where that was local and has ended."""
    with ExitStack() as stack:
        try:
            runtime = stack.enter_context(ray_runtime(address, token_file=workspace.ray_token))
        except ServiceError:
            if address is None or not address.startswith("127."):
                raise
            runtime = stack.enter_context(ray_runtime(token_file=workspace.ray_token))
        yield runtime


def _main() -> None:
    """Read what to do from standard input, detach, and work until nothing waits any more."""
    told = json.load(sys.stdin)
    if os.fork():
        os._exit(0)
    os.setsid()
    workspace = Workspace(**told["workspace"])
    log = workspace.root / "jobs" / "runner.log"
    with log.open("ab") as output, open(os.devnull, "rb") as nothing:
        for stream, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(stream.fileno(), target)
    run_queued(workspace, told["ray"], IDLE_SECONDS)


if __name__ == "__main__":
    _main()
