"""Jobs: what a decoder should learn, said once; submitted, followed, waited for, cancelled."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from clnet.decoders_registry import JobRecord
from clnet.errors import JobFailed
from clnet.platform.endings import end_job
from clnet.platform.events import EventLog, JobEvent
from clnet.platform.workspace import Workspace
from clnet.tune_spaces.rewinding import Rewind

__all__ = ["DECODER_JOB", "DecoderJob", "JobHandle", "Validation", "enqueue", "submit"]

DECODER_JOB = "decoder"
POLL_SECONDS = 0.3
TOLERANCE = 0.02


class Validation(BaseModel):
    """How a decoder is judged while it learns.

    Attributes:
        fraction: share of the cases held out, by case hash; 0 validates on training cases.
        batches: of patches, the same every time.
        every: batches of training between validations; None for once an epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fraction: float = Field(default=0.2, ge=0, lt=1)
    batches: int = Field(default=16, ge=1)
    every: int | None = Field(default=None, ge=1)


class DecoderJob(BaseModel):
    """One decoder to train, prune or update.

    Attributes:
        decoder: the anatomy group, such as ``abdomen/liver``.
        dataset: ref of one dataset or of several, in order.
        encoder: ref of the frozen encoder.
        body_part_model: ref of the model that measures the ranges; ``starter`` by default.
        kind: ``train`` a new decoder; ``prune`` the version `base`, at one `rate` or along a
            schedule of `rates`, and let it recover; ``update`` version `base` by a moving
            average of what new data teaches, its ticket kept.
        base: decoder version that prune and update begin with.
        start: decoder version whose weights a ``train`` begins with where the shapes agree, a
            warm start; its own weights are initialised by `seed` otherwise. What a version of
            the same group has learned is kept: it has channels beside those that the data
            teaches, and what the data does not label is distilled from that version.
        anatomies: what the decoder's channels are: leaves of the group, or composites that
            stand for several of its leaves. By default every leaf that the data or the version
            it starts from knows, and the composite where they know only unions.
        widths: features per scale, finest first; by default those of the base, or of the
            version of its group that it starts from, or 16, 16, 32, 48 cut to the encoder's stages.
        kernels: of each scale's convolution, finest first; by default 1x1x1 at the finest,
            whose neighbourhoods the encoder has seen, and 3x3x3 below.
        heads: scales with logits, for deep supervision and support; by default 3, or as many as
            encoder and supporters have.
        epochs, batches_per_epoch: length of the training; `steps` batches in all overrides.
        batch_size, patch_size: of the stream; patches as large as the plan says by default.
        learning_rate, weight_decay, warm_up, negatives: see :class:`clnet.model.training.Recipe`.
        seed: of the decoder's initialisation, and of nothing else.
        stream_seed: of the stream of patches.
        focus: anatomies that patches centre on: the decoder's ``own``, ``all`` that is
            labelled, or names. Jobs share a pack only if their streams are equal, so ``all``
            lets many jobs pack.
        foreground: share of such patches at the first and the last batch.
        period: batch t repeats batch t - period, so that features are computed once.
        augment: noise, gain, offset and gamma on the patches.
        supporters: finished decoders to lean on; these may lean on others themselves.
        ema: momentum of the averaged weights; None for none. Prunings and updates take 0.99 unless
            given.
        ema_warm_up: whether that momentum grows from 0.1 over the first batches. Unless given, not
            in updates, whose average begins with weights that are good already.
        rate: one-shot ``prune``: the fraction of the convolution weights to cut. Unless a
            `tolerance` is given the version is accepted whatever it scores; its ticket tells.
        rates: iterative ``prune``: ascending rates, each cut from the last accepted version;
            those of 0 or less are skipped. Without `rate` and `rates` the authors' are tried in
            turn, milder for narrow decoders. Each recovery is as long as `epochs` or `steps` say.
        scope: what competes for survival: weights of all layers together (``global``), weights
            of each ``layer``, or whole channels (``channel``), which compaction then removes so
            that the decoder becomes faster.
        retries: further recoveries with the same mask before `rates` stop.
        window: validations that a pruning's moving average takes in, the newest of a recovery.
        weights: ``float16``: the pruned version that is judged and kept is its rounded weights,
            in half the bytes.
        rewind: of ``train``: which weights to keep for a later pruning, ``init``, ``epoch:k``,
            ``none``, or a fraction of the steps (0.5 by default). Of ``prune``: which of the
            base's survivors go back to, ``init``, ``epoch:k`` or a fraction of the base's steps if
            those were kept, ``early`` for whichever were, or ``none``, the default, which rewinds
            the learning rate only.
        tolerance: how much Dice, absolute, may be lost: by any anatomy in an update, by the
            mean's moving average in a pruning; 0.02 unless given.
        validation: how the decoder is judged.
        checkpoint_every: batches between checkpoints; a tenth of the training by default.
        precision: of the convolutions.
        cache_bytes: memory for features of a periodic stream.
        command: what was typed, for the lineage.

    Raises:
        pydantic.ValidationError: a ``ValueError`` that lists every field at fault.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decoder: str
    dataset: tuple[str, ...] = Field(min_length=1)
    encoder: str
    body_part_model: str = "starter"
    kind: Literal["train", "prune", "update"] = "train"
    base: str | None = None
    start: str | None = None
    anatomies: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    kernels: tuple[tuple[int, int, int], ...] = ()
    heads: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=50, ge=1)
    batches_per_epoch: int = Field(default=256, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=2, ge=1)
    patch_size: tuple[int, int, int] | None = None
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=3e-5, ge=0)
    warm_up: int = Field(default=20, ge=0)
    negatives: int = Field(default=8, ge=1)
    seed: int = Field(default=0, ge=0)
    stream_seed: int = Field(default=0, ge=0)
    focus: Literal["own", "all"] | tuple[str, ...] = "own"
    foreground: tuple[float, float] = (0.9, 0.6)
    period: int | None = Field(default=None, ge=1)
    augment: bool = True
    supporters: tuple[str, ...] = ()
    ema: float | None = Field(default=None, ge=0, lt=1)
    ema_warm_up: bool | None = None
    rate: float | None = Field(default=None, ge=0, lt=1)
    rates: tuple[Annotated[float, Field(lt=1)], ...] = ()
    scope: Literal["global", "layer", "channel"] = "global"
    retries: int = Field(default=8, ge=0, le=100)
    window: int = Field(default=3, ge=1)
    weights: Literal["float32", "float16"] = "float32"
    rewind: Rewind | None = None
    tolerance: float | None = Field(default=None, ge=0)
    validation: Validation = Validation()
    checkpoint_every: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    cache_bytes: int = Field(default=2 << 30, ge=0)
    command: str = ""

    @field_validator("dataset", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> DecoderJob:
        if (self.kind == "train") != (self.base is None):
            raise ValueError(f"{self.kind}: base is for prune and update, and needed there")
        if self.kind == "train" and self.rewind == "early":
            raise ValueError("train: rewind to keep by is init, epoch:k, none or a fraction")
        pruning = (self.rate is not None, bool(self.rates), self.scope != "global")
        if self.kind != "prune" and (any(pruning) or self.weights != "float32"):
            raise ValueError(f"{self.kind}: rate, rates, scope and weights are for prune")
        if self.rate is not None and self.rates:
            raise ValueError("prune: give one rate, or rates to try in turn")
        cuts = [rate for rate in self.rates if rate > 0]
        if cuts != sorted(set(cuts)):
            raise ValueError("prune: rates must ascend, each once")
        if self.kind != "train" and (
            self.widths or self.kernels or self.anatomies or self.supporters or self.start
        ):
            raise ValueError(
                f"{self.kind}: widths, kernels, anatomies and supporters are those of the base, "
                "which is where it starts"
            )
        return self

    @property
    def batches(self) -> int:
        """Length of the training in batches."""
        return self.epochs * self.batches_per_epoch if self.steps is None else self.steps

    @property
    def may_lose(self) -> float:
        """The tolerance, or what it is unless given."""
        return TOLERANCE if self.tolerance is None else self.tolerance

    @property
    def kept_whatever_it_scores(self) -> bool:
        """Whether it prunes at one rate and nobody said what that may cost."""
        return self.rate is not None and self.tolerance is None

    @property
    def validate_every(self) -> int:
        """Batches between validations."""
        return self.validation.every or min(self.batches_per_epoch, max(1, self.batches // 4))


class JobHandle:
    """A submitted job.

    Args:
        job_id: as the registry knows it.
        workspace: where it runs.
        ray: address of the Ray that a runner should use, if one has to be started again.
    """

    def __init__(self, job_id: str, workspace: Workspace, ray: str | None = None) -> None:
        self.id = job_id
        self.workspace = workspace
        self._ray = ray
        self._log = EventLog(workspace.job_folder(job_id))

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    @property
    def record(self) -> JobRecord:
        """The job as the registry has it now."""
        return self.workspace.registry().job(self.id)

    @property
    def status(self) -> str:
        """``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``."""
        return self.record.status

    def events(self) -> Iterator[JobEvent]:
        """What happened so far and what happens next, up to the end of the job.

        The events are kept: another caller, later, sees the same ones. A runner that died is
        started again.
        """
        from clnet.platform.runner import ensure_runner

        offset, looked = 0, time.monotonic()
        while True:
            events, offset = self._log.read(offset)
            for event in events:
                yield event
                if event.final:
                    return
            if time.monotonic() - looked > 10 * POLL_SECONDS:
                looked = time.monotonic()
                if self.record.finished and not self._log.read(offset)[0]:
                    return
                ensure_runner(self.workspace, self._ray)
            time.sleep(POLL_SECONDS)

    def wait(self) -> JobRecord:
        """Wait for the end; the record has the refs of what was made in ``results``.

        Raises:
            JobFailed: the job failed or was cancelled; the message says why.
        """
        for _ in self.events():
            pass
        record = self.record
        if record.status != "succeeded":
            raise JobFailed(f"job {self.id} {record.status}: {record.error or 'no reason given'}")
        return record

    def cancel(self) -> None:
        """Stop the job; its neighbours in a pack go on. A finished job is left as it is."""
        from clnet.platform.runner import cancel_left_behind

        self._log.cancel()
        status = self.status
        if status == "queued":
            end_job(self.id, self.workspace, self.workspace.registry(), "cancelled")
        elif status == "running":  # a runner that lives will see the wish
            cancel_left_behind(self.id, self.workspace)


def enqueue(jobs: Sequence[DecoderJob], workspace: Workspace) -> list[JobHandle]:
    """Check the jobs and queue them for whichever runner looks next.

    Raises:
        NotFound: a dataset, encoder, body-part model, base or supporter that is not there.
        InputError: a job that contradicts itself or its data.
        Incompatible: parts that were not made for each other, data that was withdrawn, or earlier
            weights to rewind to that are not here.
    """
    from clnet.platform.admission import check_job

    registry, catalog = workspace.registry(), workspace.catalog()
    command = shlex.join(sys.argv)
    told = [job if job.command else job.model_copy(update={"command": command}) for job in jobs]
    for job in told:
        check_job(job, registry, catalog)
    handles = []
    for job in told:
        record = registry.create_job(DECODER_JOB, job.model_dump(mode="json"))
        handle = JobHandle(record.id, workspace)
        EventLog(workspace.job_folder(record.id)).append("queued", message=job.decoder)
        handles.append(handle)
    return handles


def submit(
    jobs: Sequence[DecoderJob], workspace: Workspace, *, ray: str | None = None
) -> list[JobHandle]:
    """Queue jobs and see that a runner works on them, in a process of its own.

    The runner outlives the caller. Jobs submitted together share packs where their streams
    are equal.

    Args:
        ray: address of the Ray to use; by default the runner starts a local one.

    Raises:
        NotFound, InputError, Incompatible: see :func:`enqueue`.
    """
    from clnet.platform.runner import ensure_runner

    handles = enqueue(jobs, workspace)
    ensure_runner(workspace, ray)
    return [JobHandle(handle.id, workspace, ray) for handle in handles]
