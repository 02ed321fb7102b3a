"""The certificate that a release forgets nothing: probes are made, kept, and asked again.

Every decoder version of a release answers to a phantom once, when the first release carries it
(:func:`certify`). Whoever holds the release later can ask again (:func:`verify_release`): the
same numerics class gives the same bits, another one the same logits to a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from clnet.decoders_registry import (
    DecoderRecord,
    Fault,
    Registry,
    ReleaseDiff,
    ReleaseRecord,
    VerifyReport,
)
from clnet.errors import Incompatible, IntegrityError, NotFound

if TYPE_CHECKING:
    from clnet.model.probe import ProbedNetworks

__all__ = ["Certificate", "DecoderCheck", "certify", "verify_release"]

Progress = Callable[[float, str], None]
CheckedBy = Literal["output hash", "stored logits", "artefact hash"]
Verdict = Literal["identical", "within tolerance", "no probe", "changed", "not computed"]

NOT_READ = VerifyReport(checked=0, total_bytes=0, faults=(), orphans=())
PASSED: frozenset[Verdict] = frozenset({"identical", "within tolerance"})


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DecoderCheck(_Frozen):
    """What is known of one decoder version.

    Attributes:
        verdict: of its probe; ``no probe`` where none travels with it.
        checked_by: what was compared; the artefact's hash always was.
        difference: of stored logits, root mean square in units of their spread.
        detail: in words.
        numerics: class that the probe was made in.
    """

    ref: str
    sha256: str
    verdict: Verdict
    checked_by: CheckedBy
    difference: float | None = None
    detail: str = ""
    numerics: dict[str, str] = {}

    @property
    def ok(self) -> bool:
        """Whether it answers as it did. Without a probe that is not known."""
        return self.verdict in PASSED


class Certificate(_Frozen):
    """What verifying a release found.

    Attributes:
        artefacts: how many were read and hashed, probes among them; none if the release's own
            record was changed, as it is not known which they are.
        whole: how many of them are there and undamaged.
        total_bytes: their size.
        faults: missing or damaged ones, and records that were changed, the older release's too.
        decoders: served ones and supporters.
        without_probe: decoder versions of which the hash alone could be checked.
        against: what changed since the older release that was asked for.
        shared: decoder versions of both: the same artefacts, so the same logits.
    """

    release: str
    sha256: str
    artefacts: int
    whole: int
    total_bytes: int
    faults: tuple[Fault, ...]
    decoders: tuple[DecoderCheck, ...]
    without_probe: tuple[str, ...]
    against: ReleaseDiff | None = None
    shared: tuple[str, ...] = ()

    @property
    def removed(self) -> tuple[str, ...]:
        """Decoder versions of groups that the older release serves and this one does not."""
        return () if self.against is None else self.against.removed

    @property
    def ok(self) -> bool:
        """Whether every artefact and record is whole, every decoder answers its probe as it did,
        and no group of the older release is missing."""
        return not self.faults and not self.removed and all(check.ok for check in self.decoders)


def certify(registry: Registry, release: ReleaseRecord, progress: Progress | None = None) -> None:
    """Let every decoder version of `release` that has no probe yet answer to its phantom.

    Raises:
        NotFound, IntegrityError: an artefact is missing or damaged.
    """
    waiting = [decoder for decoder in _members(release) if decoder.probe_sha256 is None]
    if not waiting:
        return
    from clnet.model.probe import encode_probe, make_probe

    networks = _networks(registry, release, _members(release), device="")
    for done, decoder in enumerate(waiting, start=1):
        registry.add_probe(decoder.ref, encode_probe(make_probe(networks, decoder.sha256)))
        if progress is not None:
            progress(done / len(waiting), f"probe of {decoder.ref}")


def verify_release(
    registry: Registry,
    name: str,
    against: str | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Check that a release is what it was.

    Args:
        registry: where it is.
        name: of the release.
        against: an older release; tells what both share and what changed. Its record must be
            whole, as one that lost a decoder would hide that the newer one lost it too.
        progress: told the fraction done and the decoder asked.

    Raises:
        NotFound: no such release.
    """
    release = registry.release(name)
    older = None if against is None else registry.diff(against, name)
    records = [_fault_of_record(registry, r) for r in (name, against) if r is not None]
    changed = tuple(fault for fault in records if fault is not None)
    report = NOT_READ if records[0] is not None else registry.verify_release(name)
    checks = _ask(registry, release, report.faults, progress)
    return Certificate(
        release=release.name,
        sha256=release.sha256,
        artefacts=report.checked,
        whole=report.checked - len(report.faults),
        total_bytes=report.total_bytes,
        faults=(*changed, *report.faults),
        decoders=checks,
        without_probe=tuple(check.ref for check in checks if check.verdict == "no probe"),
        against=older,
        shared=older.kept if older is not None else (),
    )


def _fault_of_record(registry: Registry, name: str) -> Fault | None:
    try:
        registry.check_release(name)
    except IntegrityError as error:
        return Fault(sha256=registry.release(name).sha256, refs=(name,), reason=str(error))
    return None


def _ask(
    registry: Registry,
    release: ReleaseRecord,
    faults: Sequence[Fault],
    progress: Progress | None,
) -> tuple[DecoderCheck, ...]:
    members = _members(release)
    broken = {fault.sha256: fault.reason for fault in faults}
    foundation = broken.get(release.encoder_sha256)
    sound = [decoder for decoder in members if decoder.sha256 not in broken]
    networks: dict[str, ProbedNetworks] = {}  # by device: a child may be probed on another
    checks = []
    for done, decoder in enumerate(members, start=1):
        damage = foundation or broken.get(decoder.sha256) or broken.get(decoder.probe_sha256 or "")
        if damage:
            checks.append(_check(decoder, "not computed", "artefact hash", damage))
        elif decoder.probe_sha256 is None:
            told = "no probe travels with it, so what it answers is not known"
            checks.append(_check(decoder, "no probe", "artefact hash", told))
        else:
            device = _device_of(registry, decoder)
            if device not in networks:
                networks[device] = _networks(registry, release, sound, device)
            checks.append(_answer(registry, decoder, networks[device]))
        if progress is not None:
            progress(done / len(members), decoder.ref)
    return tuple(checks)


def _answer(registry: Registry, decoder: DecoderRecord, networks: ProbedNetworks) -> DecoderCheck:
    from clnet.model.probe import compare, decode_probe

    assert decoder.probe_sha256 is not None
    try:
        probe = decode_probe(registry.artefact(decoder.probe_sha256))
        if probe.decoder_sha256 != decoder.sha256:
            raise IntegrityError(f"its probe is of decoder {probe.decoder_sha256[:12]}")
        answer = compare(probe, networks)
    except (IntegrityError, Incompatible) as error:
        return _check(decoder, "not computed", "artefact hash", str(error))
    return DecoderCheck(
        ref=decoder.ref,
        sha256=decoder.sha256,
        verdict=answer.outcome,
        checked_by=(
            "output hash" if answer.same_class or answer.outcome == "identical" else "stored logits"
        ),
        difference=answer.difference,
        detail=answer.detail,
        numerics=probe.numerics,
    )


def _check(
    decoder: DecoderRecord, verdict: Verdict, checked_by: CheckedBy, detail: str
) -> DecoderCheck:
    return DecoderCheck(
        ref=decoder.ref,
        sha256=decoder.sha256,
        verdict=verdict,
        checked_by=checked_by,
        detail=detail,
    )


def _members(release: ReleaseRecord) -> list[DecoderRecord]:
    return [*release.decoders, *release.supporters]


def _device_of(registry: Registry, decoder: DecoderRecord) -> str:
    """``cpu`` where the probe was made on one, else whatever is fastest here."""
    from clnet.model.probe import decode_probe

    assert decoder.probe_sha256 is not None
    try:
        probe = decode_probe(registry.artefact(decoder.probe_sha256))
    except (IntegrityError, NotFound, Incompatible):
        return ""
    return "cpu" if probe.numerics.get("device", "").startswith("cpu") else ""


def _networks(
    registry: Registry, release: ReleaseRecord, decoders: Sequence[DecoderRecord], device: str
) -> ProbedNetworks:
    import torch

    from clnet.model.artefact import decode_decoder, decode_encoder
    from clnet.model.probe import ProbedNetworks

    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoder, plan = decode_encoder(registry.artefact(release.encoder_sha256))
    loaded = {}
    for record in decoders:
        decoder, info = decode_decoder(registry.artefact(record.sha256))
        if info.encoder_sha256 != release.encoder_sha256:
            raise Incompatible(
                f"decoder {record.ref}: its artefact names another encoder than the release"
            )
        loaded[record.sha256] = (decoder.to(where), info)
    return ProbedNetworks(encoder.to(where), plan, release.encoder_sha256, loaded)
