"""Which weights survivors of a pruning go back to, and where a training keeps them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator

from clnet.decoders_registry import DecoderRecord, Registry
from clnet.errors import Incompatible

__all__ = ["KEPT_BY_DEFAULT", "Rewind", "RewindTo", "keep_at", "rewind_to"]

KEPT_BY_DEFAULT = 0.5
"""Fraction of a training after which weights are kept, unless the job says otherwise."""

WORDS = re.compile(r"init|none|early|epoch:(?P<epoch>\d{1,9})")


def _checked(value: float | str) -> float | str:
    if isinstance(value, str) and not WORDS.fullmatch(value):
        raise ValueError("write init, epoch:k, early, none or a fraction of the training")
    if not isinstance(value, str) and not 0 <= value < 1:
        raise ValueError("a fraction of the training is at least 0 and below 1")
    return value


Rewind = Annotated[float | str, AfterValidator(_checked)]
"""``init``, ``epoch:k``, ``none``, a fraction of a training's steps, or ``early``: what it kept."""


@dataclass(frozen=True, slots=True)
class RewindTo:
    """Weights to rewind survivors to.

    Attributes:
        name: for the ticket: ``init``, ``none``, or the batch that they were kept after.
        sha256: artefact that holds them, if one does.
        seed: of the initialisation that they are, if no artefact holds them.
        start: artefact of the decoder that the initialisation borrowed weights from.
    """

    name: str
    sha256: str | None = None
    seed: int | None = None
    start: str | None = None


def keep_at(rewind: float | str | None, steps: int, batches_per_epoch: int) -> int | None:
    """Batches after which a training of `steps` keeps its weights; None for never."""
    if rewind == "none":
        return None
    step = _step(KEPT_BY_DEFAULT if rewind is None else rewind, steps, batches_per_epoch)
    return step if step < steps else None


def _step(rewind: float | str, steps: int, batches_per_epoch: int) -> int:
    if not isinstance(rewind, str):
        return int(rewind * steps)
    return 0 if rewind == "init" else int(rewind.partition(":")[2]) * batches_per_epoch


def rewind_to(rewind: float | str | None, base: DecoderRecord, registry: Registry) -> RewindTo:
    """What a pruning of `base` rewinds its survivors to.

    By default only the learning rate is rewound, which of the three lost the least at the same
    budget (``benchmarks/pruning.py --mode rewind``). ``early`` means the weights that the base's
    training kept, whichever those are.

    Raises:
        Incompatible: the base is pruned already, has no such weights, or came here without them.
    """
    facts: dict[str, Any] = base.lineage.config
    kept: dict[str, Any] = facts.get("rewind") or {}
    if rewind is None or rewind == "none":
        return RewindTo("none")
    if base.ticket is not None:
        raise Incompatible(
            f"rewind {rewind}: {base.ref} is pruned already, and earlier weights are those of a "
            "dense version; prune that one, or rewind to none"
        )
    if rewind == "early":
        if not kept:
            raise Incompatible(
                f"rewind early: {base.ref} comes with no weights that its training kept; prune a "
                "dense version trained with rewind=epoch:k, or rewind to none"
            )
        return _kept(rewind, base, kept, registry)
    job: dict[str, Any] = facts.get("job") or {}
    if job.get("kind") != "train":
        raise Incompatible(
            f"rewind {rewind}: {base.ref} was not trained from its first weights here; "
            "prune the dense version that was, or rewind to none"
        )
    step = _step(rewind, facts["recipe"]["steps"], job["batches_per_epoch"])
    if kept.get("step") == step:
        return _kept(rewind, base, kept, registry)
    if step == 0:
        return _first(rewind, base, job, registry)
    if not kept:
        raise Incompatible(
            f"rewind {rewind}: the training of {base.ref} kept no weights; train with "
            f"rewind={rewind} to keep some, or rewind to init or none"
        )
    raise Incompatible(
        f"rewind {rewind}: the training of {base.ref} kept its weights at batch {kept['step']}, "
        f"not at {step}: rewind to early for those, or train with rewind={rewind} to keep these"
    )


def _kept(
    rewind: float | str, base: DecoderRecord, kept: dict[str, Any], registry: Registry
) -> RewindTo:
    """What the base's training kept, which stays behind where the base travels."""
    if not registry.artefacts.exists(kept["sha256"]):
        raise Incompatible(
            f"rewind {rewind}: the weights that the training of {base.ref} kept are not here, as "
            "a release takes none along; prune it where it was trained, or rewind to none"
        )
    return RewindTo(str(kept["step"]), kept["sha256"])


def _first(
    rewind: float | str, base: DecoderRecord, job: dict[str, Any], registry: Registry
) -> RewindTo:
    """The initialisation: of the seed, and of the version that it borrowed weights from."""
    if not job.get("start"):
        return RewindTo("init", seed=job["seed"])
    if job["start"] not in base.lineage.parents:  # another version may have that name here
        raise Incompatible(
            f"rewind {rewind}: {base.ref} began with weights of {job['start']}, which a release "
            "does not take along; prune it where it was trained, or rewind to none"
        )
    return RewindTo("init", seed=job["seed"], start=registry.decoder(job["start"]).sha256)
