"""The catalog: datasets are contributed to it, and erased from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clnet.anatomy.mapping import LabelMapping, load_mapping
from clnet.data_catalog.bundles import BundleReader, take_bundle
from clnet.data_catalog.bundles.manifest import BundleManifest
from clnet.data_catalog.case_work import CaseWork, Execute, one_by_one
from clnet.data_catalog.dataset import Dataset
from clnet.data_catalog.intake import Intake, take_in
from clnet.data_catalog.manifest import CaseRecord, Manifest, parse_name
from clnet.data_catalog.plan_store import forget
from clnet.data_catalog.quota import Allowance, Room, check_room
from clnet.data_catalog.reading import Progress, Reading
from clnet.data_catalog.recipe import Recipe
from clnet.data_catalog.shelf import NewVersion
from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.sources import SourceFolder, meanings_of, open_source
from clnet.data_catalog.staging import Staging
from clnet.data_catalog.terms import Terms
from clnet.data_catalog.validation import (
    Finding,
    IntakeRules,
    Judgement,
    KnownScan,
    cross_site,
)
from clnet.data_catalog.withdrawn import WithdrawnScan, withdrawn_scans
from clnet.errors import (
    AlreadyExists,
    ContractError,
    InputError,
    IntegrityError,
    QuotaExceeded,
)
from clnet.storage import exclusive, sweep_temporaries

__all__ = ["Catalog"]

LOCK = ".lock"
STAGING = ".staging"


class Catalog(Reading):
    """Versioned, immutable datasets in a folder or an object store; arguments as of its base."""

    def contribute(
        self,
        name: str,
        cases: Sequence[CaseSource],
        mapping: Mapping[str, Any] | Path | LabelMapping,
        terms: Terms,
        progress: Progress | None = None,
        *,
        rules: IntakeRules | None = None,
        tell: Callable[[Judgement], None] | None = None,
        seen: Sequence[Finding] = (),
        allowance: Allowance | None = None,
        withdrawn: Mapping[str, str] | None = None,
        execute: Execute | None = None,
    ) -> Dataset:
        """Store a new version of dataset `name` from the cases that pass validation.

        The others are quarantined: not stored, but listed in the version's report. Killed at
        any moment, the catalog is the old one or the new one; contributing the same again goes
        on after the last finished case. Content that some version has already gives that version.

        Args:
            name: ``site/name``.
            mapping: source label to meaning, see :func:`clnet.anatomy.load_mapping`.
            progress: called with a fraction and the id of the case just judged.
            rules: how strictly to judge.
            tell: given the report, whether the contribution is stored or refused.
            seen: findings about the source; of an error the case, none of `cases`, is listed as
                quarantined.
            allowance: what the site may keep; no limit by default.
            withdrawn: why versions were withdrawn, by ref. Scans that only such hold are at
                fault unless `rules` accept them, and no such version is given again.
            execute: judges and keeps the cases; one by one in this process by default.

        Raises:
            CaseRejected: one case at fault refuses it all (it is the only one, or `rules` are
                strict): file, field, reason.
            ContributionRefused: several do.
            UnknownAnatomy: the mapping names an anatomy that the vocabulary does not know.
            InputError: a malformed name or mapping, or no case.
            QuotaExceeded: the site would keep more than `allowance`.
        """
        meanings = self._meanings(name, mapping)
        folder = self.root / name
        with exclusive(folder / LOCK):
            sweep_temporaries(folder)
            staging = self._staging(name, allowance)
            known, gone = self._known_scans(name), self._withdrawn_scans(name, withdrawn)
            try:
                work = CaseWork(
                    meanings,
                    rules or IntakeRules(),
                    self.max_bytes,
                    staging.folder,
                    staging.earlier,
                )
                intake = take_in(
                    name, cases, work, known, gone, staging, self._by(execute), progress, seen
                )
                if intake.refused:
                    _tell(tell, intake.judgement(None))
                    raise intake.refusal
            except InputError:
                staging.clear()
                raise
            records = [record for record, _ in intake.records]
            try:
                dataset, judgement = self._next(
                    name, records, terms, intake, known, allowance, withdrawn or {}, progress
                )
            except QuotaExceeded:
                staging.clear()
                raise
            staging.clear()
        _tell(tell, judgement)
        return dataset

    def import_bundle(
        self,
        bundle: BundleReader,
        progress: Progress | None = None,
        *,
        accept: frozenset[str] = frozenset(),
        tell: Callable[[Judgement], None] | None = None,
        allowance: Allowance | None = None,
        withdrawn: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Store the version that a bundle holds, under the same name, version and hash.

        Every case is judged as in :meth:`contribute`, and one at fault refuses it all, as the
        version would not be the one that was signed. What is here already is left as it is.

        Args:
            accept: codes of errors that are overruled.
            tell: given the report, whether the bundle is stored or refused.
            allowance: what the site may keep; no limit by default.
            withdrawn: as in :meth:`contribute`.

        Raises:
            CaseRejected, ContributionRefused: cases at fault.
            IntegrityError: voxels that are not those that were signed.
            AlreadyExists: the version is here with other content, or was erased.
            QuotaExceeded: the site would keep more than `allowance`.
        """
        said = bundle.manifest
        folder, rules = self.root / said.name, IntakeRules(strict=True, accept=accept)
        with exclusive(folder / LOCK):
            sweep_temporaries(folder)
            if said.version in self._shelf.versions(said.name):
                return self._same(said)
            staging = self._staging(said.name, allowance)
            known, gone = self._known_scans(said.name), self._withdrawn_scans(said.name, withdrawn)
            try:
                intake = take_bundle(bundle, rules, known, gone, self.max_bytes, staging, progress)
                judgement = intake.judgement(None if intake.refused else said.ref)
                if intake.refused:
                    _tell(tell, judgement)
                    raise intake.refusal
                records = [record for record, _ in intake.records]
                manifest = Manifest.of(said.name, said.version, records, said.terms)
                assert manifest.sha256 == said.sha256, "every case was compared with its record"
                dataset = self._publish(manifest, intake, judgement, known, allowance, progress)
            except (InputError, IntegrityError):
                staging.clear()
                raise
            staging.clear()
        _tell(tell, judgement)
        return dataset

    def validate_bundle(
        self,
        bundle: BundleReader,
        progress: Progress | None = None,
        accept: frozenset[str] = frozenset(),
        withdrawn: Mapping[str, str] | None = None,
    ) -> Judgement:
        """Judge a bundle as :meth:`import_bundle` would, and store nothing.

        Raises:
            IntegrityError: voxels that are not those that were signed.
            AlreadyExists: the version is here with other content, or was erased.
        """
        said, rules = bundle.manifest, IntakeRules(strict=True, accept=accept)
        if said.version in self._shelf.versions(said.name):
            self._same(said)
        known, gone = self._known_scans(said.name), self._withdrawn_scans(said.name, withdrawn)
        intake = take_bundle(bundle, rules, known, gone, self.max_bytes, None, progress)
        return intake.judgement(None)

    def _same(self, said: BundleManifest) -> Dataset:
        dataset = self.get(said.ref)
        if dataset.sha256 != said.sha256:
            raise AlreadyExists(
                f"{said.ref} is here with other content; versions never change, so give it "
                "the next one"
            )
        if dataset.erased:
            raise AlreadyExists(f"{said.ref} was withdrawn and erased here, and stays so")
        return dataset

    def _staging(self, name: str, allowance: Allowance | None) -> Staging:
        """Finished cases of the dataset; more than the site may keep are not taken in."""
        site, room = name.partition("/")[0], None
        if allowance is not None and allowance != Allowance():
            room = Room(site, allowance, self._of_site(site))
        earlier = (self._shelf.open(name, version) for version in self._shelf.versions(name))
        return Staging(self.root / name / STAGING, earlier, room)

    def _next(
        self,
        name: str,
        records: Sequence[CaseRecord],
        terms: Terms,
        intake: Intake,
        known: Mapping[str, Sequence[KnownScan]],
        allowance: Allowance | None,
        withdrawn: Mapping[str, str],
        progress: Progress | None,
    ) -> tuple[Dataset, Judgement]:
        """The version that holds these cases: one that is there and usable, or the next."""
        while True:
            version = max(self._shelf.versions(name), default=0) + 1
            manifest = Manifest.of(name, version, records, terms)
            found = self._find(name, manifest.sha256, withdrawn)
            judgement = intake.judgement(found.ref if found else f"{name}@{version}")
            if found is not None:
                return found, judgement
            try:
                made = self._publish(manifest, intake, judgement, known, allowance, progress)
            except AlreadyExists:  # another machine published that version meanwhile
                if version not in self._shelf.versions(name):
                    raise
                continue
            return made, judgement

    def _publish(
        self,
        manifest: Manifest,
        intake: Intake,
        judgement: Judgement,
        known: Mapping[str, Sequence[KnownScan]],
        allowance: Allowance | None,
        progress: Progress | None,
    ) -> Dataset:
        """Make a version of the cases that were taken in."""
        site = manifest.name.partition("/")[0]

        def check(version: Path) -> None:
            if allowance is not None:
                check_room(site, self._of_site(site), allowance, version, manifest.cases)

        with exclusive(self.root / site / LOCK):
            return self._shelf.publish(
                NewVersion(
                    manifest,
                    intake.kept,
                    judgement.report,
                    cross_site(site, manifest.cases, known),
                    check,
                    progress,
                )
            )

    def validate(
        self,
        name: str,
        cases: Sequence[CaseSource],
        mapping: Mapping[str, Any] | Path | LabelMapping,
        progress: Progress | None = None,
        rules: IntakeRules | None = None,
        seen: Sequence[Finding] = (),
        withdrawn: Mapping[str, str] | None = None,
        execute: Execute | None = None,
    ) -> Judgement:
        """Judge a contribution as :meth:`contribute` would, and store nothing.

        Raises:
            UnknownAnatomy: the mapping names an anatomy that the vocabulary does not know.
            InputError: a malformed name or mapping, or no case.
        """
        meanings = self._meanings(name, mapping)
        work = CaseWork(meanings, rules or IntakeRules(), self.max_bytes)
        known, gone = self._known_scans(name), self._withdrawn_scans(name, withdrawn)
        return take_in(
            name, cases, work, known, gone, None, self._by(execute), progress, seen
        ).judgement(None)

    def erase(self, ref: str) -> None:
        """Remove the voxels of a version and what was planned from them; the manifest stays.

        What other versions hold of the same content is theirs and stays. Erasing again, or
        after a crash, finishes the work.

        Raises:
            NotFound: no such version.
        """
        dataset = self.get(ref)
        with exclusive(self.root / dataset.name / LOCK):
            Staging(self.root / dataset.name / STAGING, ()).clear()
            self._shelf.erase(dataset)
            others = {
                record.sha256
                for other in self.list()
                if not other.erased
                for record in other.manifest.cases
            }
            forget(self.plans, {r.sha256 for r in dataset.manifest.cases} - others)

    def _by(self, execute: Execute | None) -> Execute:
        return one_by_one(self.allocate) if execute is None else execute

    def _meanings(
        self, name: str, mapping: Mapping[str, Any] | Path | LabelMapping
    ) -> LabelMapping:
        parse_name(name)
        meanings = mapping if isinstance(mapping, LabelMapping) else load_mapping(mapping)
        if not meanings.anatomies:
            raise ContractError(f"mapping of {name}: every label is ignored; name an anatomy")
        return meanings

    def _known_scans(self, name: str) -> dict[str, list[KnownScan]]:
        """Scans of the other datasets, by the hash of their voxels."""
        known: dict[str, list[KnownScan]] = {}
        for dataset in self.list():
            if dataset.name != name and not dataset.erased:
                for record in dataset.manifest.cases:
                    scan = KnownScan(dataset.ref, record.id)
                    known.setdefault(record.arrays["ct"], []).append(scan)
        return known

    def _withdrawn_scans(
        self, name: str, withdrawn: Mapping[str, str] | None
    ) -> dict[str, WithdrawnScan]:
        """Scans of the dataset's site that came to be withdrawn, by the hash of their voxels."""
        if not withdrawn:
            return {}
        return withdrawn_scans(self._of_site(name.partition("/")[0]), withdrawn)

    def contribute_folder(
        self,
        name: str,
        source: Path,
        mapping: Mapping[str, Any] | Path | None = None,
        terms: Terms | None = None,
        progress: Progress | None = None,
        *,
        format: str | None = None,
        recipe: Recipe | None = None,
        rules: IntakeRules | None = None,
        tell: Callable[[Judgement], None] | None = None,
        allowance: Allowance | None = None,
        withdrawn: Mapping[str, str] | None = None,
        execute: Execute | None = None,
    ) -> Dataset:
        """:meth:`contribute` what a folder holds.

        Args:
            mapping: by default the recipe's, or the names in the source where the vocabulary
                knows them.
            terms: by default the recipe's.
            format: how the folder is laid out; recognised by default.
            recipe: of the public dataset that the folder is a copy of.

        Raises:
            InputError: the folder is not recognised, or neither terms nor a recipe are given.
        """
        opened, meanings = _open_folder(name, Path(source), mapping, format, recipe)
        if terms is None:
            if recipe is None:
                raise InputError(f"{name}: say on what terms it is given: a licence, or a recipe")
            terms = recipe.terms
        return self.contribute(
            name,
            opened.cases,
            meanings,
            terms,
            progress,
            rules=rules,
            tell=tell,
            seen=opened.findings,
            allowance=allowance,
            withdrawn=withdrawn,
            execute=execute,
        )

    def validate_folder(
        self,
        name: str,
        source: Path,
        mapping: Mapping[str, Any] | Path | None = None,
        progress: Progress | None = None,
        *,
        format: str | None = None,
        recipe: Recipe | None = None,
        rules: IntakeRules | None = None,
        withdrawn: Mapping[str, str] | None = None,
        execute: Execute | None = None,
    ) -> Judgement:
        """:meth:`validate` what a folder holds, see :meth:`contribute_folder`."""
        opened, meanings = _open_folder(name, Path(source), mapping, format, recipe)
        return self.validate(
            name, opened.cases, meanings, progress, rules, opened.findings, withdrawn, execute
        )

    def _find(self, name: str, sha256: str, withdrawn: Mapping[str, str]) -> Dataset | None:
        versions = (self._shelf.open(name, version) for version in self._shelf.versions(name))
        usable = (one for one in versions if not one.erased and one.ref not in withdrawn)
        return next((dataset for dataset in usable if dataset.sha256 == sha256), None)


def _tell(tell: Callable[[Judgement], None] | None, judgement: Judgement) -> None:
    if tell is not None:
        tell(judgement)


def _open_folder(
    name: str,
    folder: Path,
    mapping: Mapping[str, Any] | Path | None,
    format: str | None,
    recipe: Recipe | None,
) -> tuple[SourceFolder, LabelMapping]:
    """The cases of a folder, and what their labels mean."""
    parse_name(name)
    opened = recipe.open(folder, format) if recipe else open_source(folder, format)
    if mapping is None and recipe is not None:
        return opened, meanings_of(opened, recipe.meanings)
    return opened, meanings_of(opened, mapping)
