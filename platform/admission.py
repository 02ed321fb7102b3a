"""What can be said against a job before its data is read."""

from __future__ import annotations

from clnet.anatomy.stratification import default_stratification
from clnet.anatomy.vocabulary import vocabulary
from clnet.data_catalog import Catalog
from clnet.decoders_registry import DecoderRecord, Registry
from clnet.errors import Incompatible, InputError
from clnet.model.artefact import decode_decoder
from clnet.model.decoder import DecoderConfig, check_decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.lottery import Lottery
from clnet.model.plan import Plan
from clnet.model.ticket import read_ticket
from clnet.platform.choices import decoder_config, pruning_schedule, taught_to
from clnet.platform.continuing import labels_known, older_version
from clnet.platform.jobs import DecoderJob
from clnet.tune_spaces.rewinding import rewind_to

__all__ = ["check_job"]


def check_job(job: DecoderJob, registry: Registry, catalog: Catalog) -> None:
    """What can be said against a job without reading its data.

    Raises:
        NotFound: something it names is not there.
        InputError: no label of its datasets teaches its anatomies, or a network or patch size that
            cannot be.
        Incompatible: parts that were not made for each other, or data that was withdrawn,
            its own or what went into something that it goes on from.
    """
    if job.base is None:
        default_stratification()[job.decoder]
    encoder = registry.encoder(job.encoder)
    network = EncoderConfig.from_dict(encoder.config)
    network.check_patch(job.patch_size or Plan.from_dict(encoder.plan).patch_size)
    registry.check_source(encoder.ref, "encoder")
    registry.check_source(job.body_part_model, "body_part_model")
    datasets = [catalog.get(ref) for ref in job.dataset]
    for dataset in datasets:
        registry.check_usable(dataset.ref)
    for ref in filter(None, (*job.supporters, job.base, job.start)):
        decoder = registry.decoder(ref)
        if decoder.encoder_sha256 != encoder.sha256:
            raise Incompatible(
                f"{ref} was trained on {decoder.encoder_ref}, the job asks for {encoder.ref}"
            )
        registry.check_source(ref, "decoder")
        if ref == job.base:
            if decoder.group != job.decoder:
                raise Incompatible(f"{ref} is no version of {job.decoder}")
            _check_trainable(decoder)
            if job.kind == "prune":
                rewind_to(job.rewind, decoder, registry)
                _check_cuts(job, decoder, registry)
    # what the cases may know; which of it the training cases show, their voxels tell later
    labels = {use.members: use.cases for dataset in datasets for use in dataset.labels}
    if job.base is None:
        older = older_version(job, registry)
        supporters = [registry.decoder(ref) for ref in job.supporters]
        config = decoder_config(job, encoder, {**labels_known(older), **labels}, older, supporters)
        check_decoder(config, network)
        taught_to(job, config.channels, labels)
    else:
        base = registry.decoder(job.base)
        taught_to(job, DecoderConfig.from_dict(base.config).channels, labels)


def _check_trainable(base: DecoderRecord) -> None:
    """Imported decoders may be what the label contract's loss does not describe."""
    config = DecoderConfig.from_dict(base.config)
    if config.regions:
        raise Incompatible(
            f"{base.ref} was trained on regions that lie over each other, which no loss here "
            "teaches: it is served as imported, and can be neither pruned nor updated"
        )
    layers = sorted({vocabulary()[m].layer for c in config.channels for m in c.members})
    if len(layers) > 1:
        raise Incompatible(
            f"{base.ref} segments anatomies of {len(layers)} layers ({', '.join(layers)}) in one "
            "softmax, which labels of one layer cannot teach: it is served as imported, and can be "
            "neither pruned nor updated"
        )


def _check_cuts(job: DecoderJob, base: DecoderRecord, registry: Registry) -> None:
    """What was pruned already is pruned further: only its weights tell which rates do that."""
    schedule = pruning_schedule(job, base)
    if base.ticket is None:
        return
    decoder, _ = decode_decoder(registry.artefact(base.sha256))
    lottery = Lottery(schedule, decoder.state_dict(), read_ticket(decoder))
    if lottery.draw(decoder) is None:
        raise InputError(
            f"prune {base.ref}: {base.ticket.sparsity:.1%} of its weights are cut already, and a "
            f"rate of {max(schedule.rates)} would cut nothing more; give a higher one, or prune "
            "its dense version"
        )
