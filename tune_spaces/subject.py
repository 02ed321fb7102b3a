"""A dense decoder whose pruning rate is searched, with all that a trial of it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clnet.data_catalog import Catalog, PatchStream, StreamSpec
from clnet.decoders_registry import DecoderRecord, Registry
from clnet.errors import Incompatible
from clnet.model.artefact import decode_decoder, encode_decoder
from clnet.model.training import Recipe
from clnet.tune_spaces.recovery import earlier_decoder
from clnet.tune_spaces.rewinding import RewindTo, rewind_to
from clnet.tune_spaces.space import SearchSpace

__all__ = ["Subject", "open_stream", "subject_of"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What trials of one decoder share; plain values, so that it travels to Ray actors.

    Attributes:
        ref: of the dense version.
        dense_dsc: its mean validation DSC.
        encoder, decoder, early: artefacts; `early` has the weights to rewind to, if any.
        rewind: which those are, for the ticket.
        supporters: artefacts of the decoders it leans on, and of those they lean on, by hash.
        stream, validation: specifications, as JSON.
        plan: of the encoder.
        recipe: of the recovery.
        float16: whether the version that is judged and kept is its float16-rounded weights.
        precision: of the convolutions.
    """

    ref: str
    dense_dsc: float
    encoder: bytes
    decoder: bytes
    early: bytes | None
    rewind: str
    supporters: Mapping[str, bytes]
    stream: Mapping[str, Any]
    validation: Mapping[str, Any]
    plan: Mapping[str, Any]
    recipe: Recipe
    float16: bool
    precision: str


def subject_of(registry: Registry, record: DecoderRecord, space: SearchSpace) -> Subject:
    """Everything that trials of a registered dense version read.

    Raises:
        Incompatible: it was pruned already, data that went into it was withdrawn, its lineage
            does not say what it learned from, or it has no weights as the space wants them to
            rewind to.
    """
    facts = record.lineage.config
    registry.check_source(record.ref, "decoder")
    if record.ticket is not None:
        raise Incompatible(f"{record.ref} is pruned already; search from its dense version")
    if not {"job", "stream", "validation", "recipe"} <= facts.keys():
        raise Incompatible(f"{record.ref}: its lineage names no training to recover by")
    if "channel" in space.scopes and record.config.get("kind", "clnet") != "clnet":
        raise Incompatible(
            f"{record.ref}: whole channels are cut in decoders of clnet's own blocks only; take a "
            "space with other scopes"
        )
    recipe = dict(facts["recipe"])
    steps = space.recovery_steps or (space.recovery_epochs or 1) * facts["job"]["batches_per_epoch"]
    recipe |= {"steps": steps}
    own = {"learning_rate": space.learning_rate, "warm_up": space.warm_up, "ema": space.ema}
    recipe |= {name: value for name, value in own.items() if value is not None}
    data = registry.artefact(record.sha256)
    rewind = rewind_to(space.rewind, record, registry)
    return Subject(
        ref=record.ref,
        dense_dsc=float(record.metrics["mean_dsc"]),
        encoder=registry.artefact(record.encoder_sha256),
        decoder=data,
        early=_earlier(rewind, data, registry),
        rewind=rewind.name,
        supporters={d.sha256: registry.artefact(d.sha256) for d in registry.leaned_on(record)},
        stream=facts["stream"] | {"total": steps, "period": steps},
        validation=facts["validation"],
        plan=registry.encoder(record.encoder_ref).plan,
        recipe=Recipe(**recipe),
        float16=space.weights == "float16",
        precision=facts["job"]["precision"],
    )


def _earlier(rewind: RewindTo, data: bytes, registry: Registry) -> bytes | None:
    _, info = decode_decoder(data)
    earlier = earlier_decoder(rewind, info.config, info.encoder_config, registry.artefact)
    return encode_decoder(earlier, info) if earlier is not None else None


def open_stream(catalog: Catalog, spec: Mapping[str, Any], plan: Mapping[str, Any]) -> PatchStream:
    """The stream of a specification, from the catalog's plan stores."""
    checked = StreamSpec.model_validate(spec)
    stores = [catalog.plan_store(catalog.get(pin.ref), dict(plan)) for pin in checked.datasets]
    return PatchStream(stores, checked)
