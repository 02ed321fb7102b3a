"""What the registry gives back: frozen records, JSON-able by ``model_dump(mode="json")``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import pydantic
import pydantic_core
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import InputError

T = TypeVar("T", bound=BaseModel)

__all__ = [
    "BodyPartRecord",
    "DatasetRecord",
    "DatasetUse",
    "DecoderDraft",
    "DecoderRecord",
    "DecoderStatus",
    "EncoderRecord",
    "GroupRecord",
    "Lineage",
    "Record",
    "Sha256",
    "Supporter",
    "TicketRecord",
    "checked",
    "now",
    "plain",
]


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def plain(value: Any) -> Any:
    """Turn `value` into what JSON keeps: tuples to lists, numpy to numbers, NaN to None.

    Raises:
        InputError: something JSON has no form for.
    """
    try:
        text = pydantic_core.to_json(value, inf_nan_mode="null", fallback=_from_array)
    except (pydantic_core.PydanticSerializationError, ValueError) as error:
        raise InputError(f"cannot be stored as JSON: {error}") from error
    return json.loads(text)


def _from_array(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Iterable):
        return list(value)
    if hasattr(value, "item"):  # a numpy scalar, without importing numpy for it
        return value.item()
    raise ValueError(f"{type(value).__name__} has no JSON form")


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[datetime, AfterValidator(_utc)]
Plain = Annotated[dict[str, Any], BeforeValidator(plain)]
DecoderStatus = Literal["candidate", "accepted"]


def checked(model: type[T], what: str, **fields: Any) -> T:
    """Build `model` from `fields`; a field that does not fit becomes one readable error.

    Raises:
        InputError: names `what`, the field and the reason.
    """
    try:
        return model(**fields)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "value"
        raise InputError(f"{what}: {field}: {first['msg']}") from error


class Record(BaseModel):
    """Base of all records: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetUse(Record):
    """A dataset version that something learned from, known by hash wherever its bytes live.

    Attributes:
        held_at: the site that holds the bytes; None if this hub does.
    """

    ref: str
    sha256: Sha256
    terms: Plain = {}
    held_at: str | None = None


class Lineage(Record):
    """How an artefact came to be: enough to make it again.

    Attributes:
        seeds: by name, or a plain list.
        numerics: torch version, device, instruction set, threads, dtype.
        parents: refs of other artefacts it grew from (not its encoder, BPR model, supporters
            or parent version: those are pinned by the record itself).
        created: UTC.
        config: anything else worth keeping.
    """

    command: str
    code_version: str
    seeds: dict[str, int] | tuple[int, ...] = ()
    datasets: tuple[DatasetUse, ...] = ()
    numerics: Plain = {}
    parents: tuple[str, ...] = ()
    created: Moment = Field(default_factory=now)
    config: Plain = {}


class DatasetRecord(Record):
    """A dataset version as lineage knows it; `withdrawn` marks the tombstone."""

    ref: str
    sha256: Sha256
    terms: Plain
    held_at: str | None
    fingerprint: Plain
    withdrawn: Moment | None
    withdrawn_reason: str | None
    created: Moment


class EncoderRecord(Record):
    """A frozen general encoder with the plan all its decoders use."""

    ref: str
    name: str
    version: int
    sha256: Sha256
    plan: Plain
    config: Plain
    lineage: Lineage
    created: Moment


class BodyPartRecord(Record):
    """A frozen body-part regression model."""

    ref: str
    name: str
    version: int
    sha256: Sha256
    config: Plain
    lineage: Lineage
    created: Moment


class Supporter(Record):
    """A finished decoder whose outputs another one takes as input, pinned by hash."""

    ref: str
    sha256: Sha256


class TicketRecord(Record):
    """How a decoder was pruned.

    Attributes:
        rate: pruning rate asked for, 0..1.
        sparsity: cut / dense convolution weights, as it came out, 0..1.
        rewind: which weights the survivors went back to (a step, or a name).
        dense_sha: artefact of the dense checkpoint; None if it was not kept.
        mask_sha256: digest of the mask. The mask itself is where the weights are zero.
        details: rounds, tolerance, structured or not ...
    """

    rate: float = Field(ge=0, le=1)
    sparsity: float = Field(ge=0, le=1)
    rewind: Annotated[str, BeforeValidator(str)] | None = None
    dense_sha: Sha256 | None = None
    mask_sha256: Sha256 | None = None
    details: Plain = {}


class GroupRecord(Record):
    """An anatomy group that has decoders.

    Attributes:
        versions: how many.
        aliases: alias to version.
    """

    name: str
    layer: str | None
    anatomies: tuple[str, ...]
    versions: int
    aliases: dict[str, int]


class DecoderDraft(Record):
    """All of a decoder version but its number.

    Attributes:
        config: the decoder's architecture; ``layer`` and ``anatomies`` describe its group.
        learned: anatomies exactly supervised.
        unions: sets of leaves learned only as a union.
        ranges: per anatomy, where along the body it lives (BPR scores); empty if imported.
        parent_ref: the version it was updated from (EMA).
        status: `candidate` until every anatomy passes; `status_reason` says why.
        probe_sha256: artefact with what the decoder answers to a phantom; None until a release
            carries it.
    """

    group: str
    sha256: Sha256
    encoder_ref: str
    encoder_sha256: Sha256
    body_part_model_ref: str
    body_part_model_sha256: Sha256
    config: Plain
    metrics: Plain
    learned: tuple[str, ...]
    unions: tuple[tuple[str, ...], ...] = ()
    ranges: Plain = {}
    supporters: tuple[Supporter, ...] = ()
    parent_ref: str | None = None
    status: DecoderStatus = "accepted"
    status_reason: str = ""
    ticket: TicketRecord | None = None
    probe_sha256: Sha256 | None = None
    lineage: Lineage
    created: Moment = Field(default_factory=now)

    @property
    def anatomies(self) -> tuple[str, ...]:
        """Anatomies it may report, by name: what it learned exactly, and composites of unions."""
        exact = set(self.learned)
        unions = (union for union in self.unions if not exact.issuperset(union))
        return (*self.learned, *(vocabulary().composite_of(union) for union in unions))


class DecoderRecord(DecoderDraft):
    """One immutable decoder version; only status and aliases move, a probe comes once."""

    ref: str
    version: int = Field(ge=1)
    aliases: tuple[str, ...] = ()
