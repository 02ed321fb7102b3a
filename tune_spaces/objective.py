"""One trial: fork the dense checkpoint, cut, recover, and say how good the decoder still is.

Trials call the training directly: a Ray Train run within a trial costs seconds and can wait
for CPUs that the trials hold.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from ray import tune

from clnet.data_catalog import Catalog, ReadAhead
from clnet.model.artefact import DecoderInfo, decode_decoder, decode_encoder, encode_decoder
from clnet.model.calibration import calibrate
from clnet.model.compaction import compact_measured
from clnet.model.decoder import Decoder
from clnet.model.encoder import Encoder
from clnet.model.numerics import Precision
from clnet.model.supporters import load_supporters
from clnet.model.survivors import round_to_float16
from clnet.model.ticket import Scope
from clnet.model.training import FeatureCache, Trainee, train_pack
from clnet.model.validation import Judged, mean_score, validate
from clnet.tune_spaces.recovery import cut_and_rewind
from clnet.tune_spaces.subject import Subject, open_stream

__all__ = ["PruningTrial", "artefact_path", "merit"]

CACHE_BYTES = 1 << 30


def merit(rate: float, dsc: float, dense_dsc: float, tolerance: float) -> float:
    """What the scheduler ranks by: above 0 and growing with the rate if the DSC holds, else
    how much too low it is."""
    short = dsc - (dense_dsc - tolerance)
    return rate if short >= 0 else short


def artefact_path(folder: str, ref: str, rate: float, scope: str) -> Path:
    """Where a finished trial leaves its decoder."""
    return Path(folder) / f"{ref.replace('/', '-')}-{scope}-{rate:.4f}.safetensors"


class PruningTrial(tune.Trainable):
    """A trial; its actor is used again for the next one, with the features it has kept."""

    def setup(  # type: ignore[override]  # tune.with_parameters adds the others
        self,
        config: dict[str, Any],
        subjects: dict[str, Subject],
        catalog: Catalog,
        reports: int,
        tolerance: float,
        folder: str,
    ) -> None:
        """Take what all trials share, then begin the first."""
        torch.set_num_threads(1)
        self._subjects, self._reports, self._tolerance = subjects, reports, tolerance
        self._catalog = catalog
        self._folder = folder
        self._kept: dict[str, tuple[Encoder, Any, Any, FeatureCache, FeatureCache]] = {}
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this actor."""
        self._rate = float(new_config["trial"]["rate"])
        self._scope: Scope = new_config["trial"]["scope"]
        self._subject = self._subjects[new_config["trial"]["ref"]]
        encoder, _, _, _, _ = self._shared()
        decoder, self._info = decode_decoder(self._subject.decoder)
        early = self._subject.early and decode_decoder(self._subject.early)[0].state_dict()
        ticket = cut_and_rewind(decoder, self._rate, early or None, self._scope)
        self._trainee = Trainee(
            self._subject.ref,
            decoder.to(encoder.device),
            self._subject.recipe,
            ticket=ticket,
            supporters=load_supporters(
                decoder.config, self._subject.supporters.__getitem__, encoder.device
            ),
        )
        self._t = 0
        return True

    def step(self) -> dict[str, Any]:
        """Recover up to the next report, and validate."""
        encoder, stream, _, cache, _ = self._shared()
        steps = self._subject.recipe.steps
        precision = cast(Precision, self._subject.precision)
        last = max(self._t + 1, round(steps * (self.iteration + 1) / self._reports))
        with ReadAhead(stream.patches, min(last, steps)) as patches:
            train_pack(
                encoder,
                [self._trainee],
                patches,
                first=self._t,
                last=min(last, steps),
                precision=precision,
                augment_seed=stream.spec.seed if stream.spec.augment else None,
                cache=cache,
            )
        self._t = min(last, steps)
        if self._trainee.diverged:
            return self._report({}, 0.0, finished=False) | {"done": True}
        finished = self._t == steps
        decoder = self._trainee.finish() if finished else self._trainee.snapshot()
        if self._subject.float16:
            round_to_float16(decoder)
        by_anatomy = self._scores(decoder)
        told = self._report(by_anatomy, mean_score(by_anatomy), finished=finished)
        if finished:
            told["calibration"] = self._calibration(decoder, precision)
            info = replace(self._info, temperature=told["calibration"]["temperature"])
            patch = stream.spec.patch_size
            told["compacted"] = self._leave(decoder, info, encoder, patch, precision)
        return told

    def _scores(self, decoder: Decoder) -> dict[str, float]:
        """Validation Dice by anatomy."""
        encoder, _, validation, _, kept = self._shared()
        return validate(
            encoder,
            {"trial": Judged(decoder, self._trainee.supporters)},
            validation.patches,
            validation.spec.total,
            precision=cast(Precision, self._subject.precision),
            cache=kept,
        )["trial"]

    def _calibration(self, decoder: Decoder, precision: Precision) -> dict[str, Any]:
        """As a job does it: from held-out cases, or the dense version's temperature."""
        encoder, _, validation, _, kept = self._shared()
        judged = {"trial": Judged(decoder, self._trainee.supporters)}
        spec = validation.spec
        if spec.split == "val":
            fitted = calibrate(
                encoder, judged, validation.patches, spec.total, precision=precision, cache=kept
            )
            if fitted:
                return fitted["trial"].to_dict()
        return {"temperature": self._info.temperature}

    def _report(
        self, by_anatomy: dict[str, float], dsc: float, *, finished: bool
    ) -> dict[str, Any]:
        ticket = self._trainee.ticket
        return {
            "ref": self._subject.ref,
            "rate": self._rate,
            "scope": self._scope,
            "dsc": dsc,
            "by_anatomy": by_anatomy,
            "calibration": {},
            "merit": merit(self._rate, dsc, self._subject.dense_dsc, self._tolerance),
            "sparsity": ticket.sparsity if ticket else 0.0,
            "mask_sha256": ticket.sha256 if ticket else "",
            "finished": finished,
            "done": finished,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial that is lost begins again."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: see :meth:`save_checkpoint`."""

    def _leave(
        self,
        decoder: Decoder,
        info: DecoderInfo,
        encoder: Encoder,
        patch_size: tuple[int, int, int],
        precision: Precision,
    ) -> dict[str, Any]:
        """Leave the decoder, without the channels that were cut; returns what compaction made."""
        compacted: dict[str, Any] = {}
        if self._scope == "channel":
            decoder, lanes = compact_measured(decoder, encoder.config, patch_size, precision)
            compacted = {"widths": list(decoder.config.widths), "lanes": lanes}
        info = replace(info, config=decoder.config)
        target = artefact_path(self._folder, self._subject.ref, self._rate, self._scope)
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
            file.write(encode_decoder(decoder.cpu(), info))
        Path(file.name).replace(target)
        return compacted

    def _shared(self) -> tuple[Encoder, Any, Any, FeatureCache, FeatureCache]:
        subject = self._subject
        if subject.ref not in self._kept:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            encoder = decode_encoder(subject.encoder)[0].to(device)
            stream = open_stream(self._catalog, subject.stream, subject.plan)
            validation = open_stream(self._catalog, subject.validation, subject.plan)
            cache = FeatureCache(stream.spec.period or subject.recipe.steps, CACHE_BYTES)
            kept = FeatureCache(validation.spec.total, CACHE_BYTES // 4)
            self._kept = {subject.ref: (encoder, stream, validation, cache, kept)}
        return self._kept[subject.ref]
